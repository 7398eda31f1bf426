"""A run's worktree as its commit has it, whatever the run did in it: what is scored is what was committed.

A run may write to its worktree. Without this, training after the clock could leave better weights there, or another
model, for the scoring of the code to find.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path, PurePosixPath

from core.lab.trees import remove_tree
from core.record.errors import LabError

_GIT = ("git", "--no-optional-locks", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")


def restore(worktree: Path) -> list[str]:
    """Make the worktree around `worktree` hold exactly its commit again; returns what differed, in git's names.

    Links that git does not know stay: the harness lays a project's inputs out as links, and all that a link could
    lead a run's files back in by is swept, too. A folder that is no linked worktree (a user's own checkout, no
    repository at all) is left alone. Raises LabError when git cannot do it.
    """
    top = _top(worktree)
    if top is None:
        return []
    removed = _remove_strangers(top, set(_names(top, "ls-tree", "-r", "--name-only", "-z", "HEAD")))
    with tempfile.TemporaryDirectory(prefix="autoresearch-index-") as folder:
        # An index that remembers no times: every file is compared by its content.
        index = str(Path(folder) / "index")
        _git(top, "read-tree", "HEAD", index=index)
        _git(top, "update-index", "-q", "--really-refresh", fine=(0, 1), index=index)
        changed = _names(top, "diff-files", "--name-only", "-z", index=index)
        if changed:
            _git(top, "checkout-index", "--all", "--force", "--quiet", index=index)
    return sorted({*removed, *changed})


def _top(worktree: Path) -> Path | None:
    """The linked worktree that holds the folder; the folder itself may be gone."""
    for folder in (worktree, *worktree.parents):
        git = folder / ".git"
        if git.is_file() and not git.is_symlink():
            return folder
        if os.path.lexists(git):
            return None
    return None


def _remove_strangers(top: Path, tracked: set[str]) -> list[str]:
    """Remove whatever is neither tracked nor a folder of something tracked. Returns the removed names."""
    folders = {str(parent) for name in tracked for parent in PurePosixPath(name).parents}
    removed, stack = [], [top]
    while stack:
        place = stack.pop()
        place.chmod(0o700 | place.stat().st_mode & 0o777)
        for path in list(place.iterdir()):
            name, link = str(path.relative_to(top)), path.is_symlink()
            folder = path.is_dir() and not link
            if name == ".git" or (name in tracked and not folder):
                continue
            if name in folders and folder:
                stack.append(path)
            elif name in folders or not link:
                remove_tree(path)
                removed.append(name)
    return removed


def _names(top: Path, *args: str, index: str = "") -> list[str]:
    return [os.fsdecode(name) for name in _git(top, *args, index=index).split(b"\0") if name]


def _git(top: Path, *args: str, fine: tuple[int, ...] = (0,), index: str = "") -> bytes:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    env = {**clean, "GIT_INDEX_FILE": index} if index else clean
    done = subprocess.run([*_GIT, *args], cwd=top, env=env, capture_output=True)
    if done.returncode not in fine:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise LabError(f"git {args[0]} failed: {said[-1] if said else 'no reason given'}", where=str(top))
    return done.stdout
