"""Compile caches (torch inductor, Triton, CUDA): a run has one of its own, begun from what the unchanged code compiled.

What is in such a cache is code that whoever loads it executes, and it has room for more than code: a run that could
leave something there for the next one could train on where the last one stopped. So no run writes what another reads.
Each has a private copy, which goes with it; what it is copied from was compiled by a run of the session's unchanged
code, which is the user's own, and lies where no run can see it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from core.lab.shim.rmtree import remove_tree
from core.session.disk import read_json

NAME = "cache"  # in a run's folder
VARIABLES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton", "CUDA_CACHE_PATH": "cuda"}
LIMIT = 1 << 30  # bytes; to copy more would cost a start more than it saves


def variables(folder: Path) -> dict[str, str]:
    """What tells the compilers that their caches are in `folder`."""
    return {name: str(folder / place) for name, place in VARIABLES.items()}


def begin(folder: Path, seed: Path | None) -> None:
    """Lay out a run's own cache. Raises OSError."""
    if seed is not None and seed.is_dir():
        shutil.copytree(seed, folder, symlinks=True, dirs_exist_ok=True)
    folder.mkdir(exist_ok=True)


class Seeds:
    """What a session's runs begin with, in `folder`; made from the first run of unchanged code that ended well."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offered: list[Path] = []

    def offer(self, run: Path) -> None:
        """A run of unchanged code begins in this folder; its cache is to be left there."""
        self._offered.append(run)

    def seed(self) -> Path | None:
        """What a new run's cache begins with, if there is anything yet."""
        for run in list(self._offered):
            last = read_json(run / "exit.json")
            if not last:
                continue  # it still runs
            self._offered.remove(run)
            cache = run / NAME
            if last.get("ended") == "done" and not self._folder.exists() and 0 < _size(cache) <= LIMIT:
                cache.rename(self._folder)
            else:
                remove_tree(cache)
        return self._folder if self._folder.is_dir() else None


def _size(folder: Path) -> int:
    """Bytes in the files below."""
    return sum(Path(place, name).lstat().st_size for place, _, names in os.walk(folder) for name in names)
