"""Small files replaced as a whole, and whether the disk has space left."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

_DISK_RESERVE = 32 * 2**20  # bytes


def disk_trouble(folder: Path) -> str:
    """Why nothing may be written below `folder` just now, or "": what is left there, a run's log and git need."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return ""
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    needed = min(_DISK_RESERVE, total // 20)
    if free >= needed:
        return ""
    return f"the disk is full: {free / 2**20:.1f} MB are free, and {needed / 2**20:.1f} MB are needed to go on"


def write_json(path: Path, value: object) -> None:
    """Replace a small file, so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(value).encode())


def replace_file(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Put `data` in place of the file as a whole: whoever reads it, finds the old bytes or the new ones.

    `durable`: a crash of the machine too leaves one or the other. Raises OSError; the file then is as it was.
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
    """A small JSON object, or an empty one when the file is missing or broken."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
