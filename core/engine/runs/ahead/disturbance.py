"""Whether runs lose steps while the next one starts up beside them, by the steps that they print"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from pathlib import Path
from statistics import fmean, variance

MOST = 0.01  # of its steps that a run may lose
_RUNS = 12  # last ones that count, with a start beside them and without
_LEAST_RUNS = 3
_LEAST_LINES = 3  # of the curve in each part
_SURE = 2.0  # standard errors by which a loss must be more than nothing
_FIRST = 0.1  # of the clock, which is left out: caches are cold

Curve = Sequence[tuple[float, int]]  # (seconds of the clock, step)


def _recent() -> deque[float]:
    return deque(maxlen=_RUNS)


def read_curve(path: Path) -> list[tuple[float, int]]:
    """The points of a run's curve.tsv; none where it cannot be read."""
    try:
        rows = [line.split("\t") for line in path.read_text().splitlines()]
        return [(float(seconds), int(step)) for seconds, step, *_ in rows]
    except (OSError, ValueError):
        return []


def lost(curve: Curve, begun: float, ended: float) -> float | None:
    """The part of its steps that a run lost between two times of its clock, by its pace in the rest of it.

    None where it printed too few of them, or in no order.
    """
    if not curve or any(b[0] < a[0] or b[1] < a[1] for a, b in pairwise(curve)):
        return None
    times = [seconds for seconds, _ in curve]
    first, last = _FIRST * times[-1], times[-1]
    begun, ended = max(begun, first), min(ended, last)
    at = [bisect_left(times, moment) for moment in (first, begun, ended)]
    inside, outside = at[2] - at[1], len(times) - at[0] - (at[2] - at[1])
    if min(inside, outside) < _LEAST_LINES:
        return None
    near = [curve[min(place, len(curve) - 1)] for place in at]
    seconds, steps = near[2][0] - near[1][0], near[2][1] - near[1][1]
    rest = (last - near[0][0] - seconds, curve[-1][1] - near[0][1] - steps)
    if min(seconds, *rest) <= 0 or not last:
        return None
    return (1.0 - steps / seconds * rest[0] / rest[1]) * seconds / last


@dataclass(slots=True)
class Disturbance:
    """Losses of the last runs of one slot. `words` says that they are too high."""

    beside: deque[float] = field(default_factory=_recent)
    without: deque[float] = field(default_factory=_recent)  # in the same part of the clock
    window: tuple[float, float] | None = None  # of the last run with a start beside it

    def add(self, curve: Curve, window: tuple[float, float] | None) -> None:
        """Count a run that has ended. `window`: of its clock, in which another started up beside it."""
        part = window or self.window
        found = lost(curve, *part) if part else None
        if found is not None:
            (self.beside if window else self.without).append(found)
        self.window = window or self.window

    def words(self) -> str:
        if len(self.beside) < _LEAST_RUNS:
            return ""
        usual = fmean(self.without) if len(self.without) >= _LEAST_RUNS else 0.0
        more = fmean(self.beside) - usual
        square = variance(self.beside) / len(self.beside)
        if len(self.without) >= _LEAST_RUNS:
            square += variance(self.without) / len(self.without)
        if more <= MOST or more <= _SURE * sqrt(square):
            return ""
        return f"runs took {100 * more:.1f}% fewer steps while the next one started up beside them"
