"""Results of one piece of code, the number that may be claimed from them, and a prior of sigma."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """Number of code that was selected by its own results, corrected for that selection, and worth `runs` runs.

    It includes the first `results` results of the code, and corrections by the candidates that ran since.
    """

    number: float
    runs: float
    results: int


@dataclass(frozen=True, slots=True)
class Sample:
    """All results of one piece of code, in the order of its runs.

    For code that was selected by its results: `chosen_on`, by how many of them (the first ones), and what it may
    `claim` so far. Raises ValueError without results, or with one that is not finite.
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
        """Mean of all results."""
        return mean(self.values)

    @property
    def fresh(self) -> tuple[float, ...]:
        """The results that the claim does not include."""
        return self.values[self.claim.results :] if self.claim else self.values

    @property
    def weight(self) -> float:
        """How many runs `number` is worth."""
        return len(self.fresh) + (self.claim.runs if self.claim else 0.0)

    @property
    def number(self) -> float:
        """The pooled estimate, without selection bias: what may be claimed."""
        if self.claim is None:
            return self.mean
        start = self.claim.number
        return start + math.fsum(v - start for v in self.fresh) / self.weight


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean. Exact for equal values, since it is computed from differences to the first one."""
    return values[0] + math.fsum(v - values[0] for v in values) / len(values)


@dataclass(frozen=True, slots=True)
class Prior:
    """Prior of sigma: `sigma` in the metric's unit, worth `df` repeats.

    From an earlier session on the same kind of slot (`Noise.as_prior`), or from the session for a certificate.
    """

    sigma: float
    df: float
