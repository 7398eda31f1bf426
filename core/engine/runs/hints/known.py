"""What is known here about a command that crashed: the project, the user's shell, git, and what the sandbox shows"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from core.git import Git
from core.lab.git.repository import Repository
from core.lab.sandbox.tiers import SYSTEM
from core.record.errors import AutoresearchError
from core.text import toml_text

_TWO_COMMANDS = re.compile(r"[;&|\n]")
_PYTHON = re.compile(r"(?<![\w./-])(?:[\w./~-]*/)?python[\d.]*(?=\s)")
_PROJECT_TOOL = re.compile(r"^(?:uv|poetry|pdm|pipenv|hatch|pixi|conda) run (?:-\S+ )*(?:python[\d.]* )?")
WRITABLE = (
    "a run can write only below the folder where it starts, $AUTORESEARCH_RUN_DIR and $TMPDIR, and not into `inputs`: "
    "let the code write there"
)
_LARGEST_SOURCE = 1 << 20
MAX_WALKED = 20_000  # files of folders that git ignores


@dataclass(frozen=True, kw_only=True)
class Crash:
    """A command that failed. `reason`: its one sentence; `output`: the end of what it printed."""

    reason: str
    output: str = ""

    @property
    def last(self) -> str:
        """The reason and the last lines of the output."""
        return "\n".join((self.reason, *self.output.splitlines()[-30:]))


@dataclass(frozen=True, kw_only=True)
class Known:
    """Facts about the command. `key`: its key in program.md; `worktree`: the project's folder where it ran; `private`:
    its private home; `passed`: its environment; `shell`: the user's; `code`: the editable files, path → text.
    """

    project: Path
    worktree: Path
    private: Path
    key: str
    command: str
    passed: Mapping[str, str]
    shell: Mapping[str, str]
    inputs: tuple[str, ...] = ()
    readable: tuple[Path, ...] = ()
    network: bool = False
    tier: str = "A"
    slots: tuple[str, ...] = ()
    code: Mapping[str, str] = field(default_factory=dict)

    # --- the project's files ---

    def _listed(self, *options: str) -> tuple[str, ...]:
        try:
            out = Git(self.project).bytes_("ls-files", "-z", *options)
        except AutoresearchError:
            return ()
        return tuple(os.fsdecode(name) for name in out.split(b"\0") if name)

    @cached_property
    def tracked(self) -> tuple[str, ...]:
        """All files of the repository in git, relative to the project: those outside it begin with `..`."""
        try:
            top = Path(Git(self.project).text("rev-parse", "--show-toplevel"))
        except AutoresearchError:
            return ()
        inside = os.path.relpath(self.project.resolve(), top)
        names = self._listed("--full-name", ":/")
        return names if inside == "." else tuple(os.path.relpath(name, inside) for name in names)

    @cached_property
    def ignored(self) -> tuple[str, ...]:
        """Files and folders (ending with /) of the project that git ignores, apart from the sessions."""
        found = self._listed("--others", "--ignored", "--exclude-standard", "--directory")
        return tuple(name for name in found if name.partition("/")[0] not in ("sessions", "__pycache__"))

    @cached_property
    def untracked(self) -> tuple[str, ...]:
        """Files and folders (ending with /) of the project that git neither holds nor ignores."""
        return self._listed("--others", "--exclude-standard", "--directory")

    @cached_property
    def empty_submodules(self) -> tuple[str, ...]:
        """Submodules that the user's own checkout has not filled, relative to the project."""
        try:
            repo = Repository.open(self.project)
            return tuple(repo.uninitialized_submodules(repo.head()))
        except AutoresearchError:
            return ()

    def mentions(self, word: str) -> bool:
        """Whether the project's files in git have the word, in the user's own checkout."""
        try:
            return Git(self.project).run("grep", "-q", "-w", "-F", "-e", word).status == 0
        except AutoresearchError:
            return False

    def inside(self, named: str) -> str | None:
        """A path that an output names, relative to the project; None for one that lies elsewhere."""
        path = os.path.normpath(named)
        for top in (self.worktree, self.project):
            if Path(path).is_relative_to(top):
                path = os.path.relpath(path, top)
                break
        return None if path.startswith(("/", "..", "~")) or path == "." else path

    def outside(self, named: str) -> Path | None:
        """A path that an output names, as the user has it, when it lies outside the project; else None."""
        path = Path(os.path.normpath(named))
        if path.is_relative_to(self.private):
            path = self.home / path.relative_to(self.private)
        elif named.startswith("~/"):
            path = self.home / named[2:]
        within = any(path.is_relative_to(top) for top in (self.worktree, self.project, Path("/proc"), Path("/dev")))
        return None if within or not path.is_absolute() else path

    @property
    def home(self) -> Path:
        return Path(self.shell.get("HOME") or Path.home())

    def shown(self, path: Path) -> bool:
        """Whether the sandbox shows the path to the command."""
        if self.tier == "C":
            return True
        roots = (*map(Path, SYSTEM), *self.readable, *((self.project / name).resolve() for name in self.inputs))
        return any(path.is_relative_to(root) for root in roots)

    def ignored_files(self) -> Iterable[str]:
        """Files below the folders that git ignores, relative to the project; the first thousands of them."""
        seen = 0
        for name in self.ignored:
            if not name.endswith("/"):
                yield name
                continue
            for folder, folders, files in os.walk(self.project / name):
                folders[:] = [inner for inner in folders if inner not in (".git", "__pycache__")]
                for file in files:
                    if (seen := seen + 1) > MAX_WALKED:
                        return
                    yield os.path.relpath(f"{folder}/{file}", self.project)

    @cached_property
    def sources(self) -> str:
        """The text of the editable files and of the script that the command names."""
        texts = dict(self.code)
        for word in self.words:
            texts.setdefault(word, self.text(word))
        return "\n".join(texts.values())

    def text(self, name: str) -> str:
        """A file of the project; "" for one that is not there, or is no source."""
        path = self.project / name
        readable = self.inside(name) is not None and path.is_file() and path.stat().st_size < _LARGEST_SOURCE
        return path.read_text(errors="replace") if readable else ""

    # --- the command ---

    @property
    def words(self) -> list[str]:
        try:
            return shlex.split(self.command)
        except ValueError:
            return self.command.split()

    @cached_property
    def interpreter(self) -> str | None:
        """The Python that the command runs, as the command finds it."""
        named = _PYTHON.search(f"{self.command} ")
        name = named[0] if named else "python"
        return shutil.which(name, path=self.passed.get("PATH")) or shutil.which("python3", path=self.passed.get("PATH"))

    # --- lines of program.md ---

    def write_inputs(self, *names: str) -> str:
        """The step that makes `names` inputs."""
        listed = json.dumps(list(dict.fromkeys((*self.inputs, *names))), ensure_ascii=False)
        return f"write inputs = {listed} into program.md"

    def write_command(self, command: str) -> str:
        """The step that replaces the command."""
        table, _, key = self.key.rpartition(".")
        below = f" below [{table}]" if table else ""
        return f"write {key} = {toml_text(command)}{below} into program.md"

    def write_variables(self, values: Mapping[str, str]) -> str:
        """The step that gives the command variables; a value stands as the shell reads it."""
        given = " ".join(f"{name}={value}" for name, value in values.items())
        return self.write_command(
            f"export {given}; {self.command}" if is_compound(self.command) else f"{given} {self.command}"
        )

    def write_python(self, python: str) -> str:
        """The step that runs the command with another Python."""
        if tool := _PROJECT_TOOL.match(self.command):
            return self.write_command(f"{shlex.quote(python)} {self.command[tool.end() :]}")
        return self.write_command(_PYTHON.sub(lambda _: shlex.quote(python), f"{self.command} ").rstrip())


def is_compound(command: str) -> bool:
    """Whether a command is several for the shell: a variable before it is the first one's only."""
    return _TWO_COMMANDS.search(command) is not None
