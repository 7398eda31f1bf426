"""Free space of the disk, files that no other user reads, and atomic replacement of small files"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from pathlib import Path

_RESERVE_BYTES = 32 * 2**20  # that a run's log and git need
_RESERVE_FILES = 512  # the same, in inodes


def disk_trouble(folder: Path) -> str:
    """Why nothing may be written below `folder` now, or ""."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return ""
    files = min(_RESERVE_FILES, disk.f_files // 20)  # 0 where the file system sets no limit
    if disk.f_favail < files:
        return f"the disk has no room for files (inodes): {disk.f_favail} are free, and {files} are needed to continue"
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    needed = min(_RESERVE_BYTES, total // 20)
    if free >= needed:
        return ""
    return f"the disk is full: {free / 2**20:.1f} MB are free, and {needed / 2**20:.1f} MB are needed to continue"


def private_folder(path: Path) -> None:
    """A folder that no other user of the machine can enter, whatever the umask. One that is there is closed to them,
    and so are its entries, for the day when somebody opens the folder again. Raises OSError.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for place in (path, *path.iterdir()):
        if not place.is_symlink():
            _close_to_others(place)


def keep_private(path: Path, *, create: bool = False) -> None:
    """Let no other user read a file that is there, or that is created empty. Raises OSError."""
    if create:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    if path.exists():
        _close_to_others(path)


def _close_to_others(path: Path) -> None:
    with contextlib.suppress(PermissionError, FileNotFoundError):  # another user's, who decides; removed meanwhile
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            path.chmod(mode & 0o700)


def write_json(path: Path, value: object) -> None:
    """Replace a small JSON file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(value).encode())


def replace_file(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Replace a file atomically: a reader finds the old bytes or the new ones.

    `durable`: also after a crash of the machine. Raises OSError; the file is then unchanged.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            os.fchmod(descriptor, mode)
            if durable:
                handle.flush()
                os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, object]:
    """A small JSON object; empty when the file is missing or invalid, or is a pipe or a device, which may never end."""
    try:
        value = json.loads(path.read_text()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
