"""The one shape behind which every researcher stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from core.program.program import Program
from core.record.proposal import Proposal, Usage
from core.record.state import State
from core.research.agent.workspace import Workshop
from core.research.notebook import Notebook
from core.research.reading.papers import Library


def _no_text(experiment: int) -> str:
    return ""


def _no_curve(experiment: int) -> Sequence[tuple[float, float]]:
    return ()


@dataclass(frozen=True, slots=True)
class Brief:
    """All a researcher is told for one experiment.

    `check` applies a proposal to the parent's files in memory and raises EditError (with words and nearest lines for
    the researcher) when it touches other files, has no effect, does not apply or does not parse; it returns the new
    text of each changed file. A researcher that can answer should call it and mend; the engine calls it again anyway.
    """

    experiment: int
    parent: int
    program: Program
    files: Mapping[str, str]  # editable files, path -> text, as they are at the parent
    read_files: Mapping[str, str]
    state: State  # a snapshot: do not change it
    check: Callable[[Proposal], Mapping[str, str]]
    diff_of: Callable[[int], str]  # an earlier experiment's diff
    log_tail_of: Callable[[int], str]  # the end of an earlier experiment's last run, control characters stripped
    guidance: tuple[str, ...] = ()
    feedback: str = ""  # why the last proposal of this very experiment was turned down after `check`
    device: str = "cpu"
    run_budget: str = ""
    info: Mapping[str, object] = field(default_factory=dict)  # what `prepare` said of the data
    ideas: tuple[str, ...] = ()  # the person's, to be tried as the next experiment
    rationale_of: Callable[[int], str] = _no_text  # an earlier experiment's reasoning, as proposed
    curve_of: Callable[[int], Sequence[tuple[float, float]]] = _no_curve  # (step, loss) of its last run, as printed
    notebook: Notebook = field(default_factory=Notebook)
    workshop: Workshop | None = None  # where a command-line program can work
    papers: Library | None = None  # the project's folder of papers, and arXiv


class Stream(Protocol):
    """Where a researcher thinks aloud. Calls are cheap and never block."""

    def thinking(self, text: str) -> None: ...
    def text(self, text: str) -> None: ...
    def tool(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...
    def usage(self, usage: Usage) -> None: ...

    async def before_asking(self) -> None:
        """Awaited before every try at an answer: the thought ends here when the budget does not allow another."""

    def refused(self, attempt: int, reason: str) -> None:
        """A proposal was turned down by `check` and is being mended."""

    async def wait(self, reason: str, seconds: float, attempt: int) -> None:
        """Sleep visibly before another try (rate limit, network). Cancellable."""


class Researcher(Protocol):
    """Proposes one experiment at a time. `propose` may be cancelled at any await and called again."""

    name: str
    model: str | None
    mends: bool  # whether a proposal that crashed may be handed back to it, with the end of the output

    def ended(self, state: State, experiment: int) -> str | None:
        """Why there is nothing more to propose, asked before `experiment` begins; None from all but a finite script."""
        ...

    async def propose(self, brief: Brief, stream: Stream) -> Proposal:
        """Raises ScriptEnded, ProposalFailed (tried and got nothing usable) or ResearcherMisconfigured."""
        ...

    async def close(self) -> None: ...
