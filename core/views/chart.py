"""Progress chart as numbers: experiments, and the steps of the best"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from core.record.state import BASELINE, Experiment, State


@dataclass(frozen=True, slots=True)
class ChartDot:
    experiment: int
    metric: float
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """`dots`: experiments with a result. `best`: (experiment, metric) where the best changed, from the baseline on.
    `failed`: (experiment, verdict) of those without a result.
    """

    name: str
    direction: str
    dots: tuple[ChartDot, ...]
    best: tuple[tuple[int, float], ...]
    failed: tuple[tuple[int, str], ...]
    baseline: float | None
    sigma: float | None
    last: int  # highest experiment number: right end of the axis

    def range(self, spread: float = 4.0) -> tuple[float, float]:
        """Lowest and highest value to show: the whole line of the best, and the dots near it.

        A dot further than `spread` times the gain (and noise) from that line is left out; it would flatten the rest.
        """
        values = [value for _, value in self.best] + ([self.baseline] if self.baseline is not None else [])
        if not values:
            values = [dot.metric for dot in self.dots] or [0.0]
        low, high = min(values), max(values)
        room = max(high - low, 4 * (self.sigma or 0.0), abs(high) * 1e-3) * (spread - 1) or 1.0
        near = [dot.metric for dot in self.dots if low - room <= dot.metric <= high + room]
        low, high = min([low, *near]), max([high, *near])
        margin = (high - low) * 0.05 or max(abs(high) * 0.01, 1e-9)
        return low - margin, high + margin


def chart(state: State) -> Chart:
    """The chart of a State. A non-finite result counts as none."""
    metric = state.metric
    numbers = sorted(n for n, x in state.experiments.items() if n != BASELINE and x.verdict is not None)
    dots: list[ChartDot] = []
    failed: list[tuple[int, str]] = []
    baseline = state.baseline.metric if state.baseline else None
    best = [] if baseline is None else [(BASELINE, baseline)]
    for number in numbers:
        x = state.experiments[number]
        if x.metric is None or not math.isfinite(x.metric):
            failed.append((number, x.verdict or ""))
            continue
        dots.append(ChartDot(number, x.metric, x.verdict or ""))
    best += best_steps(state, (state.experiments[number] for number in numbers))
    return Chart(
        name=metric.name, direction=metric.direction, dots=tuple(dots), best=tuple(best), failed=tuple(failed),
        baseline=baseline, sigma=state.sigma, last=max(numbers, default=0),
    )  # fmt: skip


def best_steps(state: State, order: Iterable[Experiment]) -> list[tuple[int, float]]:
    """(experiment, metric) of kept experiments that beat the baseline and all kept ones before them in `order`.

    `order` may differ from the order of the verdicts, so a former best may be missing. The present best is always
    included: simpler code may be kept with a metric that is no better.
    """
    found: list[tuple[int, float]] = []
    held, metric = state.baseline.metric if state.baseline else None, state.metric
    for x in order:
        if x.verdict != "kept" or x.metric is None or not math.isfinite(x.metric):
            continue
        if x.number == state.best or held is None or metric.better(x.metric, held):
            found.append((x.number, x.metric))
            held = x.metric
    return found
