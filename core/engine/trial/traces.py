"""Traces of a run: the files that it wrote, and where the project names the seed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.git import Git

MAX_NAMES = 12  # of written files and folders, for each place
MAX_PLACES = 3  # that name the seed
SEED = "AUTORESEARCH_SEED"
Snapshot = Mapping[str, tuple[int, int]]  # path within a folder → time of the last change in nanoseconds, size


@dataclass(frozen=True, slots=True)
class Written:
    """Files that a run wrote in one place, which is `worktree`, `run folder`, `home` or `tmp`.

    `names` are files, and folders (with a slash) that are new; `files` counts all.
    """

    place: str
    names: tuple[str, ...]
    files: int
    size: int  # bytes


def snapshot(folder: Path) -> Snapshot:
    """State of every file below `folder`; links are not followed, git's folder is left out."""
    return {name: (info.st_mtime_ns, info.st_size) for name, info in _files(folder)}


def _files(folder: Path, within: str = "") -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # a run may leave folders that cannot be read
        return
    for entry in entries:
        if within == "" and entry.name == ".git":
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(folder / entry.name, f"{within}{entry.name}/")
            else:
                yield f"{within}{entry.name}", entry.stat(follow_symlinks=False)
        except (OSError, RecursionError):
            continue


def written(place: str, folder: Path, before: Snapshot) -> Written | None:
    """What differs in `folder` from the snapshot; None when nothing does."""
    after = snapshot(folder)
    # Where the sandbox mounts a file below /tmp, an empty one stays.
    changed = [name for name, state in after.items() if before.get(name) != state and (state[1] or place != "tmp")]
    if not changed:
        return None
    known = {parent for name in before for parent in _parents(name)}
    names = dict.fromkeys(_top(name, known, before) for name in changed)
    size = sum(after[name][1] for name in changed)
    return Written(place, tuple(_shown(name) for name in names)[:MAX_NAMES], len(changed), size)


def _shown(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _parents(name: str) -> Iterator[str]:
    parts = name.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _top(name: str, known: Collection[str], before: Snapshot) -> str:
    """The outermost new folder of a written file; the file itself in a folder that was there."""
    new = () if name in before else (parent for parent in _parents(name) if parent not in known)
    return next((f"{parent}/" for parent in new), name)


def seed_places(root: Path, commit: str, edited: Collection[str]) -> tuple[str, ...]:
    """Where the files of `commit` name the seed, as file:line: edited files first, then those beside them.

    program.md is left out.
    """
    out = Git(root, seconds=60.0).run(
        "grep", "-n", "-I", "-F", "--full-name", "-e", SEED, commit, "--", ".", ":(exclude,glob)**/program.md"
    ).out  # fmt: skip
    lines = [line.split(":", 3) for line in out.decode("utf-8", "replace").splitlines()]
    places = [(parts[1], parts[2]) for parts in lines if len(parts) == 4]
    near = {Path(path).parent for path in edited}
    places.sort(key=lambda place: (place[0] not in edited, Path(place[0]).parent not in near))
    return tuple(f"{path}:{line}" for path, line in places[:MAX_PLACES])
