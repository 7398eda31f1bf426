"""Facts that a person's requests make: guidance, approvals, and what a running session was told to do differently.

They belong to `core.record.events`, which names them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    experiment: int


@dataclass(frozen=True, slots=True)
class ApprovalGiven:
    experiment: int
    approved: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalModeChanged:
    """Whether each proposal waits for a person before it runs."""

    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidanceQueued:
    """Words for the next researcher. `idea`: something of the person's to be tried as the next experiment."""

    guidance: int
    text: str
    standing: bool = False
    idea: bool = False


@dataclass(frozen=True, slots=True)
class GuidanceEdited:
    guidance: int
    text: str


@dataclass(frozen=True, slots=True)
class GuidanceTaken:
    guidance: int
    experiment: int


@dataclass(frozen=True, slots=True)
class GuidanceWithdrawn:
    guidance: int


@dataclass(frozen=True, slots=True)
class BaseChanged:
    """Proposals build on this experiment from now on, kept or not. None: on the best again."""

    experiment: int | None


@dataclass(frozen=True, slots=True)
class PinChanged:
    """A pinned experiment is never built on: it does not lead, whatever its number."""

    experiment: int
    pinned: bool


@dataclass(frozen=True, slots=True)
class BranchHeld:
    """The session's branch stays behind the best while the user has it checked out."""

    words: str  # where, and how to let it go; "" once it is at the best again


@dataclass(frozen=True, slots=True)
class ResearcherChanged:
    """Who proposes from the next experiment on."""

    researcher: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class BudgetChanged:
    """What the session may spend from now on: `hours`, `experiments`, `usd`; None is no limit."""

    budget: Mapping[str, float | int | None]


@dataclass(frozen=True, slots=True)
class SlotsChanged:
    slots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProgramChanged:
    """program.md was edited while the session ran. `refused`: why the old one still holds, "" when the new one does."""

    diff: str
    program: str
    refused: str = ""
