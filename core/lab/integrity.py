"""Hashes of files that must not change during a session: the pristine code, the data and the scorer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

_Stamp = tuple[int, int, int]  # size, ctime in nanoseconds (unlike mtime, no process can set it), inode


class Seal:
    """Hashes of a set of files, and of all files below a folder except `.git`.

    A file whose size, inode and ctime are unchanged is not read again. Runs have no access to these files in their
    sandbox; the seal detects changes by other programs, such as a formatter in an editor.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._roots = tuple(paths)
        self._states = {path: _state(path) for path in _files(self._roots)}

    @property
    def digest(self) -> str:
        """One SHA-256 over all files, for a certificate."""
        whole = hashlib.sha256()
        for path in sorted(self._states):
            whole.update(os.fsencode(path.name) + b"\0" + self._states[path][1].encode() + b"\n")
        return whole.hexdigest()

    def broken(self) -> str | None:
        """A sentence that names the first changed file; None while all are unchanged."""
        now = set(_files(self._roots))
        for path in sorted(now - self._states.keys()):
            return f"{path} was added"
        for path, (stamp, digest) in self._states.items():
            if path not in now:
                return f"{path} was removed"
            try:
                if _stamp(path) == stamp:
                    continue
                fresh = _state(path)
            except OSError as error:
                return f"{path} can no longer be read ({error.strerror})"
            if fresh[1] != digest:
                return f"{path} was changed"
            self._states[path] = fresh  # same content
        return None


def _files(roots: Iterable[Path]) -> Iterable[Path]:
    for root in roots:
        if root.is_dir():
            for folder, folders, names in os.walk(root):
                folders[:] = [name for name in folders if name not in (".git", "__pycache__")]
                yield from (Path(folder, name) for name in names if name != ".git")
        elif root.exists():
            yield root


def _state(path: Path) -> tuple[_Stamp, str]:
    """Stamp and SHA-256 of a file, or of a link's target path."""
    if path.is_symlink():
        digest = hashlib.sha256(os.fsencode(path.readlink()))
    else:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    return _stamp(path), digest.hexdigest()


def _stamp(path: Path) -> _Stamp:
    """Of the file, or of a link itself when its target does not exist. Raises OSError."""
    info = path.stat() if path.exists() else path.lstat()
    return info.st_size, info.st_ctime_ns, info.st_ino
