"""Series of the progress chart: dots, steps of the best, and a window that leaves outliers out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from core.record.state import BASELINE, Experiment, State
from core.views import best_steps

Axis = Literal["experiments", "hours", "dollars"]
AXES: tuple[Axis, ...] = ("experiments", "hours", "dollars")


@dataclass(frozen=True, slots=True)
class Point:
    """One experiment's dot at `x` on the axis; `metric` is None when it has no result."""

    number: int
    x: float
    metric: float | None
    verdict: str
    certified: bool = False


@dataclass(slots=True)
class Series:
    """`points` in order of `x`; `steps`: (x, metric) where the best changed; the window first..last, low..high."""

    points: list[Point] = field(default_factory=list)
    steps: list[tuple[float, float]] = field(default_factory=list)
    first: float = 0.0
    last: float = 8.0
    low: float = 0.0
    high: float = 1.0


def series_of(state: State, axis: Axis = "experiments", newest: int = 0) -> Series:
    """The series of a State along `axis`, of all experiments or of the `newest` ones."""
    out = Series()
    chosen = [x for n, x in sorted(state.experiments.items()) if n != BASELINE and (x.verdict or x.live_run)]
    if axis != "experiments":
        chosen.sort(key=lambda x: (x.ended is None, x.ended or 0.0))
    spent = 0.0
    for x in chosen:
        spent += x.usd
        place = float(x.number) if axis == "experiments" else spent if axis == "dollars" else _hours(x, state)
        metric = x.metric if x.metric is not None and math.isfinite(x.metric) else None
        out.points.append(Point(x.number, place, metric, x.verdict or "running", x.certified == "certified"))
    if state.baseline:
        out.steps.append((0.0, state.baseline.metric))
    places = {point.number: point.x for point in out.points}
    out.steps += [(places[number], metric) for number, metric in best_steps(state, chosen)]
    end = out.points[-1].x if out.points else 0.0
    if newest and len(out.points) > newest:
        out.points = out.points[-newest:]
        out.first = out.points[0].x
        before = [step for step in out.steps if step[0] <= out.first]
        after = [step for step in out.steps if step[0] > out.first]
        out.steps = [*((out.first, m) for _, m in before[-1:]), *after]
    out.last = max(end, out.first + {"experiments": 8.0, "hours": 1 / 60, "dollars": 0.01}[axis])
    if out.first and axis == "experiments":
        out.last = max(end, out.first + 1)
    _window(out, state)
    return out


def _hours(x: Experiment, state: State) -> float:
    return max(0.0, (x.ended if x.ended is not None else state.time) - state.started) / 3600


def _window(out: Series, state: State) -> None:
    """Set low..high to include all steps of the best, and the dots that are not far worse."""
    values = sorted(p.metric for p in out.points if p.metric is not None)
    anchors = [m for _, m in out.steps]
    if not (values or anchors):
        return
    sigma = state.sigma or 0.0
    low, high = min(anchors or values), max(anchors or values)
    lower_is_better = state.metric.direction == "min"
    if values:
        worst_last = values if lower_is_better else [-v for v in reversed(values)]
        cut = worst_last[min(len(worst_last) - 1, int(len(worst_last) * 0.8))]
        edge = cut if lower_is_better else -cut
        reach = max(high - low, 6 * sigma) * 1.2
        high = max(high, min(edge, high + reach))
        low = min(low, max(edge, low - reach))
    margin = max((high - low) * 0.08, sigma * 1.5, abs(high) * 1e-6)
    out.low, out.high = low - margin, high + margin
