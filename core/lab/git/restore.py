"""Reset of a run's worktree to its commit before scoring, so that only committed code is scored.

A run can write to its worktree: it could train after its clock has stopped and leave better weights or another model
there for the scored code. Link targets, extended attributes and times can hold such data as well as files, so
everything in the worktree is removed and checked out again; in a large worktree, everything that differs.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Set
from contextlib import suppress
from pathlib import Path

from core.git import Git, own_index
from core.lab.git.checkout import lay_out, named_folder
from core.lab.git.layout import Layout
from core.lab.shim.rmtree import remove_tree
from core.record.errors import GitError

_REPEAT = "remove what changes .git from the program of the run, which then is run again"


def restore_worktree(
    worktree: Path,
    inputs: Mapping[str, Path] | None = None,
    *,
    user: Path | None = None,
    layout: Layout | None = None,
) -> None:
    """Empty the linked worktree around `worktree`, check its commit out again, and link `inputs` into `worktree`.

    `user`: the user's checkout, from which submodules are filled. `layout`: of the worktree; what is unchanged stays.
    Does nothing in a folder that is not a linked worktree (the user's own checkout, no repository). Raises GitError,
    also for a checkout that does not hold `worktree` in its commit, LabError, or OSError when a file cannot be removed.
    """
    top = _top(worktree)
    if top is None:
        return
    git = Git(top, git_dir=admin_folder(top))
    if worktree != top and git.resolve(f"HEAD:{worktree.relative_to(top).as_posix()}") is None:
        # The user's checkout around the sessions, where the run has removed its own .git.
        raise GitError("this worktree has lost its .git file", where=str(worktree), hint=_REPEAT)
    commit = git.text("rev-parse", "--verify", "HEAD^{commit}")
    missing = layout.clean() if layout is not None and layout.commit == commit else None
    if layout is not None and missing is not None:
        strip_top(top)
        lay_out_again(git, layout, missing)
    else:
        with own_index() as env:
            _empty(top)
            lay_out(git, commit, user, env=env)
        if layout is not None:
            layout.take(commit)
    link_inputs(worktree, inputs or {})


def lay_out_again(git: Git, layout: Layout, missing: Set[str]) -> None:
    """Write the `missing` files of a worktree that is otherwise as its layout says. Raises GitError, OSError."""
    if missing:
        with own_index() as env:
            git.bytes_("-c", "core.splitIndex=false", "read-tree", layout.commit, env=env)
            names = b"".join(os.fsencode(path) + b"\0" for path in sorted(missing))
            git.bytes_("checkout-index", "--force", "--quiet", "-z", "--stdin", env=env, stdin=names)
        layout.renew(missing)


def link_inputs(worktree: Path, inputs: Mapping[str, Path]) -> None:
    """Link the project's inputs, which are not in git, into `worktree`; existing files there are kept.

    Within a folder that a checkout makes (a submodule, a folder with committed files), what is missing is linked.
    """
    for name, source in inputs.items():
        link = worktree / name
        if not os.path.lexists(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source.resolve())  # a link of the project's is not there in the sandbox
        elif link.is_dir() and not link.is_symlink() and source.is_dir():
            # A submodule's .git leads to the user's repository.
            link_inputs(link, {path.name: path for path in sorted(source.iterdir()) if path.name != ".git"})


def apart_from_git(name: str, source: Path, held: Collection[str]) -> dict[str, Path]:
    """The input `name` by the links it needs: itself, or the parts of it that are not among the `held` files of git.

    So a file that an experiment removes does not come back as a link to the user's.
    """
    if name in held:
        return {}
    if not source.is_dir() or not any(path.startswith(f"{name}/") for path in held):
        return {name: source}
    below = [path for path in held if path.startswith(f"{name}/")]
    parts = (apart_from_git(f"{name}/{path.name}", path, below) for path in sorted(source.iterdir()))
    return {link: path for part in parts for link, path in part.items()}


def admin_folder(top: Path) -> Path:
    """git's own folder of the linked worktree `top`. Raises GitError where git has no record of that worktree.

    A submodule, or a `.git` that a run wrote, names a folder whose record does not lead back.
    """
    admin = named_folder(top / ".git")
    try:
        back = os.fsdecode((admin / "gitdir").read_bytes()).strip()
    except OSError:
        back = ""
    if not back or (admin / back).resolve() != top.resolve() / ".git" or not (admin / "commondir").is_file():
        raise GitError("git has no record of this worktree, so it is not written", where=str(top), hint=_REPEAT)
    return admin


def _top(worktree: Path) -> Path | None:
    """The linked worktree around the folder; the folder itself may be missing."""
    for folder in (worktree, *worktree.parents):
        git = folder / ".git"
        if not os.access(folder, os.X_OK) and os.path.lexists(folder):
            with suppress(OSError):  # the run has removed its permissions; where this fails, git reports it
                folder.chmod(0o700 | folder.stat().st_mode & 0o777)
        if git.is_file() and not git.is_symlink():
            return folder
        if os.path.lexists(git):
            return None
    return None


def _empty(top: Path) -> None:
    """Remove everything except `.git`, and the attributes of the folder and of `.git`."""
    strip_top(top)
    for path in top.iterdir():
        if path.name != ".git":
            remove_tree(path)


def strip_top(top: Path) -> None:
    """Remove the extended attributes of a worktree's folder and of its `.git`, and let the folder be written."""
    top.chmod(0o700 | top.stat().st_mode & 0o777)
    for path in (top, top / ".git"):
        for name in os.listxattr(path) if hasattr(os, "listxattr") else ():
            with suppress(OSError):  # one that cannot be removed cannot be set by a run
                os.removexattr(path, name)
