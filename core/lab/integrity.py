"""Hashes of files that must not change during a session: the pristine code, the data and the scorer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

_Stamp = tuple[int, int, int]  # size, ctime in nanoseconds (unlike mtime, no process can set it), inode


class Seal:
    """Hashes of a set of files, and of all files below a folder except `.git`.

    A file whose size, inode and ctime are unchanged is not read again. Runs have no access to these files in their
    sandbox; the seal detects changes by other programs, such as a formatter in an editor.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._roots = tuple(map(os.fspath, paths))
        self._states = {path: _state(path, stamp) for path, stamp in _files(self._roots)}

    @cached_property
    def digest(self) -> str:
        """One SHA-256 over all files as they were first, for a certificate."""
        whole = hashlib.sha256()
        for path in sorted(map(Path, self._states)):
            whole.update(os.fsencode(path.name) + b"\0" + self._states[str(path)][1].encode() + b"\n")
        return whole.hexdigest()

    def broken(self) -> str | None:
        """A sentence that names the first changed file; None while all are unchanged."""
        now = dict(_files(self._roots))
        for path in sorted(now.keys() - self._states.keys()):
            return f"{path} was added"
        for path, (stamp, digest) in self._states.items():
            if path not in now:
                return f"{path} was removed"
            try:
                if now[path] == stamp:
                    continue
                fresh = _state(path, now[path])
            except OSError as error:
                return f"{path} can no longer be read ({error.strerror})"
            if fresh[1] != digest:
                return f"{path} was changed"
            self._states[path] = fresh  # same content
        return None


def _files(roots: Iterable[str]) -> Iterator[tuple[str, _Stamp]]:
    """Path and stamp of each file. A project may have tens of thousands, and they are looked at twice a run."""
    for root in roots:
        if Path(root).is_dir():
            yield from _below(root)
        elif Path(root).exists():
            yield root, _stamp(Path(root).stat())


def _below(folder: str) -> Iterator[tuple[str, _Stamp]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return  # a folder that cannot be read
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in (".git", "__pycache__"):
                yield from _below(entry.path)
        elif entry.name != ".git" and not (entry.is_symlink() and entry.is_dir()):
            try:
                status = entry.stat()
            except OSError:
                status = entry.stat(follow_symlinks=False)  # a link whose target does not exist
            yield entry.path, _stamp(status)


def _state(path: str, stamp: _Stamp) -> tuple[_Stamp, str]:
    """Stamp and SHA-256 of a file, or of a link's target path."""
    if Path(path).is_symlink():
        digest = hashlib.sha256(os.fsencode(Path(path).readlink()))
    else:
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    return stamp, digest.hexdigest()


def _stamp(info: os.stat_result) -> _Stamp:
    return info.st_size, info.st_ctime_ns, info.st_ino
