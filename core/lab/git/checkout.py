"""A checkout that has a branch, and how its user makes it let go."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.git import Git

_IN_PROGRESS = {"MERGE_HEAD": "merge", "CHERRY_PICK_HEAD": "cherry-pick", "REVERT_HEAD": "revert"}


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout that has a branch, and the command line that makes it let go; HEAD stays at its commit."""

    path: Path
    release: str


def find_checkout(
    git: Git, branch: str, admins: Mapping[Path, Path], common_dir: Path, *, main: Path | None, apart_from: Path | None
) -> Checkout | None:
    """The checkout that has `branch`. `admins`: linked worktree → git's own folder of it; `main`: the main checkout.

    `main` is None where it is not known: then git is asked, which names the wrong folder for a submodule.
    """
    for number, record in enumerate(git.text("worktree", "list", "--porcelain").split("\n\n")):
        lines = record.split("\n")
        path = Path(lines[0].removeprefix("worktree "))
        admin = admins.get(path) if number else common_dir
        if not number and main is not None:
            path = main
        if apart_from is not None and path.is_relative_to(apart_from.absolute()):
            continue
        steps = _release_steps(branch, f"branch refs/heads/{branch}" in lines, admin)
        if steps and not path.exists():
            path, steps = git.folder, ["worktree prune"]
        if steps:
            return Checkout(path, " && ".join(f"git -C {shlex.quote(str(path))} {step}" for step in steps))
    return None


def _release_steps(branch: str, at_head: bool, admin: Path | None) -> list[str]:
    """The git commands by which a checkout lets go of a branch, none when it does not have it.

    `admin`: git's own folder of the checkout, in which it notes what is in progress.
    """

    def noted(name: str) -> list[str]:
        file = admin / name if admin is not None else None
        return file.read_text(errors="replace").splitlines() if file is not None and file.is_file() else []

    names = ("rebase-merge/head-name", "rebase-apply/head-name", "rebase-merge/update-refs")
    if any(f"refs/heads/{branch}" in noted(name) for name in names):
        return ["rebase --quit"]
    steps = ["bisect reset HEAD"] if branch in noted("BISECT_START") else []
    if at_head:
        steps += [f"{verb} --abort" for name, verb in _IN_PROGRESS.items() if noted(name)]
        steps.append("switch --detach")
    return steps
