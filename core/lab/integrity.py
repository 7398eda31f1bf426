"""Hashes of files that must not change during a session: the pristine code, the data and the scorer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from core.evidence.file_hashes import files_below, hash_of_all, state_of


class Seal:
    """Hashes of a set of files, and of all files below a folder except `.git`.

    A file whose size, inode and ctime are unchanged is not read again. Runs have no access to these files in their
    sandbox; the seal detects changes by other programs, such as a formatter in an editor.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._roots = tuple(map(os.fspath, paths))
        self._states = {path: state_of(path, stamp) for path, stamp in files_below(self._roots)}

    @cached_property
    def digest(self) -> str:
        """One SHA-256 over all files as they were first, for a certificate."""
        return hash_of_all({path: digest for path, (_, digest) in self._states.items()})

    def by_root(self) -> dict[Path, str]:
        """One for each of the files and folders that were given, wherever it is (`hash_below`)."""
        found = {}
        for root in map(Path, dict.fromkeys(self._roots)):
            inside = {p: digest for p, (_, digest) in self._states.items() if Path(p).is_relative_to(root)}
            found[root] = hash_of_all(inside, root)
        return found

    def broken(self) -> str | None:
        """A sentence that names the first changed file; None while all are unchanged."""
        now = dict(files_below(self._roots))
        for path in sorted(now.keys() - self._states.keys()):
            return f"{path} was added"
        for path, (stamp, digest) in self._states.items():
            if path not in now:
                return f"{path} was removed"
            try:
                if now[path] == stamp:
                    continue
                fresh = state_of(path, now[path])
            except OSError as error:
                return f"{path} can no longer be read ({error.strerror})"
            if fresh[1] != digest:
                return f"{path} was changed"
            self._states[path] = fresh  # same content
        return None
