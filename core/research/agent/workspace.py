"""Where a coding agent works: a copy of the code in a sandbox, made and run by whoever owns git and the sandbox.

The researcher `command` knows only these shapes; the engine fills them (`core/engine/proposing/agent_workspace.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Order:
    """One run of a command-line program. `silence` and `limit` in seconds: without any output, and at all.

    `home` names a private home folder that lasts from one run to the next; `home_files` are copied into it from the
    person's own (paths from there), for a login. `env` goes over an environment without secrets.
    """

    argv: tuple[str, ...]
    stdin: str | None
    env: Mapping[str, str]
    home: str
    home_files: tuple[str, ...] = ()
    silence: float = 600.0
    limit: float = 3600.0


@dataclass(frozen=True, slots=True)
class Done:
    """How it ended: by itself (`done`), silent for too long, or longer than it may."""

    exit_code: int
    ended: Literal["done", "silent", "slow"]
    seconds: float


@dataclass(frozen=True, slots=True)
class Changes:
    """What a run left. Whatever was not to be changed has been put back when this is told.

    `files`: editable path → new text. `wrong`: editable path → why it cannot be taken. `outside`: other files of the
    project that were changed or removed. `said`: the file HYPOTHESIS, empty when there is none.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)
    outside: tuple[str, ...] = ()
    said: str = ""


class Bench(Protocol):
    """A copy of one experiment's code, with a git repository of its own, for one proposal."""

    @property
    def prompt_file(self) -> Path:
        """Where `write_prompt` puts the prompt; readable in the sandbox."""
        ...

    async def run(self, order: Order, prompt: str, hear: Callable[[bytes], None]) -> Done:
        """Run a program in it, sandboxed, with the network. Cancelling ends all that it started.

        Raises ResearcherMisconfigured when the program is not there, LabError when the sandbox cannot be made.
        """
        ...

    async def changes(self) -> Changes: ...

    async def close(self) -> None: ...


class Workshop(Protocol):
    async def open(self) -> Bench:
        """A bench with the code that the experiment starts from. Raises LabError."""
        ...
