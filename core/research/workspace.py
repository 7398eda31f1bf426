"""Workspace of a coding agent: a sandboxed copy of the code, as protocols that the engine implements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRun:
    """One run of a coding agent. Seconds: `silence` without any output, `limit` in all.

    `home` names a private home folder that is kept between runs; `home_files` (paths below the user's home) are copied
    into it, for a login. `env` is added to an environment without secrets.
    """

    argv: tuple[str, ...]
    stdin: str | None
    env: Mapping[str, str]
    home: str
    home_files: tuple[str, ...] = ()
    silence: float = 600.0
    limit: float = 3600.0


@dataclass(frozen=True, slots=True)
class AgentExit:
    """End of a run: by itself (`done`), after too long without output (`silent`), or at its time limit (`slow`)."""

    exit_code: int
    ended: Literal["done", "silent", "slow"]
    seconds: float


@dataclass(frozen=True, slots=True)
class AgentChanges:
    """File changes of a run. Everything that was not allowed has been restored already.

    `files`: editable path -> new text. `wrong`: editable path -> why it cannot be used. `outside`: other files of the
    project that were changed or removed. `hypothesis`: text of the file HYPOTHESIS, empty when there is none.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)
    outside: tuple[str, ...] = ()
    hypothesis: str = ""


class Workspace(Protocol):
    """A copy of one experiment's code with its own git repository, for one proposal."""

    @property
    def prompt_file(self) -> Path:
        """File of the prompt that `run` writes; readable in the sandbox."""

    async def run(self, run: AgentRun, prompt: str, hear: Callable[[bytes], int | None]) -> AgentExit:
        """Run an agent in the sandbox, with network access. Cancelling ends every process it started. `hear` returns
        an exit code once the agent has given its result: what it still waits for is then ended.

        Raises ResearcherMisconfigured when the program is missing, LabError when the sandbox cannot be set up.
        """

    async def changes(self) -> AgentChanges: ...

    async def close(self) -> None: ...


class WorkspaceFactory(Protocol):
    async def open(self) -> Workspace:
        """A new workspace with the parent's code. Raises LabError."""
