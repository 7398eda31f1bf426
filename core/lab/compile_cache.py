"""Compile caches of runs (torch inductor, Triton, CUDA).

A compile cache holds code that its readers execute, and it can hold any other data: a cache that two runs share is a
channel by which one run can pass its weights to the next. So no run writes what another run reads. Each run has a
private copy, which is removed with it. The source of the copies was compiled by a run of the session's unchanged code,
which is the user's own, and lies where no run can read or write it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from core.lab.shim.rmtree import remove_tree
from core.session.disk import read_json

NAME = "cache"  # in a run's folder
_VARIABLES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton", "CUDA_CACHE_PATH": "cuda"}
_MAX_BYTES = 1 << 30  # copying more would cost a start more than it saves


def variables(folder: Path) -> dict[str, str]:
    """Environment variables that place the compilers' caches in `folder`."""
    return {name: str(folder / place) for name, place in _VARIABLES.items()}


def create(folder: Path, source: Path | None) -> None:
    """Create a run's own cache, as a copy of `source` where there is one. Raises OSError."""
    if source is not None and source.is_dir():
        shutil.copytree(source, folder, symlinks=True, dirs_exist_ok=True)
    folder.mkdir(exist_ok=True)


class BaselineCache:
    """Source of all copies, in `folder`; taken from the first run of unchanged code that ends well."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offered: list[Path] = []

    def offer(self, run: Path) -> None:
        """Note a run of unchanged code, by its folder; the cache in it may become the source."""
        self._offered.append(run)

    def path(self) -> Path | None:
        """The source for a new run's cache; None until there is one."""
        for run in list(self._offered):
            if not (result := read_json(run / "exit.json")):
                continue  # it still runs
            self._offered.remove(run)
            cache = run / NAME
            if result.get("ended") == "done" and not self._folder.exists() and 0 < _size(cache) <= _MAX_BYTES:
                cache.rename(self._folder)
            else:
                remove_tree(cache)
        return self._folder if self._folder.is_dir() else None


def _size(folder: Path) -> int:
    """Bytes in all files below."""
    return sum(Path(place, name).lstat().st_size for place, _, names in os.walk(folder) for name in names)
