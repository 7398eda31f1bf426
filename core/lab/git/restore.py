"""A run's worktree as its commit has it, whatever the run did in it: what is scored is what was committed.

A run may write to its worktree. Without this, training after the clock could leave better weights there, or another
model, for the scoring of the code to find. Not only in files: the targets of links, extended attributes and times
hold data, too. So nothing that was there stays.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from core.git import Git
from core.lab.shim.rmtree import remove_tree


def restore(worktree: Path, inputs: Mapping[str, Path] | None = None) -> None:
    """Empty the worktree around `worktree` and check its commit out again; `inputs` are links to lay in `worktree`.

    A folder that is no linked worktree (a user's own checkout, no repository at all) is left alone. Raises GitError
    when git cannot do it, OSError when a file cannot be removed.
    """
    top = _top(worktree)
    if top is None:
        return
    with tempfile.TemporaryDirectory(prefix="autoresearch-index-") as folder:
        git, env = Git(top), {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git.bytes_("read-tree", "HEAD", env=env)
        _sweep(top)
        git.bytes_("checkout-index", "--all", "--force", "--quiet", env=env)
    lay_inputs(worktree, inputs or {})


def lay_inputs(worktree: Path, inputs: Mapping[str, Path]) -> None:
    """Link what is not in git but belongs to the project into `worktree`; what stands there by that name stays."""
    for name, source in inputs.items():
        link = worktree / name
        if not os.path.lexists(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)


def _top(worktree: Path) -> Path | None:
    """The linked worktree that holds the folder; the folder itself may be gone."""
    for folder in (worktree, *worktree.parents):
        git = folder / ".git"
        if not os.access(folder, os.X_OK) and os.path.lexists(folder):
            with suppress(OSError):  # closed by the run: where it is not ours to open, git will say so
                folder.chmod(0o700 | folder.stat().st_mode & 0o777)
        if git.is_file() and not git.is_symlink():
            return folder
        if os.path.lexists(git):
            return None
    return None


def _sweep(top: Path) -> None:
    """Remove everything but git's own file, and the attributes of what stays."""
    top.chmod(0o700 | top.stat().st_mode & 0o777)
    for path in top.iterdir():
        if path.name != ".git":
            remove_tree(path)
    for path in (top, top / ".git"):
        for name in os.listxattr(path) if hasattr(os, "listxattr") else ():
            with suppress(OSError):  # not ours to remove, so not the run's to set
                os.removexattr(path, name)
