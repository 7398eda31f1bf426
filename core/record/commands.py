"""Commands that a client may send to an engine, and the engine's reply. Their effects are events"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Pause:
    """Start no new run; live runs end and are judged. `now`: kill them (abandoned, and run again on resume)."""

    now: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    pass


@dataclass(frozen=True, slots=True)
class Skip:
    """End an experiment as `skipped`, thinking or running. None: the one that has run longest."""

    experiment: int | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """End the session's engine once its runs have ended. `now`: kill them (abandoned, and run again on resume).

    `after`: end once so many more experiments have a verdict.
    """

    now: bool = False
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Steer:
    """Guidance for the researcher. `now`: interrupt its thinking; `standing`: in force until withdrawn."""

    text: str
    now: bool = False
    standing: bool = False


@dataclass(frozen=True, slots=True)
class EditGuidance:
    """New text for guidance that no experiment has taken."""

    guidance: int
    text: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Withdraw guidance that is queued or standing."""

    guidance: int


@dataclass(frozen=True, slots=True)
class Approve:
    """Let a proposal run. `all`: later ones too. `edits` (as in a proposal) replace its own, on the same parent."""

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
    """An idea in words, for the researcher to try as its next experiment."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose:
    """A person's own experiment: `edits` (as in a proposal) or `patch`, a unified diff."""

    hypothesis: str
    edits: tuple[Mapping[str, Any], ...] = ()
    kind: str = "other"
    patch: str = ""


@dataclass(frozen=True, slots=True)
class Fork:
    """Make this experiment the parent of the next proposals, kept or not. None: the best again."""

    experiment: int | None = None


@dataclass(frozen=True, slots=True)
class Pin:
    """Exclude an experiment from being a parent or the best; `pinned` False: include it again."""

    experiment: int
    pinned: bool = True


@dataclass(frozen=True, slots=True)
class Repeat:
    """Run an experiment once more with a fresh seed; its results are pooled."""

    experiment: int


@dataclass(frozen=True, slots=True)
class MoveWaiting:
    """Give a waiting experiment another place in the queue, counted from 1; one beyond the end is the last."""

    experiment: int
    place: int


@dataclass(frozen=True, slots=True)
class DeleteWaiting:
    """Take a waiting experiment out of the queue: it ends as `skipped`, without a run."""

    experiment: int


@dataclass(frozen=True, slots=True)
class ChangeResearcher:
    """Researcher from the next experiment on. `script`: path for a scripted researcher."""

    researcher: str
    model: str | None = None
    script: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeBudget:
    """Budget of the session. None: a limit stays as it is."""

    hours: float | None = None
    experiments: int | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class ChangeSlots:
    """Slots of the session: `cpu:1`, `gpu:0,1`. The run of a removed slot ends first."""

    slots: str


@dataclass(frozen=True, slots=True)
class Certify:
    """Test an experiment (None: the best) against the baseline on fresh seeds, and write a certificate."""

    experiment: int | None = None


@dataclass(frozen=True, slots=True)
class Reproduce:
    """Run an experiment again from its commit, with its recorded seed and budget."""

    experiment: int


Command = (
    Pause | Resume | Skip | Stop | Steer | EditGuidance | Withdraw | Approve | Reject | ApproveMode | Idea | Propose
    | Fork | Pin | Repeat | MoveWaiting | DeleteWaiting | ChangeResearcher | ChangeBudget | ChangeSlots | Certify
    | Reproduce
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reply:
    """Reply of the engine: accepted or refused, and what will happen or why not."""

    accepted: bool
    message: str
