"""What is known of a number: the results it rests on, what may be claimed from them, and a prior of sigma."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """An honest number for code that was chosen by its own results, worth `runs` runs of it. It holds the first
    `results` of them, and what the candidates that ran since say of it.
    """

    number: float
    runs: float
    results: int


@dataclass(frozen=True, slots=True)
class Sample:
    """All finite results of one piece of code, in the order of its runs. For a leader that was chosen by its results:
    `chosen_on`, how many of them (the first so many), and what it may `claim` by now.
    Raises ValueError without results, or with one that is not finite.
    """

    values: tuple[float, ...]
    chosen_on: int = 0
    claim: Claim | None = None

    def __post_init__(self) -> None:
        if not self.values or not all(map(math.isfinite, self.values)):
            raise ValueError("a sample needs finite results")

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        """The pooled mean of every run."""
        return mean(self.values)

    @property
    def fresh(self) -> tuple[float, ...]:
        """The results that its claim does not hold yet."""
        return self.values[self.claim.results :] if self.claim else self.values

    @property
    def weight(self) -> float:
        """How many runs `number` is worth."""
        return len(self.fresh) + (self.claim.runs if self.claim else 0.0)

    @property
    def number(self) -> float:
        """The pooled estimate, free of the luck of the runs that chose it: what may be claimed."""
        if self.claim is None:
            return self.mean
        start = self.claim.number
        return start + math.fsum(v - start for v in self.fresh) / self.weight


def mean(values: Sequence[float]) -> float:
    # From the first value on: equal numbers then have exactly their own mean.
    return values[0] + math.fsum(v - values[0] for v in values) / len(values)


@dataclass(frozen=True, slots=True)
class Prior:
    """What is known of sigma before this session's repeats: `sigma` in the metric's unit, worth `df` repeats.

    It is an earlier session's `Noise` on the same kind of slot (`Noise.as_prior`), or the session's for a certificate.
    """

    sigma: float
    df: float
