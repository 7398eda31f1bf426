"""What must not change while a session runs: the pristine code, the data, the scorer. Hashed, and looked at again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class _Mark:
    """A file as it was: what a look at its inode tells, and its SHA-256."""

    size: int
    changed: int  # of the inode, in nanoseconds: unlike the time of writing, nobody can set it
    inode: int
    digest: str


class Seal:
    """A set of files and what was in them. Folders are taken with all that is below them, `.git` left out.

    A file whose size, inode and time of its last change are as they were is not read again: a run's sandbox cannot
    reach these files at all; the seal is for everybody else, a formatter in an editor included.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._roots = tuple(paths)
        self._marks = {path: _mark(path) for path in _files(self._roots)}

    @property
    def digest(self) -> str:
        """One SHA-256 over all of it, for a certificate."""
        whole = hashlib.sha256()
        for path in sorted(self._marks):
            whole.update(os.fsencode(path.name) + b"\0" + self._marks[path].digest.encode() + b"\n")
        return whole.hexdigest()

    def broken(self) -> str | None:
        """Which file is not what it was, in words; None while all are."""
        now = set(_files(self._roots))
        for path in sorted(now - self._marks.keys()):
            return f"{path} was added"
        for path, mark in self._marks.items():
            if path not in now:
                return f"{path} is gone"
            try:
                info = _info(path)
                if (info.st_size, info.st_ctime_ns, info.st_ino) == (mark.size, mark.changed, mark.inode):
                    continue
                fresh = _mark(path)
            except OSError as error:
                return f"{path} cannot be read any more ({error.strerror})"
            if fresh.digest != mark.digest:
                return f"{path} was changed"
            self._marks[path] = fresh  # touched, and the same
        return None


def _files(roots: Iterable[Path]) -> Iterable[Path]:
    for root in roots:
        if root.is_dir():
            for folder, folders, names in os.walk(root):
                folders[:] = [name for name in folders if name not in (".git", "__pycache__")]
                yield from (Path(folder, name) for name in names if name != ".git")
        elif root.exists():
            yield root


def _mark(path: Path) -> _Mark:
    digest = hashlib.sha256()
    if path.is_symlink():
        digest.update(os.fsencode(path.readlink()))
    else:
        with path.open("rb") as file:
            while piece := file.read(_CHUNK):
                digest.update(piece)
    info = _info(path)
    return _Mark(info.st_size, info.st_ctime_ns, info.st_ino, digest.hexdigest())


def _info(path: Path) -> os.stat_result:
    """Of the file, or of the link itself where it leads nowhere. Raises OSError."""
    return path.stat() if path.exists() else path.lstat()
