"""The project's git repository: commits, refs, worktrees and diffs of experiments.

It uses plumbing commands only and never changes the user's checkout, index, HEAD, branch or stash: commits are built in
a separate index, experiments have separate worktrees, and no hook runs. All paths in this interface are relative to the
project (the folder of program.md), which may be a subfolder of the repository.
"""

from __future__ import annotations

import os
import re
import shlex
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from core.edits.globs import matches
from core.git import IDENTITY, Git, own_index, reason
from core.lab.git.checkout import lay_out, uninitialized
from core.lab.git.checkout_fault import check_filters, checkout_fault
from core.lab.git.clean_filters import stored_as
from core.lab.git.disk_full import retry_when_full
from core.lab.git.layout import MIN_FILES, Layout
from core.lab.git.restore import admin_folder
from core.lab.git.reuse import WorktreeReuse
from core.lab.git.tree_hash import CommitTree, TreeEntry, listed
from core.lab.shim.rmtree import remove_tree
from core.record.errors import EditError, GitConflict, GitError, LabError, ProjectError
from core.temporary import own_folder
from core.text import printable


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout that has a branch, and the command line that releases the branch; HEAD stays at its commit."""

    path: Path
    release: str


_IN_PROGRESS = {"MERGE_HEAD": "merge", "CHERRY_PICK_HEAD": "cherry-pick", "REVERT_HEAD": "revert"}


class Repository:
    """A repository and the project in it. Safe to use from several threads."""

    def __init__(self, root: Path, prefix: str, common_dir: Path, git_dir: Path) -> None:
        self._git = Git(root, git_dir=git_dir)
        self.root = root
        self.prefix = prefix
        self.common_dir = common_dir
        self.git_dir = git_dir
        self.retry_when_full = False  # True: writes that fail on a full disk are repeated until there is space
        self.waits_for_space = ""  # why such a write waits at present, or ""
        self._worktrees = threading.Lock()
        self._reuse: WorktreeReuse | None = None

    @classmethod
    def open(cls, project: Path) -> Repository:
        """The repository around `project`. Raises ProjectError when it cannot be used."""
        project = project.resolve()
        if not project.is_dir():
            raise ProjectError("no such folder", where=str(project))
        git = Git(project)

        def ask(option: str) -> str:
            # One at a time: a path may contain a line break.
            status, out, error = git.run("rev-parse", option)
            if status:
                raise _cannot_open(project, error)
            return os.fsdecode(out.removesuffix(b"\n"))

        root = Path(ask("--show-toplevel")).resolve()
        if not project.is_relative_to(root):
            raise ProjectError(
                f"git's working tree is another folder: {root}", where=str(project),
                hint=f"git -C {shlex.quote(str(project))} config --unset core.worktree",
            )  # fmt: skip
        prefix = project.relative_to(root).as_posix()
        common = (project / ask("--git-common-dir")).resolve()
        repository = cls(root, prefix, common, Path(ask("--absolute-git-dir")).resolve())
        if repository._git.resolve("HEAD^{commit}") is None:
            if repository._git.resolve("HEAD") is not None:
                hint = "run git fsck, then fetch the missing objects, or clone again"
                what = "the commit of HEAD cannot be read: git's objects are damaged"
                raise ProjectError(what, where=str(root), hint=hint)
            hint = "git add -A && git commit -m 'first'"
            raise ProjectError("the git repository has no commits yet", where=str(root), hint=hint)
        return repository

    @property
    def project(self) -> Path:
        return self.root / self.prefix

    # --- reading ---------------------------------------------------------------------------------------------------

    def head(self) -> str:
        """The commit that is checked out."""
        return self._git.text("rev-parse", "--verify", "HEAD^{commit}")

    def dirty(self, paths: Sequence[str]) -> list[str]:
        """Files with uncommitted changes (untracked ones too) among `paths`, which may be globs or folders.

        The names are for a person: what cannot be printed is escaped.
        """
        if not paths:
            return []
        specs = [self._pathspec(path) for path in paths]
        out = self._git.bytes_("status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--", *specs)
        names = [os.fsdecode(entry[3:]) for entry in out.split(b"\0") if entry]
        return sorted(printable(name) for name in map(self._outward, names) if name is not None)

    def commit_exists(self, commit: str) -> bool:
        return self._git.resolve(f"{commit}^{{commit}}") is not None

    def branch_commit(self, branch: str) -> str | None:
        return self._git.resolve(f"refs/heads/{branch}^{{commit}}")

    def checked_out_at(self, branch: str, *, apart_from: Path | None = None) -> Checkout | None:
        """The checkout that has `branch`, if any: moving the branch would show there as staged changes.

        This includes a branch that is being rebased or bisected, not a detached HEAD at its commit. Checkouts under
        `apart_from` are left out.
        """
        admins = {path: admin for admin, path in self._worktree_records()}
        for number, record in enumerate(self._git.text("worktree", "list", "--porcelain").split("\n\n")):
            lines = record.split("\n")
            path = Path(lines[0].removeprefix("worktree "))
            admin = admins.get(path) if number else self.common_dir
            if not number and self.git_dir == self.common_dir:
                path = self.root  # git lists another folder for the main checkout of a submodule
            if apart_from is not None and path.is_relative_to(apart_from.absolute()):
                continue
            steps = _release_steps(branch, f"branch refs/heads/{branch}" in lines, admin)
            if steps and not path.exists():
                path, steps = self.root, ["worktree prune"]
            if steps:
                return Checkout(path, " && ".join(f"git -C {shlex.quote(str(path))} {step}" for step in steps))
        return None

    def refs(self, session: str) -> dict[int, str]:
        """Experiment number → commit, of all experiments with a ref."""
        base = f"refs/autoresearch/{session}/"
        out = self._git.text("for-each-ref", "--format=%(objectname) %(refname)", base)
        pairs = (line.split(f" {base}", 1) for line in out.splitlines())
        return {int(number): sha for sha, number in pairs if number.isdecimal()}

    def read(self, commit: str, path: str) -> str | None:
        """Text of a file in `commit`, with its line ends; None when missing. Raises ProjectError if not UTF-8."""
        entry = self._entries(commit, [self._inward(path)]).get(self._inward(path))
        try:
            return self._blob(entry).decode("utf-8") if entry else None
        except UnicodeDecodeError:
            what = "is not UTF-8 text and cannot be shown or edited"
            raise ProjectError(what, where=path, hint="convert it, or exclude it") from None

    def holds(self, commit: str, path: str) -> bool:
        """Whether a checkout of `commit` may have `path`: what a submodule or a link on the way holds is not known."""
        inward = PurePosixPath(self._inward(path))
        around = [str(place) for place in inward.parents if place != PurePosixPath()]
        asked = ("--full-tree", commit, "--", str(inward), *around)
        out = self._git.bytes_("--literal-pathspecs", "ls-tree", "-z", *asked)
        modes = {os.fsdecode(name): head[:6] for head, _, name in (e.partition(b"\t") for e in out.split(b"\0"))}
        return str(inward) in modes or any(modes.get(place) in (b"160000", b"120000") for place in around)

    def check_filters(self, commit: str) -> None:
        """Raises ProjectError when a file of `commit` needs a filter whose program is not installed."""
        check_filters(self._git, commit)

    def files(self, commit: str, patterns: Sequence[str]) -> list[str]:
        """Files of `commit` that match any of the patterns: names, folders, or globs with `*`, `?`, `[..]`, `**`.

        Those outside the user's sparse checkout are left out: no run has them.
        """
        within = () if self.prefix == "." else ("--", f"{self.prefix}/")
        out = self._git.bytes_("ls-tree", "-r", "-z", "--name-only", commit, *within)
        names = [os.fsdecode(name) for name in out.split(b"\0") if name]
        outside = self.outside_sparse()
        own = [name for name in map(self._outward, names) if name is not None and name not in outside]
        return sorted(name for name in own if matches(name, patterns))

    def outside_sparse(self) -> frozenset[str]:
        """The project's files in git that the user's checkout lacks by its sparse patterns."""
        if not self.is_sparse:
            return frozenset()
        out = self._git.bytes_("ls-files", "-t", "-z", "--full-name")
        names = (self._outward(os.fsdecode(record[2:])) for record in out.split(b"\0") if record.startswith(b"S "))
        return frozenset(name for name in names if name is not None)

    def count(self, commit: str) -> int:
        """Number of files that a worktree of `commit` has, without those of submodules."""
        total = self._git.bytes_("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit).count(b"\0")
        return total - len(self.outside_sparse())

    def tree(self, commit: str) -> CommitTree:
        """All files of `commit`, by name."""
        return CommitTree(self._git.bytes_("ls-tree", "-r", "-t", "-z", "--full-tree", commit), self.prefix)

    def trees(self, commits: Iterable[str]) -> dict[str, str]:
        """Commit → id of its tree, of those commits that exist. Starts one process."""
        wanted = list(dict.fromkeys(commits))
        asked = "".join(f"{commit}^{{tree}}\n" for commit in wanted).encode()
        lines = self._git.bytes_("cat-file", "--batch-check=%(objectname)", stdin=asked).decode().splitlines()
        return {commit: name for commit, name in zip(wanted, lines, strict=True) if " " not in name}

    def blobs(self, names: Iterable[str], largest: int) -> dict[str, bytes]:
        """Object id → its bytes, of objects of at most `largest` bytes. Starts two processes."""
        wanted = "".join(f"{name}\n" for name in dict.fromkeys(names)).encode()
        if not wanted:
            return {}
        sizes = self._git.bytes_("cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=wanted).decode()
        small = [line.split()[0] for line in sizes.splitlines() if int(line.split()[1]) <= largest]
        out = self._git.bytes_("cat-file", "--batch", stdin="".join(f"{name}\n" for name in small).encode())
        found, at = {}, 0
        for name in small:
            start = out.index(b"\n", at) + 1
            size = int(out[at:start].split()[2])
            found[name] = out[start : start + size]
            at = start + size + 1
        return found

    def diff(self, a: str, b: str) -> str:
        """Unified diff from `a` to `b` of the project's files."""
        within = () if self.prefix == "." else (f"--relative={self.prefix}/",)
        return self._git.diff(a, b, "-p", *within).decode("utf-8", "replace")

    # --- writing objects and refs -----------------------------------------------------------------------------------

    @retry_when_full
    def commit_files(self, parent: str, files: Mapping[str, str | None], message: str) -> str:
        """A commit on `parent` in which each file has the given text (None: removed). Returns its id.

        Modes are kept; a new file is not executable. Raises EditError for a path outside the project, a symbolic link
        or a submodule.
        """
        paths = {self._inward(path): text for path, text in files.items()}
        old = self._entries(parent, list(paths))
        changes: dict[str, TreeEntry | None] = {}
        for path, text in paths.items():
            mode = old[path].mode if path in old else "100644"
            if mode not in ("100644", "100755"):
                raise EditError("is a symbolic link or a submodule and cannot be edited", where=path)
            changes[path] = None if text is None else TreeEntry(mode, self._write_blob(text.encode("utf-8")))
        return self._commit(parent, changes, message)

    def stored_as(self, commit: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """The bytes that `git add` would store for each file of a checkout of `commit`. Raises GitError."""
        named = {self._inward(path): data for path, data in files.items()}
        found = stored_as(self.git_dir, commit, named)
        return {path: found[inward] for path, inward in zip(files, named, strict=True)}

    @retry_when_full
    def set_branch(self, branch: str, commit: str) -> None:
        """Set or create `branch` at `commit`. Idempotent."""
        if self.branch_commit(branch) != commit:
            self._update_ref(f"refs/heads/{branch}", commit)

    def delete_branch(self, branch: str, commit: str) -> bool:
        """Delete `branch`, when it is at `commit` and no checkout is on it. Whether it was deleted."""
        if self.branch_commit(branch) != commit or self.checked_out_at(branch):
            return False
        return self._git.run("update-ref", "-d", f"refs/heads/{branch}", commit).status == 0

    @retry_when_full
    def keep_ref(self, session: str, experiment: int | str, commit: str) -> None:
        """Keep a commit reachable, by refs/autoresearch/<session>/<experiment>."""
        self._update_ref(f"refs/autoresearch/{session}/{experiment}", commit)

    @retry_when_full
    def keep_text(self, session: str, name: str, text: str) -> None:
        """Keep a text as a blob at refs/autoresearch/<session>/<name>."""
        self._update_ref(f"refs/autoresearch/{session}/{name}", self._write_blob(text.encode()))

    def has_text(self, session: str, name: str) -> bool:
        return self._git.resolve(f"refs/autoresearch/{session}/{name}") is not None

    @retry_when_full
    def reapply(self, commit: str, old_parent: str, new_parent: str, message: str) -> str:
        """Three-way merge of the change old_parent → commit onto `new_parent`. Returns the new commit's id.

        Raises GitConflict, with the file, when the change does not apply, and when `new_parent` already has it.
        """
        out = self._git.diff(old_parent, commit, "-z", "--name-only")
        paths = [os.fsdecode(name) for name in out.split(b"\0") if name]
        base, mine, theirs = (self._entries(c, paths) for c in (old_parent, commit, new_parent))
        changes: dict[str, TreeEntry | None] = {}
        for path in paths:
            b, m, t = base.get(path), mine.get(path), theirs.get(path)
            if t != m:
                changes[path] = m if t == b else self._merge(path, b, m, t)
        merged = self._commit(new_parent, changes, message) if changes else new_parent
        if self._git.text("rev-parse", f"{merged}^{{tree}}") == self._git.text("rev-parse", f"{new_parent}^{{tree}}"):
            raise GitConflict("the new parent already has this change")
        return merged

    def _merge(self, path: str, base: TreeEntry | None, mine: TreeEntry | None, theirs: TreeEntry | None) -> TreeEntry:
        shown = self._outward(path) or path
        if mine is None or theirs is None:
            raise GitConflict("is removed on one side and changed on the other", where=shown)
        with own_folder("merge") as folder:
            names = [Path(folder, name) for name in ("new-parent", "old-parent", "change")]
            for name, entry in zip(names, (theirs, base, mine), strict=True):
                name.write_bytes(self._blob(entry) if entry else b"")
            status, merged, error = self._git.run("merge-file", "-p", *map(str, names))
        if status < 0 or status > 127:
            raise GitConflict(f"cannot be merged: {reason(error)}", where=shown)
        if status > 0:
            places = "one place" if status == 1 else f"{status} places"
            raise GitConflict(f"the change does not apply on the new parent: they differ in {places}", where=shown)
        return TreeEntry(theirs.mode if mine.mode == (base or mine).mode else mine.mode, self._write_blob(merged))

    def _commit(self, parent: str, changes: Mapping[str, TreeEntry | None], message: str) -> str:
        zero = "0" * len(self._git.text("rev-parse", "--verify", f"{parent}^{{commit}}"))
        removed = TreeEntry("0", zero)
        lines = [f"{(entry or removed).mode} {(entry or removed).sha}\t{path}" for path, entry in changes.items()]
        with own_index() as env:
            self._git.bytes_("read-tree", parent, env=env)
            if lines:
                self._git.bytes_("update-index", "-z", "--add", "--replace", "--index-info",
                            env=env, stdin=os.fsencode("\0".join(lines) + "\0"))  # fmt: skip
            tree = self._git.text("write-tree", env=env)
        clean = message.strip() or "experiment"
        return self._git.bytes_("commit-tree", tree, "-p", parent, "-F", "-", env=IDENTITY,
                           stdin=clean.encode("utf-8", "replace") + b"\n").decode().strip()  # fmt: skip

    def _update_ref(self, ref: str, commit: str) -> None:
        status, _, error = self._git.run("update-ref", "-m", "autoresearch", ref, commit, env=IDENTITY)
        if status:
            hint = "see `git branch -a`: the name of another branch may conflict"
            if not self.commit_exists(commit):
                hint = "its commit is missing: fetch it, or start another session with --session NAME"
            raise LabError(f"git cannot move {ref}: {reason(error)}", where=str(self.root), hint=hint)

    # --- worktrees --------------------------------------------------------------------------------------------------

    @retry_when_full
    def add_worktree(self, path: Path, commit: str) -> Path:
        """Create a detached worktree of `commit` at `path`. Returns the project's folder in it.

        An existing folder is removed, not reset: a run may have left altered times, nested repositories or a forged
        .git there.
        """
        path = path.absolute()
        with self._worktrees:
            self._forget_worktree(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            if self._reuse is not None and self._reuse.take(path, commit):
                self._own_work_tree(path)
                return path / self.prefix
            try:
                self._git.bytes_("worktree", "add", "--force", "--detach", "--no-checkout", str(path), commit)
                self._own_work_tree(path)
                self._carry_sparse(path)
                lay_out(Git(path, git_dir=admin_folder(path)), commit, self.root)
                if self._reuse is not None:
                    self._reuse.laid_out(path, commit, self.count(commit))
            except GitError as error:
                self._forget_worktree(path)
                why, hint = checkout_fault(self._git, commit, error)
                raise LabError(f"git cannot check out {commit[:10]}: {why}", where=str(path), hint=hint) from None
            except BaseException:
                self._forget_worktree(path)
                raise
        return path / self.prefix

    def _own_work_tree(self, path: Path) -> None:
        """Make sure that git takes the new worktree `path` for its working tree, also inside a run.

        With extensions.worktreeConfig, a core.worktree or core.bare of the shared configuration holds there too: git
        would write the user's files. The worktree's own configuration then overrides it.
        """

        def seen() -> bool:
            out = Git(path).run("rev-parse", "--show-toplevel").out
            return os.fsdecode(out.removesuffix(b"\n")) == os.path.realpath(path)

        if seen():
            return
        own = str(admin_folder(path) / "config.worktree")
        for key, value in (("core.worktree", os.path.realpath(path)), ("core.bare", "false")):
            self._git.bytes_("config", "--file", own, key, value)
        if not seen():
            raise LabError(
                "git does not take a new worktree for its working tree", where=str(path),
                hint=f"see core.worktree and core.bare in {self.common_dir / 'config'}",
            )  # fmt: skip

    def _carry_sparse(self, path: Path) -> None:
        """Give a new worktree the sparse patterns of the user's checkout, as git does itself from 2.36 on."""
        patterns = self.git_dir / "info" / "sparse-checkout"
        if not self.is_sparse or not patterns.is_file():
            return
        admin = admin_folder(path)
        (admin / "info").mkdir(exist_ok=True)
        (admin / "info" / "sparse-checkout").write_bytes(patterns.read_bytes())
        own = Git(path, git_dir=admin)
        for key in ("core.sparseCheckout", "core.sparseCheckoutCone"):
            value = self._git.run("config", "--bool", key).out.decode().strip()
            if value and own.run("config", "--bool", key).out.decode().strip() != value:
                self._git.bytes_("config", "--file", str(admin / "config.worktree"), key, value)

    @property
    def is_sparse(self) -> bool:
        """Whether the user's checkout has only those files of a commit that its sparse patterns name."""
        return self._git.run("config", "--bool", "core.sparseCheckout").out.strip() == b"true"

    def uninitialized_submodules(self, commit: str) -> list[str]:
        """Paths of submodules in the project that are empty in the user's checkout, and so in every worktree."""
        found = map(self._outward, uninitialized(self._git, commit))
        return [path for path in found if path is not None]

    def remove_worktree(self, path: Path) -> None:
        """Remove a worktree and git's record of it, or keep it for reuse. Idempotent."""
        path = path.absolute()
        with self._worktrees:
            if self._reuse is None or not self._reuse.give_back(path):
                self._forget_worktree(path)

    def reuse_worktrees(self, folder: Path | None, *, least: int = MIN_FILES) -> None:
        """Keep worktrees in `folder` of at least so many files when they are removed, for the next one; None: remove
        those kept.
        """
        with self._worktrees:
            for path in self._reuse.drop() if self._reuse is not None else ():
                self._forget_worktree(path)
            self._reuse = WorktreeReuse(self._git, folder, least, self._forget_worktree) if folder is not None else None

    def layout(self, path: Path) -> Layout | None:
        """The layout of a large worktree, for its restoration."""
        return self._reuse.layout(path) if self._reuse is not None else None

    def prune(self, folder: Path) -> list[Path]:
        """Remove the records of worktrees under `folder` whose files are missing. Returns their paths."""
        inside = folder.absolute()
        with self._worktrees:
            gone = [one for one in self._worktree_records() if one[1].is_relative_to(inside) and not one[1].exists()]
            for admin, _ in gone:
                remove_tree(admin)
        return [path for _, path in gone]

    def _worktree_records(self) -> list[tuple[Path, Path]]:
        """(git's own folder of it, path) of each linked worktree."""
        records = []
        for gitdir in sorted((self.common_dir / "worktrees").glob("*/gitdir")):
            try:
                text = gitdir.read_text(errors="surrogateescape").strip()
            except OSError:  # another thread, engine or git has just removed it
                continue
            # git 2.48 or newer may write a path relative to the admin folder.
            records.append((gitdir.parent, Path(os.path.normpath(gitdir.parent / text)).parent))
        return records

    def _forget_worktree(self, path: Path) -> None:
        if path == self.root or self.root.is_relative_to(path):
            raise LabError("this is the user's own checkout", where=str(path))
        admins = [admin for admin, known in self._worktree_records() if known == path]
        remove_tree(path)
        for admin in admins:
            remove_tree(admin)

    # --- ignoring ---------------------------------------------------------------------------------------------------

    def exclude(self, pattern: str) -> None:
        """Make git ignore `pattern` in this clone only (.git/info/exclude). Idempotent."""
        file = self.common_dir / "info" / "exclude"
        text = file.read_text(errors="surrogateescape") if file.exists() else ""
        if pattern not in text.splitlines():
            file.parent.mkdir(parents=True, exist_ok=True)
            gap = "" if not text or text.endswith("\n") else "\n"
            file.write_text(f"{text}{gap}{pattern}\n", errors="surrogateescape")

    def is_ignored(self, path: str) -> bool:
        """True when git ignores `path` (relative to the project)."""
        return self._git.run("check-ignore", "-q", "--no-index", "--", self._inward(path)).status == 0

    # --- paths ------------------------------------------------------------------------------------------------------

    def _inward(self, path: str) -> str:
        """Project path → repository path. Raises EditError for one that leaves the project or enters .git."""
        pure = PurePosixPath(path)
        if not path or pure.is_absolute() or ".." in pure.parts or "\0" in path or not pure.parts:
            raise EditError("is outside the project", where=path)
        if any(part.lower() == ".git" for part in pure.parts):
            raise EditError("belongs to git", where=path)
        return pure.as_posix() if self.prefix == "." else f"{self.prefix}/{pure.as_posix()}"

    def _outward(self, path: str) -> str | None:
        if self.prefix == ".":
            return path
        inside = path.removeprefix(f"{self.prefix}/")
        return inside if inside != path else None

    def _pathspec(self, path: str) -> str:
        how = "glob" if any(sign in path for sign in "*?[") else "literal"
        return f":(top,{how}){self._inward(path)}"

    # --- objects ----------------------------------------------------------------------------------------------------

    def _entries(self, commit: str, wanted: Sequence[str]) -> dict[str, TreeEntry]:
        """Entry of each path that is a file in `commit`."""
        if not wanted:
            return {}
        out = self._git.bytes_("--literal-pathspecs", "ls-tree", "-r", "-z", "--full-tree", commit, "--", *wanted)
        found = dict(listed(out))
        return {path: found[path] for path in wanted if path in found}

    def _blob(self, entry: TreeEntry) -> bytes:
        return self._git.bytes_("cat-file", "blob", entry.sha)

    def _write_blob(self, data: bytes) -> str:
        return self._git.bytes_("hash-object", "-w", "--no-filters", "--stdin", stdin=data).decode().strip()


def _release_steps(branch: str, at_head: bool, admin: Path | None) -> list[str]:
    """The git commands that make a checkout release a branch; none when it does not have it.

    `admin`: git's own folder of the checkout, with the state of operations in progress.
    """

    def noted(name: str) -> list[str]:
        with suppress(OSError):
            return (admin / name).read_text(errors="replace").splitlines() if admin else []
        return []

    names = ("rebase-merge/head-name", "rebase-apply/head-name", "rebase-merge/update-refs")
    if any(f"refs/heads/{branch}" in noted(name) for name in names):
        return ["rebase --quit"]
    steps = ["bisect reset HEAD"] if branch in noted("BISECT_START") else []
    if at_head:
        steps += [f"{verb} --abort" for name, verb in _IN_PROGRESS.items() if noted(name)]
        steps.append("switch --detach")
    return steps


def _cannot_open(project: Path, stderr: str) -> ProjectError:
    text, where = stderr.strip(), str(project)
    if "dubious ownership" in text:
        match = re.search(r"repository at '([^']+)'", text)
        where = match[1] if match else where
        what = "the git repository belongs to another user, and git refuses to use it"
        hint = f"git config --global --add safe.directory '{where}'"
        if not os.access(Path.home(), os.W_OK) and "GIT_CONFIG_COUNT" not in os.environ:
            hint = f"export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='{where}'"
        return ProjectError(what, where=where, hint=hint)
    broken = next((place for place in (project, *project.parents) if (place / ".git" / "objects").is_dir()), None)
    if "not a git repository" in text and broken is not None:
        what = "git does not recognize this repository: its HEAD or configuration is broken"
        hint = "repair .git/HEAD (it holds a line such as `ref: refs/heads/main`), or clone again"
        return ProjectError(what, where=str(broken / ".git"), hint=hint)
    if "not a git repository" in text and (named := os.environ.get("GIT_DIR")):
        what = "this folder has no .git: the repository is named by GIT_DIR only, which sessions do not follow"
        line = shlex.quote(f"gitdir: {Path(named).absolute()}")
        return ProjectError(what, where=where, hint=f"name it there: echo {line} > {shlex.quote(where + '/.git')}")
    if "not a git repository" in text:
        hint = "git init && git add -A && git commit -m 'first'"
        return ProjectError("this is not a git repository, and each experiment is a commit", where=where, hint=hint)
    if "must be run in a work tree" in text or "cannot use bare repository" in text:
        if ".git" in project.parts:
            return ProjectError("this folder belongs to git", where=where, hint="start in the project's folder")
        if top := next((place for place in (project, *project.parents) if (place / ".git").exists()), None):
            what = "git takes this checkout for a bare repository, since core.bare is true in its configuration"
            return ProjectError(
                what, where=str(top), hint=f"git -C {shlex.quote(str(top))} config --worktree core.bare false"
            )
        hint = "start in one of its worktrees (git worktree list), or clone it and start in the clone"
        return ProjectError("this is a bare git repository, without a work tree", where=where, hint=hint)
    hint = f"correct the reported error, until this works: git -C '{project}' status"
    return ProjectError(f"git cannot open the repository: {reason(text)}", where=where, hint=hint)
