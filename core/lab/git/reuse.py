"""Reuse of large worktrees: one that is free is brought to another commit by the files that differ"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from core.git import Git
from core.lab.git.checkout import submodules
from core.lab.git.layout import MAX_CHANGED, Layout, tells_changes
from core.lab.git.restore import admin_folder, lay_out_again, strip_top
from core.lab.shim.rmtree import remove_tree
from core.record.errors import GitError

_OF_GIT = (".gitattributes", ".gitmodules")  # change what other files are in a checkout


class WorktreeReuse:
    """The layouts of the worktrees directly in `folder`, and those of them that are free. Not thread-safe."""

    def __init__(self, git: Git, folder: Path, least: int, forget: Callable[[Path], None]) -> None:
        """`least`: number of files of a worktree that is kept; `forget` removes a worktree and git's record of it."""
        self._forget = forget
        self._git = git
        self._least = least
        self._folder = folder.absolute()
        self._layouts: dict[Path, Layout] = {}
        self._free: list[Path] = []
        self._trusted: bool | None = None  # whether the file system tells every change

    def layout(self, top: Path) -> Layout | None:
        return self._layouts.get(top.absolute())

    def laid_out(self, top: Path, commit: str, count: int) -> None:
        """Take the layout of a new worktree of `count` files."""
        self._layouts.pop(top, None)
        if top.parent != self._folder or count < self._least or submodules(self._git, commit):
            return
        if self._trusted is None:
            self._trusted = tells_changes(self._folder)
        if self._trusted:
            self._layouts[top] = Layout(top, commit)

    def give_back(self, top: Path) -> bool:
        """Keep a worktree that is not used any more, without what a run has left there. False: it is to be removed."""
        if top in self._free:
            return True
        layout = self._layouts.get(top)
        if layout is None:
            return False
        try:
            missing = layout.clean()
            if missing is not None:
                lay_out_again(Git(top, git_dir=self._own_git_file(top)), layout, missing)
                self._free.append(top)
                return True
        except (GitError, OSError):
            pass
        del self._layouts[top]
        return False

    def take(self, path: Path, commit: str) -> bool:
        """Make a free worktree the worktree `path` of `commit`. False when there is none that is near enough."""
        if not self._free or path.parent != self._folder:
            return False
        top = self._free.pop()
        layout = self._layouts.pop(top)
        try:
            admin = self._own_git_file(top)
            missing, changed = layout.clean(), self._changed(layout.commit, commit)
            if missing is None or changed is None:
                raise GitError("too many files differ")
            top.rename(path)
            (admin / "gitdir").write_bytes(os.fsencode(path / ".git") + b"\n")
            layout.moved(path)
            git = Git(path, git_dir=admin)
            git.bytes_("update-ref", "--no-deref", "HEAD", commit)
            layout.commit = commit
            layout.drop(changed)
            lay_out_again(git, layout, missing | changed)
        except (GitError, OSError):
            self._forget(top)
            self._forget(path)
            return False
        self._layouts[path] = layout
        return True

    def drop(self) -> list[Path]:
        """Forget all layouts. Returns the free worktrees, which are to be removed."""
        free, self._free = self._free, []
        self._layouts.clear()
        return free

    def _changed(self, old: str, new: str) -> set[str] | None:
        """The files that differ between two commits. None for more than a few, removed ones, or git's own."""
        words = self._git.diff(old, new, "-z", "--name-status").split(b"\0")
        pairs = list(zip(words[::2], words[1::2], strict=False))
        names = {os.fsdecode(name) for _, name in pairs}
        if len(names) > MAX_CHANGED or any(kind not in (b"M", b"A") for kind, _ in pairs):
            return None
        return None if any(name.rpartition("/")[2] in _OF_GIT for name in names) else names

    @staticmethod
    def _own_git_file(top: Path) -> Path:
        """Write the worktree's .git anew, and strip the top folder's attributes. Returns git's own folder of it."""
        admin = admin_folder(top)
        remove_tree(top / ".git")
        (top / ".git").write_bytes(b"gitdir: " + os.fsencode(admin) + b"\n")
        strip_top(top)
        return admin
