"""Workspace of a coding agent: a copy of the parent's code, in a sandbox with network access.

The copy has a git repository of its own, so that git commands of an agent do not reach the user's repository. Files
that may not be edited are mounted read-only in tier A; in every tier they are compared afterwards and restored.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path

from core.edits.apply import MAX_BYTES, is_path
from core.edits.globs import matches
from core.engine.runs.workplace import Workplace
from core.engine.session_settings import SessionSettings
from core.engine.startup.setup import Setup
from core.git import Git
from core.lab import environment
from core.lab.agent_process import kill_agent, run_agent
from core.lab.sandbox import tiers
from core.lab.shim.rmtree import remove_tree
from core.record.errors import GitError, LabError, ProjectError, ResearcherMisconfigured
from core.research.workspace import AgentChanges, AgentExit, AgentRun, Workspace
from core.session.homes import state_home
from core.text import printable

HYPOTHESIS_FILE = "HYPOTHESIS"  # in which an agent describes its change
MAX_HYPOTHESIS_CHARACTERS = 20_000
MAX_READ_ONLY_MOUNTS = 400  # a project that needs more is only compared
MAX_SEARCHED_FILES = 20_000  # in the search for new ones
MAX_HASHED_BYTES = 4 << 20  # a larger file is compared by size and time
GIT_SECONDS = 60.0
_IDENTITY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "researcher"), ("EMAIL", "researcher@localhost"))
}


@dataclass(frozen=True, slots=True)
class _KnownFile:
    """State of a file before the agent ran."""

    size: int
    time: int
    sha: str  # empty for a file too large to be read


@dataclass(eq=False)
class EngineWorkspace:
    """Workspace of one experiment, and its factory: opened again, it holds the code of `commit` as at first."""

    setup: Setup
    settings: SessionSettings
    place: Workplace
    experiment: int
    commit: str

    def __post_init__(self) -> None:
        self._base = self.setup.paths.worktrees / f"agent-{self.experiment}"
        self._top = self._base / "tree" / self.setup.repo.prefix
        self._known: dict[str, _KnownFile] = {}

    async def open(self) -> Workspace:
        await asyncio.to_thread(self.create)
        return self

    @property
    def prompt_file(self) -> Path:
        return self._base / "prompt.md"

    # --- creation ---

    def create(self) -> None:
        """Check out the commit into `tree`, link the inputs, create the git repository, and record all files."""
        repo, checkout = self.setup.repo, self._base / "checkout"
        kill_agent(str(self._base))
        repo.remove_worktree(checkout)
        remove_tree(self._base)
        self.place.checkout(checkout, self.commit, to_read=True)
        checkout.rename(self._base / "tree")
        repo.remove_worktree(checkout)  # git's record of the worktree
        remove_tree(self._base / "tree" / ".git")
        (self._base / "tmp").mkdir()
        found = {path: _known(self._top, path) for path in self._plain_files()}
        self._known = {path: known for path, known in found.items() if known is not None}
        self._own_repository()

    def _plain_files(self) -> Iterator[str]:
        for folder, folders, names in os.walk(self._top):
            folders[:] = [name for name in folders if name != ".git"]
            for name in names:
                path = Path(folder, name)
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path.relative_to(self._top).as_posix()

    def _own_repository(self) -> None:
        """A git repository for the agent, as far as git works here."""
        git = Git(self._base / "tree", seconds=GIT_SECONDS)
        env = {**_IDENTITY, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
        with contextlib.suppress(GitError):
            git.bytes_("init", "-q", "--template=", "--initial-branch=main", env=env)
            git.bytes_("add", "-A", env=env)
            git.bytes_("commit", "-q", "-m", "as it stands", env=env)

    # --- runs ---

    async def run(self, run: AgentRun, prompt: str, hear: Callable[[bytes], int | None]) -> AgentExit:
        """Raises ResearcherMisconfigured when the program is not there, LabError when it cannot be started."""
        env = await asyncio.to_thread(self._environment, run)
        argv = self._found(run, env)
        self.prompt_file.write_text(prompt, encoding="utf-8", errors="replace")
        spec = self._sandbox(argv, env)
        try:
            command = tiers.command(spec, argv)
        except LabError:
            await self.place.broken_sandbox()
            raise
        try:
            done = await run_agent(
                command, cwd=self._top, env=env, hear=hear, silence=run.silence, limit=run.limit,
                stdin=self.prompt_file if run.stdin is not None else None, mark=str(self._base),
                off_clock=self.place.off_clock(self._base.name),
            )  # fmt: skip
        except OSError as error:
            raise LabError(f"{argv[0]}: {error.strerror or error}") from error
        if done.exit_code:
            await self.place.broken_sandbox()
        return AgentExit(done.exit_code, done.ended, done.seconds)

    def _found(self, run: AgentRun, env: dict[str, str]) -> list[str]:
        """argv with the program's full path. Raises ResearcherMisconfigured."""
        name = run.argv[0]
        own = self.setup.project / name
        found = str(own) if "/" in name and os.access(own, os.X_OK) else shutil.which(name, path=env["PATH"])
        if found is None:
            raise ResearcherMisconfigured(
                f"the program {name!r} is not found", where="command",
                hint=f"install it so that `which {name}` finds it, or choose another with --model",
            )  # fmt: skip
        return [found, *run.argv[1:]]

    def _environment(self, run: AgentRun) -> dict[str, str]:
        """Environment with a private home, without a GPU, and without secrets except those the run needs."""
        home = state_home() / "homes" / run.home.replace("/", "_")
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in run.home_files:
            _copy_newer(Path.home() / name, home / name)
        return {
            **self.setup.environment, **self.setup.imports.variables(self._base / "tree"),
            **_IDENTITY, "CUDA_VISIBLE_DEVICES": "", **run.env, "HOME": str(home),
            "TMPDIR": "/tmp" if self.setup.sandbox.tier == "A" else str(self._base / "tmp"), "CI": "1", "TERM": "dumb",
        }  # fmt: skip

    def _sandbox(self, argv: list[str], env: dict[str, str]) -> tiers.SandboxSpec:
        roots = [*environment.readable_roots(env, argv[:1]), *_packages(Path(argv[0]))]
        roots += [Path(word) for word in argv[1:] if word.startswith("/") and Path(word).is_file()]
        spec = self.place.sandbox_of(self._base)
        return replace(
            spec, network=True, readable=(*spec.readable, *roots, *self._frozen()), writable=(Path(env["HOME"]),),
            tmp=self._base / "tmp",
        )  # fmt: skip

    def _frozen(self) -> list[Path]:
        """Paths to mount read-only: files, or whole folders without editable files. Empty when there are too many."""
        edit, found = self.settings.program.edit, list[Path]()
        starts = [_fixed_start(pattern) for pattern in edit]

        def visit(folder: str) -> None:
            for entry in os.scandir(self._top / folder):
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_symlink() or entry.name == ".git":
                    continue
                if entry.is_dir():
                    inside = any(start.startswith(f"{path}/") or f"{path}/".startswith(start) for start in starts)
                    if inside or any(matches(known, edit) for known in self._known if known.startswith(f"{path}/")):
                        visit(path)
                    else:
                        found.append(self._top / path)
                elif path in self._known and not matches(path, edit):
                    found.append(self._top / path)

        visit("")
        return found if len(found) <= MAX_READ_ONLY_MOUNTS else []

    # --- changes ---

    async def changes(self) -> AgentChanges:
        return await asyncio.to_thread(self._changes)

    def _changes(self) -> AgentChanges:
        edit = self.settings.program.edit
        changed: dict[str, bytes] = {}
        wrong: dict[str, str] = {}
        outside: list[str] = []
        for path, known in self._known.items():
            now = _known(self._top, path)
            if now is not None and (now == known or (now.sha and now.sha == known.sha)):
                continue
            if not matches(path, edit) or not is_path(path):
                outside.append(printable(path))
            elif now is None:
                wrong[path] = "was removed, or is no regular file any more"
            elif (data := _read(self._top, path)) is None:
                wrong[path] = "is not UTF-8 text any more, or too large"
            else:
                changed[path] = data
        for path in self._new():
            if matches(path, edit) and is_path(path) and (data := _read(self._top, path)) is not None:
                changed[path] = data
        files = self._texts(changed, wrong)
        hypothesis = _read(self._top, HYPOTHESIS_FILE)
        if wrong or outside:
            self.create()
        else:
            remove_tree(self._top / HYPOTHESIS_FILE)
        said = (hypothesis or b"").decode("utf-8", "replace")[:MAX_HYPOTHESIS_CHARACTERS]
        return AgentChanges(files, wrong, tuple(sorted(outside)), said)

    def _texts(self, changed: Mapping[str, bytes], wrong: dict[str, str]) -> dict[str, str]:
        """The text of each changed file as git stores it; a file that has none is added to `wrong`.

        The copy is a checkout: its line ends, for one, may be others than those in the commit.
        """
        try:
            stored = self.setup.repo.stored_as(self.commit, changed)
        except LabError as error:
            wrong.update(dict.fromkeys(changed, f"cannot be stored: {error.what}"))
            return {}
        texts: dict[str, str] = {}
        for path, data in stored.items():
            try:
                texts[path] = data.decode("utf-8")
            except UnicodeDecodeError:
                if path in self._known:  # a new file that is no text is left out
                    wrong[path] = "is not UTF-8 text any more, or too large"
        return {path: text for path, text in texts.items() if text != self._committed(path)}

    def _committed(self, path: str) -> str | None:
        """Text of the file in the commit; None when it is missing there, or no text."""
        with contextlib.suppress(ProjectError):
            return self.setup.repo.read(self.commit, path)
        return None

    def _new(self) -> Iterator[str]:
        """New files, without hidden ones, caches and packages."""
        seen = 0
        for folder, folders, names in os.walk(self._top):
            folders[:] = sorted(n for n in folders if not n.startswith((".", "__pycache__", "node_modules")))
            for name in sorted(names):
                seen += 1
                path = Path(folder, name).relative_to(self._top).as_posix()
                litter = name.startswith(".") or path == HYPOTHESIS_FILE or path in self._known
                if not litter:
                    yield path
            if seen > MAX_SEARCHED_FILES:
                return

    async def close(self) -> None:
        await asyncio.shield(asyncio.to_thread(remove_tree, self._base))


def _known(top: Path, path: str) -> _KnownFile | None:
    """None where it is no regular file."""
    try:
        with _opened(top, path) as file:
            status = os.fstat(file.fileno())
            sha = hashlib.file_digest(file, "sha256").hexdigest() if status.st_size <= MAX_HASHED_BYTES else ""
        return _KnownFile(status.st_size, status.st_mtime_ns, sha)
    except OSError:
        return None


def _read(top: Path, path: str) -> bytes | None:
    """Bytes of a file; None when it is no regular file, cannot be read, or is too large for an edit."""
    try:
        with _opened(top, path) as file:
            data = file.read(MAX_BYTES + 1)
        return data if len(data) <= MAX_BYTES else None
    except OSError:
        return None


def _opened(top: Path, path: str) -> BufferedReader:
    """A regular file below `top`, reached through no symbolic link, whatever is exchanged meanwhile. Raises OSError."""
    place = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        parts = Path(path).parts
        for number, part in enumerate(parts, 1):
            kind = os.O_DIRECTORY if number < len(parts) else os.O_NONBLOCK
            inner = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=place)
            os.close(place)
            place = inner
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", path)
        return os.fdopen(place, "rb")
    except OSError:
        os.close(place)
        raise


def _fixed_start(pattern: str) -> str:
    """The part of a glob before its first special character."""
    plain = pattern.lstrip("!").removeprefix("./")
    cut = min((plain.find(sign) for sign in "*?[" if sign in plain), default=len(plain))
    return plain[:cut]


def _copy_newer(source: Path, target: Path) -> None:
    """Copy a person's file into the private home, unless the one there is newer (a renewed login)."""
    with contextlib.suppress(OSError):
        if not source.is_file() or (target.exists() and target.stat().st_mtime >= source.stat().st_mtime):
            return
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy2(source, target)
        target.chmod(0o600)


def _packages(program: Path) -> list[Path]:
    """Folders of Node packages that a program belongs to, through every symbolic link."""
    found = []
    for _ in range(16):
        parts = program.parts
        if "node_modules" in parts:
            found.append(Path(*parts[: parts.index("node_modules") + 1]))
        if not program.is_symlink():
            break
        program = Path(os.path.normpath(program.parent / program.readlink()))
    return found
