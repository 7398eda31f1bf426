"""Files of a worktree that a run may not change: noted before it, compared after it, watched meanwhile

A project without a scorer is judged by its own files, which lie beside the code under test. The kernel sets a file's
ctime at every change of content, mode, name or attributes, and no process in a sandbox can set it: a file that was
changed and put back differs. What leaves no trace of that kind is seen while it happens: a folder that is renamed and
put back, and a module that is removed once it was imported in place of another one.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.edits.rules import modules
from core.lab.git.folder_watch import LOST, FolderWatch
from core.session.disk import replace_file
from core.text import printable

MAX_NAMES = 200  # in an event; of more, the folders are named
_IMPORTED = (".py", ".pyc", ".so", ".pyd")
_IMPORT = re.compile(rb"^[ \t]*(?:from|import)[ \t]+([A-Za-z_]\w*)", re.MULTILINE)
_CACHE = "__pycache__"
# Files that programs read without being told to, so that a new one changes what the others do.
_STEERING = frozenset((
    "sitecustomize.py", "usercustomize.py", "conftest.py", "pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml",
    "tox.ini", "setup.cfg", "setup.py", "pyproject.toml", "uv.toml", ".python-version", "pyvenv.cfg", "gnumakefile",
    "makefile", "build.rs", "cargo.toml", "rust-toolchain", "rust-toolchain.toml", "package.json", ".npmrc",
    "tsconfig.json", "go.mod", "go.work", ".rprofile", ".renviron", ".env", ".coveragerc", "cmakeuserpresets.json",
    "deno.json", "bunfig.toml", ".babelrc", "babel.config.js", "babel.config.json", "jest.config.js", ".mocharc.json",
))  # fmt: skip
_STEERING_FOLDERS = frozenset((".cargo", "node_modules", ".mvn"))
_SOURCES = (".h", ".hh", ".hpp", ".go")  # what a compiler takes from the folder of the others without being told to
_ALIKE = 2  # files of one kind in a folder below the top from which on a program may read all of that kind

_Stamp = tuple[int, int]  # inode, ctime in nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedSpec:
    """The worktree `top`; which of its files may change, by their paths in it; the names of modules that may not be
    hidden (`reserved_names`); and a file that a run cannot write, for the record.
    """

    top: Path
    may_change: Callable[[str], bool]
    reserved: Collection[str]
    record: Path


class FixedFiles:
    """What a worktree holds that a run may not change."""

    def __init__(self, spec: FixedSpec, found: dict[str, _Stamp]) -> None:
        self._spec = spec
        self._found = found
        self._folders = {""}
        self._kinds = Counter(map(_kind, found))
        for path in found:
            while (path := path.rpartition("/")[0]) not in self._folders:
                self._folders.add(path)
        self._watch: FolderWatch | None = None

    @classmethod
    def noted(cls, spec: FixedSpec) -> FixedFiles:
        """Those of a worktree as it is now, before the run begins. Raises OSError."""
        found = {path: stamp for path, stamp in _entries(spec.top) if not spec.may_change(path)}
        replace_file(spec.record, json.dumps(found).encode())
        files = cls(spec, found)
        places = {path: spec.top / path for path in files._folders}
        files._watch = FolderWatch(places, files._hides, files._may_hide)
        return files

    @classmethod
    def resumed(cls, spec: FixedSpec) -> FixedFiles | None:
        """Those of a run that an earlier engine has begun; None where it has left no record."""
        try:
            known = json.loads(spec.record.read_bytes())
        except (OSError, ValueError):
            return None
        return cls(spec, {path: (stamp[0], stamp[1]) for path, stamp in known.items()})

    def close(self) -> None:
        """End the watch, of a run that is not compared."""
        if self._watch is not None:
            self._watch.close()

    def changed(self) -> tuple[str, ...]:
        """Paths of what the run, which has ended, has changed, removed, or put in the way of other modules.

        At most MAX_NAMES; one that ends with `/` stands for what is below that folder.
        """
        seen = self._watch.close() if self._watch is not None else frozenset[str]()
        touched = {path for path, stamp in self._found.items() if _stamp(self._spec.top / path) != stamp}
        return _shortened({printable(path or ".") for path in (*touched, *map(self._told, (*seen, *self._new())))})

    def _told(self, path: str) -> str:
        """A new entry by its name; one of many of its kind by the kind, since its name may be another in each run."""
        return "/*".join(_kind(path)) if path not in self._found and self._joins(path) else path

    def _joins(self, path: str) -> bool:
        """Whether a file lies among several of its kind, below the top: test cases, say, of which all are read."""
        folder, ending = _kind(path)
        return bool(folder and ending) and self._kinds[folder, ending] >= _ALIKE

    def _new(self) -> Iterator[str]:
        """Entries that hide a module, or steer other programs, and were not there before."""
        waiting = list(self._folders)
        while waiting:
            folder = waiting.pop()
            with suppress(OSError), os.scandir(self._spec.top / folder) as found:
                for entry in found:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if self._hides(path, Path(entry.path)):
                        yield path
                    if self._may_hide(path) and entry.is_dir():
                        waiting.append(path)

    def _hides(self, path: str, place: Path) -> bool:
        """Whether a file is new, and read or imported by other programs in place of what they would get."""
        if path in self._found or self._spec.may_change(path):
            return False
        *inside, name = self._within(path)
        if not inside and (name.lower() in _STEERING or name.endswith(_SOURCES) or self._joins(path)):
            return True
        if inside and inside[0] in _STEERING_FOLDERS:
            return not name.startswith(".")
        if (inside[0] if inside and inside[0] != _CACHE else name).partition(".")[0] not in self._spec.reserved:
            return False
        if inside:
            return name.endswith(".pyc") if inside[0] == _CACHE else name.startswith("__init__.")
        return name.endswith(_IMPORTED) or (name.isidentifier() and place.is_symlink())

    def _may_hide(self, path: str) -> bool:
        """Whether a folder is new, and a file in it may hide a module."""
        inside = self._within(path)
        if path in self._folders or len(inside) > 2 or inside[0] == ".git":
            return False
        if inside[0] in _STEERING_FOLDERS:
            return len(inside) == 1
        return inside == [_CACHE] or (inside[0] != _CACHE and inside[0] in self._spec.reserved)

    def _within(self, path: str) -> list[str]:
        """The parts of a path below the folder that was there before."""
        folder = path
        while folder and (folder == path or folder not in self._folders):
            folder = folder.rpartition("/")[0]
        return path[len(folder) :].lstrip("/").split("/")


def reserved_names(top: Path, may_change: Callable[[str], bool], site_packages: Iterable[Path]) -> frozenset[str]:
    """Names of the modules that the files of a worktree import apart from those that may change, or could."""
    paths = [path for path, _ in _entries(top) if path.endswith(".py")]
    fixed = [path for path in paths if not may_change(path)]
    own = {path.rpartition("/")[2].removesuffix(".py") for path in paths if may_change(path)}
    names = set[str]()
    for path in fixed:
        with suppress(OSError):
            names |= {name.decode() for name in _IMPORT.findall((top / path).read_bytes())}
    names = names - own | modules(fixed) | sys.stdlib_module_names
    for folder in site_packages:
        with suppress(OSError):
            names |= {path.name.partition(".")[0] for path in folder.iterdir()}
    return frozenset(names)


def _entries(top: Path) -> Iterator[tuple[str, _Stamp]]:
    """Path and stamp of everything below `top` that is no folder, without git's own file."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(top / folder) as found:
            for entry in found:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif path != ".git":
                    info = entry.stat(follow_symlinks=False)
                    yield path, (info.st_ino, info.st_ctime_ns)


def _stamp(path: Path) -> _Stamp | None:
    try:
        info = path.lstat()
    except OSError:
        return None
    return info.st_ino, info.st_ctime_ns


def _kind(path: str) -> tuple[str, str]:
    """The folder of a path, and the ending of its name with the point."""
    folder, _, name = path.rpartition("/")
    stem, point, ending = name.rpartition(".")
    return folder, point + ending if stem else ""


def _shortened(paths: Collection[str]) -> tuple[str, ...]:
    if len(paths) > MAX_NAMES:
        paths = {path[: path.rfind("/") + 1] or path for path in paths}
    return tuple(sorted(paths))[:MAX_NAMES]


def beyond(changed: Collection[str], allowed: Collection[str]) -> list[str]:
    """What of `changed` is not among the `allowed` paths, of which those that end with `/` stand for a folder."""
    folders = tuple(path for path in allowed if path.endswith("/"))
    return [path for path in changed if path not in allowed and not (folders and path.startswith(folders))]


def rejection(changed: Sequence[str]) -> str:
    """The reason why a run is rejected that changed these files."""
    if changed == [LOST]:
        what = "so many files were made in the folders of the code, while the run went on, that not all were seen"
        return f"{what}\n  hint: let the run write them into a folder of their own"
    named = _named([path for path in changed if path != LOST])
    what = f"{named} changed while the run went on, and experiments may not edit that"
    return f"{what}\n  hint: let the run write to a folder of its own, or to files that no program reads by itself"


def changed_words(changed: Sequence[str]) -> str:
    """The warning that the unchanged code changes these files."""
    return (
        f"{_named(changed)} changed while the unchanged code ran: what runs do to that is not compared, so it must not "
        "be what judges them"
    )


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"{', '.join(paths[:3])}{more}"
