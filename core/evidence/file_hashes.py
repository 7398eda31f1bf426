"""Hashes of files and of all files below a folder except `.git` and bytecode, for a seal"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

Stamp = tuple[int, int, int]  # size, ctime in nanoseconds (unlike mtime, no process can set it), inode


def hash_of_all(hashes: Mapping[str, str], root: Path | None = None) -> str:
    """One SHA-256 over the hashes of files with their names, or with their paths below `root`, in order of path."""
    whole = hashlib.sha256()
    for path in sorted(map(Path, hashes)):
        name = path.relative_to(root) if root else path.name
        whole.update(os.fsencode(name) + b"\0" + hashes[str(path)].encode() + b"\n")
    return whole.hexdigest()


def hash_below(root: Path) -> str:
    """The same for a file, or all files below a folder, as they are now. Raises OSError."""
    return hash_of_all({path: state_of(path, stamp)[1] for path, stamp in files_below([str(root)])}, root)


def files_below(roots: Iterable[str]) -> Iterator[tuple[str, Stamp]]:
    """Path and stamp of each file. A project may have tens of thousands, and they are looked at twice a run."""
    for root in roots:
        if Path(root).is_dir():
            yield from _below(root)
        elif Path(root).exists():
            yield root, _stamp(Path(root).stat())


def _below(folder: str) -> Iterator[tuple[str, Stamp]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return  # a folder that cannot be read
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in (".git", "__pycache__"):
                yield from _below(entry.path)
        elif entry.name != ".git" and not (entry.is_symlink() and Path(entry.path).is_dir()):
            try:
                status = entry.stat()
            except OSError:
                status = entry.stat(follow_symlinks=False)  # a link whose target does not exist
            yield entry.path, _stamp(status)


def state_of(path: str, stamp: Stamp) -> tuple[Stamp, str]:
    """Stamp and SHA-256 of a file, or of a link's target path. A pipe or a device, which may never end, is not read."""
    if Path(path).is_symlink():
        digest = hashlib.sha256(os.fsencode(Path(path).readlink()))
    elif not Path(path).is_file():
        digest = hashlib.sha256(b"no file")
    else:
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    return stamp, digest.hexdigest()


def _stamp(info: os.stat_result) -> Stamp:
    return info.st_size, info.st_ctime_ns, info.st_ino
