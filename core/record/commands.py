"""Everything a client may ask of an engine, and the answer. The effect is seen as events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Pause:
    """Start nothing new: running jobs end and are judged. `now` cuts them off (abandoned, run again on resume)."""

    now: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    pass


@dataclass(frozen=True, slots=True)
class Skip:
    """End an experiment now, thinking or running, as `skipped`. None: the one that runs longest."""

    experiment: int | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """End the session's engine. `now` kills what runs (abandoned, run again on resume); else runs end first.

    `after`: so many more experiments get their verdict before it ends.
    """

    now: bool = False
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Steer:
    """Guidance for the researcher. `now` interrupts thinking; `standing` stays in force until withdrawn."""

    text: str
    now: bool = False
    standing: bool = False


@dataclass(frozen=True, slots=True)
class EditGuidance:
    """Other words for guidance that nobody has taken yet."""

    guidance: int
    text: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take back guidance that is queued or standing."""

    guidance: int


@dataclass(frozen=True, slots=True)
class Approve:
    """Let a proposal run. `all`: this one and all that come. `edits` ({"path", "content"}, or {"path", "search",
    "replace"}) take the place of the proposal's own, and apply to the same parent."""

    experiment: int
    all: bool = False
    edits: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Reject:
    experiment: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ApproveMode:
    """Whether each proposal waits for a person before it runs."""

    on: bool


@dataclass(frozen=True, slots=True)
class Idea:
    """An idea in words, which the next researcher is given to try as its next experiment."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose:
    """A person's own experiment, run as it is: by `edits` (as in a proposal) or by `patch`, a unified diff."""

    hypothesis: str
    edits: tuple[Mapping[str, Any], ...] = ()
    kind: str = "other"
    patch: str = ""


@dataclass(frozen=True, slots=True)
class Fork:
    """Build on this experiment from now on, kept or not. None: on the best again."""

    experiment: int | None = None


@dataclass(frozen=True, slots=True)
class Pin:
    """Never build on this one."""

    experiment: int
    pinned: bool = True


@dataclass(frozen=True, slots=True)
class Repeat:
    """Run an experiment once more with a fresh seed; its results are pooled."""

    experiment: int


@dataclass(frozen=True, slots=True)
class ChangeResearcher:
    """From the next experiment on. `script`: of a scripted researcher."""

    researcher: str
    model: str | None = None
    script: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeBudget:
    """What the session may spend. None leaves a limit as it is."""

    hours: float | None = None
    experiments: int | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class ChangeSlots:
    """Where runs go: `cpu:1`, `gpu:0,1`. The job of a slot that goes ends first."""

    slots: str


@dataclass(frozen=True, slots=True)
class Certify:
    """Test an experiment (None: the best) against the baseline on fresh seeds, and write a certificate."""

    experiment: int | None = None


@dataclass(frozen=True, slots=True)
class Reproduce:
    """Run an experiment again from its commit with its recorded seed and budget."""

    experiment: int


Command = (
    Pause | Resume | Skip | Stop | Steer | EditGuidance | Withdraw | Approve | Reject | ApproveMode | Idea | Propose
    | Fork | Pin | Repeat | ChangeResearcher | ChangeBudget | ChangeSlots | Certify | Reproduce
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reply:
    """The engine's answer: accepted or refused, with a sentence that says what will happen or why not."""

    accepted: bool
    message: str
