"""Everything a client may ask of an engine, and the answer. The effect is seen as events."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pause:
    """Start nothing new: running jobs end and are judged."""


@dataclass(frozen=True, slots=True)
class Resume:
    pass


@dataclass(frozen=True, slots=True)
class Skip:
    """End an experiment now, thinking or running, as `skipped`. None: the one that runs longest."""

    experiment: int | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """End the session's engine. `now` kills what runs (abandoned, run again on resume); else runs end first."""

    now: bool = False


@dataclass(frozen=True, slots=True)
class Steer:
    """Guidance for the researcher. `now` interrupts thinking; `standing` stays in force until withdrawn."""

    text: str
    now: bool = False
    standing: bool = False


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take back guidance that is queued or standing."""

    guidance: int


@dataclass(frozen=True, slots=True)
class Approve:
    experiment: int


@dataclass(frozen=True, slots=True)
class Reject:
    experiment: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Certify:
    """Test an experiment (None: the best) against the baseline on fresh seeds, and write a certificate."""

    experiment: int | None = None


@dataclass(frozen=True, slots=True)
class Reproduce:
    """Run an experiment again from its commit with its recorded seed and budget."""

    experiment: int


Command = Pause | Resume | Skip | Stop | Steer | Withdraw | Approve | Reject | Certify | Reproduce


@dataclass(frozen=True, slots=True)
class Reply:
    """The engine's answer: accepted or refused, with a sentence that says what will happen or why not."""

    accepted: bool
    message: str
