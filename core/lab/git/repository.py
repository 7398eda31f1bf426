"""The project's git repository, worked on by plumbing alone.

The user's checkout, index, HEAD, branch and stash are never touched: commits are built in an index of their own,
experiments live in worktrees of their own, and no hook ever runs. All paths in this interface are relative to the
project (the folder that holds program.md), which may be a subfolder of the repository.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from core.edits.globs import matches
from core.git import IDENTITY, Git, reason
from core.lab.git.checkout import Checkout, find_checkout
from core.lab.git.disk_full import outlasting
from core.lab.git.tree_hash import Tree
from core.lab.shim.rmtree import remove_tree
from core.record.errors import EditError, GitConflict, LabError, ProjectError


@dataclass(frozen=True, slots=True)
class Numstat:
    """Size of a change. A binary file counts as no lines."""

    files: tuple[str, ...]
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: str
    blob: str


class Repository:
    """A repository and the project in it. Safe to use from several threads."""

    def __init__(self, root: Path, prefix: str, common_dir: Path, git_dir: Path) -> None:
        self._git = Git(root)
        self.root = root
        self.prefix = prefix
        self.common_dir = common_dir
        self.git_dir = git_dir
        self.patient = False  # True: what fails for want of space is tried again once there is some
        self._worktrees = threading.Lock()

    @classmethod
    def open(cls, project: Path) -> Repository:
        """The repository around `project`. Raises ProjectError, with the hint, when it cannot be worked with."""
        project = project.resolve()
        if not project.is_dir():
            raise ProjectError("there is no such folder", where=str(project))
        git = Git(project)

        def tell(option: str) -> str:
            # One at a time: a path may hold a line break.
            status, out, error = git.run("rev-parse", option)
            if status:
                raise _cannot_open(project, error)
            return os.fsdecode(out.removesuffix(b"\n"))

        root = Path(tell("--show-toplevel")).resolve()
        prefix = project.relative_to(root).as_posix()
        common, git_dir = (project / tell("--git-common-dir")).resolve(), Path(tell("--absolute-git-dir")).resolve()
        repository = cls(root, prefix, common, git_dir)
        if repository._git.resolve("HEAD^{commit}") is None:
            if repository._git.resolve("HEAD") is not None:
                raise ProjectError(
                    "the commit that HEAD names cannot be read: git's objects are damaged",
                    where=str(root), hint="look with: git fsck; then fetch what is missing, or clone again",
                )  # fmt: skip
            raise ProjectError(
                "the git repository has no commits yet",
                where=str(root), hint="git add -A && git commit -m 'first'",
            )  # fmt: skip
        return repository

    @property
    def project(self) -> Path:
        return self.root / self.prefix

    # --- asking ---------------------------------------------------------------------------------------------------

    def head(self) -> str:
        """The commit that is checked out."""
        return self._git.text("rev-parse", "--verify", "HEAD^{commit}")

    def dirty(self, paths: Sequence[str]) -> list[str]:
        """Files with uncommitted changes (untracked ones too) among `paths`, which may be globs or folders."""
        if not paths:
            return []
        specs = [self._pathspec(path) for path in paths]
        out = self._git.bytes_("status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--", *specs)
        names = [os.fsdecode(entry[3:]) for entry in out.split(b"\0") if entry]
        return sorted(name for name in map(self._outward, names) if name is not None)

    def commit_exists(self, commit: str) -> bool:
        return self._git.resolve(f"{commit}^{{commit}}") is not None

    def branch_commit(self, branch: str) -> str | None:
        return self._git.resolve(f"refs/heads/{branch}^{{commit}}")

    def checked_out_at(self, branch: str, *, apart_from: Path | None = None) -> Checkout | None:
        """The checkout that has `branch`, if any: moving it would look like an edit to its user.

        A branch that is being rebased or bisected there counts, a detached HEAD at its commit does not. Checkouts
        under `apart_from` are left out.
        """
        admins = {path: admin for admin, path in self._worktree_records()}
        own = self.root if self.git_dir == self.common_dir else None
        return find_checkout(self._git, branch, admins, self.common_dir, main=own, apart_from=apart_from)

    def refs(self, session: str) -> dict[int, str]:
        """Experiment number → commit, of every experiment kept reachable."""
        base = f"refs/autoresearch/{session}/"
        out = self._git.text("for-each-ref", "--format=%(objectname) %(refname)", base)
        found: dict[int, str] = {}
        for line in out.splitlines():
            sha, _, name = line.partition(" ")
            number = name.removeprefix(base)
            if number.isdecimal():
                found[int(number)] = sha
        return found

    def read(self, commit: str, path: str) -> str | None:
        """A file's text in `commit`, line ends as they are; None when not there. Raises ProjectError: not UTF-8."""
        entry = self._entries(commit, [self._inward(path)]).get(self._inward(path))
        if entry is None:
            return None
        try:
            return self._blob(entry).decode("utf-8")
        except UnicodeDecodeError:
            raise ProjectError(
                "is not UTF-8 text, and cannot be shown or edited", where=path, hint="convert it, or leave it out"
            ) from None

    def files(self, commit: str, patterns: Sequence[str]) -> list[str]:
        """Files of `commit` that match any of the patterns: names, folders, or globs with `*`, `?`, `[..]`, `**`."""
        args = ["ls-tree", "-r", "-z", "--name-only", commit]
        if self.prefix != ".":
            args += ["--", f"{self.prefix}/"]
        names = [os.fsdecode(name) for name in self._git.bytes_(*args).split(b"\0") if name]
        own = [name for name in map(self._outward, names) if name is not None]
        return sorted(name for name in own if matches(name, patterns))

    def tree(self, commit: str) -> Tree:
        """Everything in `commit`, by name."""
        return Tree(self._git.bytes_("ls-tree", "-r", "-t", "-z", "--full-tree", commit), self.prefix)

    def trees(self, commits: Iterable[str]) -> dict[str, str]:
        """Commit → the name of its tree, of those that are here. One process, however many."""
        wanted = list(dict.fromkeys(commits))
        asked = "".join(f"{commit}^{{tree}}\n" for commit in wanted).encode()
        lines = self._git.bytes_("cat-file", "--batch-check=%(objectname)", stdin=asked).decode().splitlines()
        return {commit: name for commit, name in zip(wanted, lines, strict=True) if " " not in name}

    def blobs(self, names: Iterable[str], largest: int) -> dict[str, bytes]:
        """Object name → its bytes, of those of at most `largest` bytes. Two processes, however many."""
        wanted = "".join(f"{name}\n" for name in dict.fromkeys(names)).encode()
        if not wanted:
            return {}
        sizes = (
            self._git.bytes_("cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=wanted).decode().split("\n")
        )
        small = [line.split()[0] for line in sizes if line and int(line.split()[1]) <= largest]
        out = self._git.bytes_("cat-file", "--batch", stdin="".join(f"{name}\n" for name in small).encode())
        found, at = {}, 0
        for name in small:
            start = out.index(b"\n", at) + 1
            size = int(out[at:start].split()[2])
            found[name] = out[start : start + size]
            at = start + size + 1
        return found

    def diff(self, a: str, b: str) -> str:
        """Unified diff from `a` to `b`, restricted to the project and with its paths."""
        return self._git.diff(a, b, "-p", *self._relative()).decode("utf-8", "replace")

    def numstat(self, a: str, b: str) -> Numstat:
        out = self._git.diff(a, b, "-z", "--numstat", *self._relative())
        files, added, removed = [], 0, 0
        for record in filter(None, out.split(b"\0")):
            plus, minus, name = record.split(b"\t", 2)
            files.append(os.fsdecode(name))
            added += int(plus) if plus != b"-" else 0
            removed += int(minus) if minus != b"-" else 0
        return Numstat(tuple(files), added, removed)

    # --- writing objects and refs -----------------------------------------------------------------------------------

    @outlasting
    def commit_files(self, parent: str, files: Mapping[str, str | None], message: str) -> str:
        """A commit on `parent` in which each file has the given text (None: removed). Returns its name.

        Modes are kept; a new file is a plain one. Raises EditError for a path outside the project, a symbolic link
        or a submodule.
        """
        paths = {self._inward(path): text for path, text in files.items()}
        old = self._entries(parent, list(paths))
        changes: dict[str, _Entry | None] = {}
        for path, text in paths.items():
            before = old.get(path)
            if before is not None and before.mode not in ("100644", "100755"):
                raise EditError("is a symbolic link or a submodule, and cannot be edited", where=path)
            if text is None:
                changes[path] = None
            else:
                changes[path] = _Entry(before.mode if before else "100644", self._write_blob(text.encode("utf-8")))
        return self._commit(parent, changes, message)

    @outlasting
    def set_branch(self, branch: str, commit: str) -> None:
        """Make `branch` point at `commit`. Idempotent; creates it where it is missing."""
        if self.branch_commit(branch) != commit:
            self._update_ref(f"refs/heads/{branch}", commit)

    @outlasting
    def keep_ref(self, session: str, experiment: int | str, commit: str) -> None:
        """Keep a commit reachable for ever, at refs/autoresearch/<session>/<experiment>."""
        self._update_ref(f"refs/autoresearch/{session}/{experiment}", commit)

    @outlasting
    def reapply(self, commit: str, old_parent: str, new_parent: str, message: str) -> str:
        """The change old_parent → commit, merged three ways onto `new_parent`. Returns the new commit's name.

        Raises GitConflict, naming the file, when it does not apply, and when nothing of it is left to apply.
        """
        out = self._git.diff(old_parent, commit, "-z", "--name-only")
        paths = [os.fsdecode(name) for name in out.split(b"\0") if name]
        base, mine, theirs = (self._entries(c, paths) for c in (old_parent, commit, new_parent))
        changes: dict[str, _Entry | None] = {}
        for path in paths:
            b, m, t = base.get(path), mine.get(path), theirs.get(path)
            if t == m:
                continue
            changes[path] = m if t == b else self._merge(path, b, m, t)
        if not changes:
            raise GitConflict("nothing of the change is left: the new parent already has it")
        merged = self._commit(new_parent, changes, message)
        if self._git.text("rev-parse", f"{merged}^{{tree}}") == self._git.text("rev-parse", f"{new_parent}^{{tree}}"):
            raise GitConflict("nothing of the change is left: the new parent already has it")
        return merged

    def _merge(self, path: str, base: _Entry | None, mine: _Entry | None, theirs: _Entry | None) -> _Entry:
        shown = self._outward(path) or path
        if mine is None or theirs is None:
            raise GitConflict("is removed on one side and changed on the other", where=shown)
        with tempfile.TemporaryDirectory(prefix="autoresearch-merge-") as folder:
            names = [Path(folder, name) for name in ("new-parent", "old-parent", "change")]
            for name, entry in zip(names, (theirs, base, mine), strict=True):
                name.write_bytes(self._blob(entry) if entry else b"")
            status, merged, error = self._git.run("merge-file", "-p", *map(str, names))
        if status < 0 or status > 127:
            raise GitConflict(f"cannot be merged: {reason(error)}", where=shown)
        if status > 0:
            places = "one place" if status == 1 else f"{status} places"
            raise GitConflict(f"the change does not apply on the new parent: they differ in {places}", where=shown)
        return _Entry(theirs.mode if mine.mode == (base or mine).mode else mine.mode, self._write_blob(merged))

    def _commit(self, parent: str, changes: Mapping[str, _Entry | None], message: str) -> str:
        zero = "0" * len(self._git.text("rev-parse", "--verify", f"{parent}^{{commit}}"))
        lines = [
            f"{entry.mode} {entry.blob}\t{path}" if entry else f"0 {zero}\t{path}" for path, entry in changes.items()
        ]
        with tempfile.TemporaryDirectory(prefix="autoresearch-index-") as folder:
            env = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
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
            hint = "see `git branch -a`; another branch may be in the way of the name"
            if not self.commit_exists(commit):
                hint = "its commit is gone: fetch it back, or start another session with --session NAME"
            raise LabError(f"git cannot move {ref}: {reason(error)}", where=str(self.root), hint=hint)

    # --- worktrees --------------------------------------------------------------------------------------------------

    @outlasting
    def add_worktree(self, path: Path, commit: str) -> Path:
        """A fresh detached checkout of `commit` at `path`, whatever was there before. Returns the project in it.

        An existing folder is made anew, not reset: what a run left there (altered times, nested repositories, a
        forged .git) is never trusted.
        """
        path = path.absolute()
        with self._worktrees:
            self._forget_worktree(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            status, _, error = self._git.run("worktree", "add", "--force", "--detach", str(path), commit)
            if status:
                raise LabError(f"git cannot check out {commit[:10]}: {reason(error)}", where=str(path))
        return path / self.prefix

    def remove_worktree(self, path: Path) -> None:
        """Remove a worktree and git's record of it. Idempotent."""
        with self._worktrees:
            self._forget_worktree(path.absolute())

    def prune(self, folder: Path) -> list[Path]:
        """Forget worktrees under `folder` whose files are gone; other people's stale ones are left alone."""
        gone = []
        with self._worktrees:
            for admin, path in self._worktree_records():
                if path.is_relative_to(folder.absolute()) and not path.exists():
                    remove_tree(admin)
                    gone.append(path)
        return gone

    def worktrees(self, folder: Path) -> list[Path]:
        """Worktrees that git knows under `folder`."""
        return sorted(path for _, path in self._worktree_records() if path.is_relative_to(folder.absolute()))

    def _worktree_records(self) -> list[tuple[Path, Path]]:
        records = []
        for gitdir in sorted((self.common_dir / "worktrees").glob("*/gitdir")):
            text = gitdir.read_text(errors="surrogateescape").strip()
            # git 2.48 may write a path relative to the admin folder.
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
        """Hide what matches `pattern` from git in this clone only (.git/info/exclude). Idempotent."""
        file = self.common_dir / "info" / "exclude"
        text = file.read_text(errors="surrogateescape") if file.exists() else ""
        if pattern in text.splitlines():
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        gap = "" if not text or text.endswith("\n") else "\n"
        file.write_text(f"{text}{gap}{pattern}\n", errors="surrogateescape")

    def in_clone_ignored(self, path: str) -> bool:
        """True when git already ignores `path` (relative to the project) here."""
        status, _, _ = self._git.run("check-ignore", "-q", "--no-index", "--", self._inward(path))
        return status == 0

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

    def _relative(self) -> tuple[str, ...]:
        return () if self.prefix == "." else (f"--relative={self.prefix}/",)

    # --- objects ----------------------------------------------------------------------------------------------------

    def _entries(self, commit: str, paths: Iterable[str]) -> dict[str, _Entry]:
        """Mode and blob of each path that is a file in `commit`."""
        wanted = list(paths)
        if not wanted:
            return {}
        out = self._git.bytes_("--literal-pathspecs", "ls-tree", "-r", "-z", "--full-tree", commit, "--", *wanted)
        found = {}
        for record in filter(None, out.split(b"\0")):
            head, _, name = record.partition(b"\t")
            mode, _, blob = head.decode().split(" ")
            found[os.fsdecode(name)] = _Entry(mode, blob)
        return {path: found[path] for path in wanted if path in found}

    def _blob(self, entry: _Entry) -> bytes:
        return self._git.bytes_("cat-file", "blob", entry.blob)

    def _write_blob(self, data: bytes) -> str:
        return self._git.bytes_("hash-object", "-w", "--no-filters", "--stdin", stdin=data).decode().strip()


def _cannot_open(project: Path, stderr: str) -> ProjectError:
    text = stderr.strip()
    if "dubious ownership" in text:
        match = re.search(r"repository at '([^']+)'", text)
        place = match[1] if match else str(project)
        return ProjectError(
            "the git repository belongs to another user, and git will not use it",
            where=place, hint=f"git config --global --add safe.directory '{place}'",
        )  # fmt: skip
    broken = next((place for place in (project, *project.parents) if (place / ".git" / "objects").is_dir()), None)
    if "not a git repository" in text and broken is not None:
        return ProjectError(
            "git does not know the repository here for one: its HEAD or configuration is broken",
            where=str(broken / ".git"),
            hint="put .git/HEAD right (it holds a line such as `ref: refs/heads/main`), or clone again",
        )
    if "not a git repository" in text:
        return ProjectError(
            "this is not a git repository: every experiment is a commit, so there must be one",
            where=str(project), hint="git init && git add -A && git commit -m 'first'",
        )  # fmt: skip
    if "must be run in a work tree" in text or "cannot use bare repository" in text:
        if ".git" in project.parts:
            return ProjectError("this folder is git's own", where=str(project), hint="start in the project's folder")
        return ProjectError(
            "this is a bare git repository: it has no files to work on",
            where=str(project), hint="clone it, and start in the clone",
        )  # fmt: skip
    return ProjectError(
        f"git cannot open the repository: {reason(text)}",
        where=str(project), hint=f"mend what git says, until it is content with: git -C '{project}' status",
    )  # fmt: skip
