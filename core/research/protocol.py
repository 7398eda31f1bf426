"""The Researcher protocol, the Brief of one experiment, and the Stream that a researcher reports to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from core.program.program import Program
from core.record.proposal import Proposal, Usage
from core.record.state import State
from core.research.notebook import Notebook
from core.research.reading.papers import Library
from core.research.workspace import WorkspaceFactory


@dataclass(frozen=True, slots=True)
class Brief:
    """Everything a researcher is given for one experiment.

    `check` applies a proposal to the parent's files in memory and returns the new text of each changed file. It raises
    EditError, worded for the researcher, when the proposal touches other files, has no effect, does not apply or does
    not parse. A researcher that can answer should call it and correct the proposal; the engine calls it again anyway.
    """

    experiment: int
    parent: int
    program: Program
    files: Mapping[str, str]  # editable files of the parent, path -> text
    read_files: Mapping[str, str]
    state: State  # a snapshot: do not change it
    check: Callable[[Proposal], Mapping[str, str]]
    diff_of: Callable[[int], str]  # diff of an earlier experiment
    log_tail_of: Callable[[int], str]  # end of the output of an experiment's last run, without control characters
    guidance: tuple[str, ...] = ()
    feedback: str = ""  # why the last proposal for this experiment was refused after `check`
    device: str = "cpu"
    run_budget: str = ""
    info: Mapping[str, object] = field(default_factory=dict)  # facts about the data, from `prepare`
    ideas: tuple[str, ...] = ()  # the user's, to be tested by the next experiment
    rationale_of: Callable[[int], str] = lambda experiment: ""  # rationale of an earlier experiment
    curve_of: Callable[[int], Sequence[tuple[float, float]]] = lambda experiment: ()  # (step, loss), as printed
    notebook: Notebook = field(default_factory=Notebook)
    workspaces: WorkspaceFactory | None = None  # for a coding agent
    papers: Library | None = None  # the project's folder of papers, and arXiv
    thinking: Mapping[int, str] = field(default_factory=dict)  # others in the making -> hypothesis so far, "" at first

    def readable(self) -> dict[str, str]:
        """Every file that the researcher may read, path -> text."""
        return {**self.read_files, **self.files}


class Stream(Protocol):
    """Receives a researcher's reasoning as it arrives. Calls are cheap and never block."""

    def thinking(self, text: str) -> None: ...
    def text(self, text: str) -> None: ...
    def tool(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...

    def warn(self, text: str) -> None:
        """As `note`, and into the session's log: the person must do something."""

    def usage(self, usage: Usage) -> None: ...

    async def before_asking(self) -> None:
        """Awaited before every request. Does not return when the budget allows no further request."""

    def refused(self, attempt: int, reason: str) -> None:
        """`check` refused a proposal, and the researcher corrects it."""

    async def wait(self, reason: str, seconds: float, attempt: int) -> None:
        """Sleep before the next request (rate limit, network), shown on the screen. Cancellable."""


class Researcher(Protocol):
    """Proposes experiments. `propose` may be cancelled at any await and called again, and where `minds` is more than
    one, called for several experiments at once.
    """

    name: str
    model: str | None = None
    can_repair: bool = False  # whether a proposal that crashed may be returned to it, with the end of the output
    can_revise: bool = True  # whether one that no longer applies may be returned to it
    minds: int = 1  # proposals that it makes at once, at most, unless program.md says otherwise

    def ended(self, state: State, experiment: int) -> str | None:
        """Why no proposal is left for `experiment`, asked before it begins. None except for a finite script."""
        return None

    async def propose(self, brief: Brief, stream: Stream) -> Proposal:
        """Raises ScriptEnded, ProposalFailed (no usable proposal after every attempt) or ResearcherMisconfigured."""

    async def close(self) -> None:
        """Release the connection, if there is one."""
        return None
