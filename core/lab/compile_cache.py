"""Compile caches of runs (torch inductor, Triton, CUDA).

A compile cache holds code that its readers execute, and it can hold any other data: a cache that two runs share is a
channel by which one run can pass its weights to the next. So no run writes what another run reads. Each run has a
private copy, which is removed with it. The source of the copies was compiled by a run of the session's unchanged code
before that run could read any data, or by a plain command (`core/lab/shim/kept_cache.py`), and lies where no run can
read or write it. There is one for each kind of card and version of the libraries. A cache that cannot be used is left
aside: the run compiles for itself, and so do the runs of a project with a scorer whose data are there from the start.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from core.lab.shim import kept_cache
from core.lab.shim.rmtree import remove_tree
from core.session.disk import read_json

NAME = "cache"  # in a run's folder
_VARIABLES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton", "CUDA_CACHE_PATH": "cuda"}
_MAX_GROUP_BYTES = 1 << 20


def variables(folder: Path) -> dict[str, str]:
    """Environment variables that place the compilers' caches in `folder`."""
    return {name: str(folder / place) for name, place in _VARIABLES.items()}


def create(folder: Path, source: Path | None) -> None:
    """Create a run's own cache, as a copy of `source` where there is one that can be copied. Raises OSError."""
    if source is not None and source.is_dir():
        try:
            shutil.copytree(source, folder, symlinks=True, dirs_exist_ok=True)
            _relocate_groups(folder / _VARIABLES["TRITON_CACHE_DIR"])
        except OSError:  # a full disk, or files that cannot be read: the run compiles for itself
            remove_tree(folder)
    folder.mkdir(exist_ok=True)


def _relocate_groups(triton: Path) -> None:
    """Make Triton's lists of a kernel's files name those beside them: it keeps whole paths, and what lies under the
    path of another run is compiled again.
    """
    for path in triton.glob("*/__grp__*.json"):
        if path.is_symlink() or path.lstat().st_size > _MAX_GROUP_BYTES:
            continue
        with suppress(ValueError, LookupError, TypeError, AttributeError):  # what is not such a list stays as it is
            group = json.loads(path.read_text())
            children = {name: str(path.parent / Path(child).name) for name, child in group["child_paths"].items()}
            path.write_text(json.dumps(group | {"child_paths": children}))


class BaselineCache:
    """Source of all copies, in `folder`; taken from the first run of unchanged code that ends well."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offered: list[tuple[Path, Path]] = []  # folder of a run, place that its cache would take
        self.trouble = ""  # why the last source that was asked for is not used

    def offer(self, run: Path, made_for: str = "") -> None:
        """Note a run of unchanged code, by its folder; the cache in it may become the source for `made_for`."""
        self._offered.append((run, self._place(made_for)))

    def path(self, made_for: str = "") -> Path | None:
        """The source for a new run's cache; None until there is one. `made_for` names what its code was compiled for
        and by: card, libraries, driver.
        """
        self.trouble = ""
        place = self._place(made_for)
        try:
            self._take_offered()
            if not place.is_dir():
                return None
            self.trouble = _trouble(place)
        except OSError as error:
            self.trouble = f"{place}: {error.strerror}"
        return None if self.trouble else place

    def _place(self, made_for: str) -> Path:
        return self._folder / hashlib.sha256(f"{os.getuid()} {made_for}".encode()).hexdigest()[:12]

    def _take_offered(self) -> None:
        for offered in list(self._offered):
            run, place = offered
            if not (result := read_json(run / "exit.json")):
                continue  # it still runs
            self._offered.remove(offered)
            cache = run / kept_cache.NAME
            if result.get("ended") == "done" and not place.exists() and cache.is_dir():
                self._folder.mkdir(exist_ok=True)
                cache.rename(place)
            else:
                remove_tree(cache)


def _trouble(place: Path) -> str:
    """Why the code in `place` must not be copied to a run, which would execute it; empty if it may be."""
    if place.is_symlink() or place.lstat().st_uid != os.getuid():
        return f"{place} belongs to somebody else"
    return "" if os.access(place, os.R_OK | os.X_OK) else f"{place} cannot be read"
