"""Files of a commit, laid out in the same way in a new worktree and in a restored one

The working tree is as the user's checkout: its sparse patterns hold, and submodules that the user has initialized are
filled from the user's own objects. Nothing is fetched.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from core.git import Git, own_index
from core.lab.git.tree_hash import SUBMODULE, listed
from core.record.errors import LabError

_MAX_DEPTH = 8  # of submodules in submodules
# No shared index, which git would write into its folder.
_LAY_OUT = (
    "-c", "core.splitIndex=false", "-c", "checkout.workers=0", "read-tree", "--reset", "-u", "--no-recurse-submodules",
)  # fmt: skip


def lay_out(git: Git, commit: str, user: Path | None, *, env: Mapping[str, str] | None = None) -> None:
    """Write the files of `commit` into the empty working tree of `git`, and those of its submodules.

    `user`: the user's checkout, whose submodules are taken; None: they stay empty. `env`: of `own_index`, to leave the
    worktree's index as it is. Raises GitError, and LabError for a submodule whose commit the user's clone lacks.
    """
    git.bytes_(*_LAY_OUT, commit, env=env)
    if user is not None:
        _fill_submodules(git, commit, user, 0)


def submodules(git: Git, commit: str) -> list[tuple[str, str]]:
    """(path, commit) of each submodule in `commit`."""
    if git.resolve(f"{commit}:.gitmodules") is None:
        return []
    entries = listed(git.bytes_("ls-tree", "-r", "-z", "--full-tree", commit))
    return [(path, entry.sha) for path, entry in entries if entry.mode == SUBMODULE]


def uninitialized(git: Git, commit: str) -> Iterator[str]:
    """Paths of the submodules in `commit` that are empty in the checkout of `git`."""
    for path, _ in submodules(git, commit):
        if submodule_folder(git.folder / path) is None:
            yield path


def submodule_folder(checkout: Path) -> Path | None:
    """git's folder of the submodule in `checkout`; None where it is not initialized."""
    own = checkout / ".git"
    try:
        if own.is_file():
            own = named_folder(own)
    except OSError:
        return None
    return own if (own / "HEAD").is_file() else None


def named_folder(file: Path) -> Path:
    """git's own folder of a checkout, as its `.git` file names it. Raises OSError."""
    return (file.parent / os.fsdecode(file.read_bytes()).removeprefix("gitdir:").strip()).resolve()


def _fill_submodules(git: Git, commit: str, user: Path, depth: int) -> None:
    for path, sha in submodules(git, commit):
        folder, target = submodule_folder(user / path), git.folder / path
        if folder is None or not target.is_dir() or depth == _MAX_DEPTH:
            continue  # as in the user's checkout: not initialized, or outside the sparse patterns
        inner = Git(target, git_dir=folder)
        if inner.resolve(f"{sha}^{{commit}}") is None:
            raise LabError(
                f"the submodule lacks its commit {sha[:10]}", where=path,
                hint=f"git -C {shlex.quote(str(user))} submodule update --init {shlex.quote(path)}",
            )  # fmt: skip
        with own_index() as env:
            inner.bytes_(*_LAY_OUT, sha, env=env)
        _fill_submodules(inner, sha, user / path, depth + 1)
