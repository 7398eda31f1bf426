"""Series of the progress chart: dots, steps of the best, and a window that leaves outliers out

Of all experiments in order of number nothing is looked at one by one: the table keeps them in the orders below.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal, overload

from core.ordered import Order, Ordered, Place
from core.record.state import BASELINE, Experiment, State
from core.views import best_steps

Axis = Literal["experiments", "hours", "dollars"]
AXES: tuple[Axis, ...] = ("experiments", "hours", "dollars")
OFF = "off the scale"
ROUND_FROM = 100  # experiments, from which on the axis ends at a round number: the dots stay where they are for a while


def _is_shown(x: Experiment) -> bool:
    return x.number != BASELINE and (x.verdict is not None or x.live_run is not None)


def _result(x: Experiment) -> float | None:
    return x.metric if x.metric is not None and math.isfinite(x.metric) and _is_shown(x) else None


POINTS: Order[Experiment] = Order(lambda x: 0 if _is_shown(x) else None)
RESULTS: Order[Experiment] = Order(_result)
DISCARDED: Order[Experiment] = Order(lambda x: _result(x) if x.verdict == "discarded" else None)
CERTIFIED: Order[Experiment] = Order(lambda x: 0 if _is_shown(x) and x.certified == "certified" else None)
KEPT: Order[Experiment] = Order(lambda x: (x.number, x.metric) if x.verdict == "kept" and _is_shown(x) else None)


@dataclass(frozen=True, slots=True)
class Point:
    """One experiment's dot at `x` on the axis; `metric` is None when it has no result."""

    number: int
    x: float
    metric: float | None
    verdict: str
    certified: bool = False


def point_of(x: Experiment, place: float) -> Point:
    return Point(x.number, place, _result(x), x.verdict or "running", x.certified == "certified")


def by_number(x: Experiment) -> Point | None:
    """The dot of an experiment on the axis of experiments; None: it has none."""
    return point_of(x, float(x.number)) if _is_shown(x) else None


class Points(Sequence[Point]):
    """The dots of all experiments by number, each made when it is asked for."""

    def __init__(self, table: Ordered[Experiment]) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table.places(POINTS))

    @overload
    def __getitem__(self, at: int) -> Point: ...
    @overload
    def __getitem__(self, at: slice) -> list[Point]: ...
    def __getitem__(self, at: int | slice) -> Point | list[Point]:
        places = self.table.places(POINTS)
        if isinstance(at, slice):
            return [self._point(number) for _, number in places[at]]
        return self._point(places[at][1])

    @property
    def numbers(self) -> list[int]:
        return [number for _, number in self.table.places(POINTS)]

    def _point(self, number: int) -> Point:
        return point_of(self.table[number], float(number))


@dataclass(slots=True)
class Series:
    """`points` in order of `x`; `steps`: (x, metric) where the best changed; the window first..last, low..high.
    `signs`: verdicts of the points, `certified` and OFF, as far as there are any.
    """

    points: Sequence[Point] = ()
    steps: list[tuple[float, float]] = field(default_factory=list)
    first: float = 0.0
    last: float = 8.0
    low: float = 0.0
    high: float = 1.0
    signs: set[str] = field(default_factory=set)

    @property
    def window(self) -> Hashable:
        return self.first, self.last, self.low, self.high

    @property
    def numbers(self) -> list[int]:
        """The experiments of the points, in their order."""
        return self.points.numbers if isinstance(self.points, Points) else [point.number for point in self.points]

    @property
    def has_results(self) -> bool:
        """Whether any point has a result."""
        if isinstance(self.points, Points):
            return bool(self.points.table.places(RESULTS))
        return any(point.metric is not None for point in self.points)

    def point(self, number: int) -> Point | None:
        """The point of an experiment; None without one."""
        if isinstance(self.points, Points):
            x = self.points.table.get(number)
            return None if x is None else by_number(x)
        return next((point for point in self.points if point.number == number), None)


def series_of(state: State, axis: Axis = "experiments", newest: int = 0) -> Series:
    """The series of a State along `axis`, of all experiments or of the `newest` ones."""
    out = Series()
    if axis == "experiments":
        out.points, out.steps = Points(state.experiments), _steps(state)
    else:
        _in_order_of_end(out, state, axis)
    end = out.points[-1].x if out.points else 0.0
    if newest and len(out.points) > newest:
        out.points = out.points[-newest:]
        out.first = out.points[0].x
        before = [step for step in out.steps if step[0] <= out.first]
        after = [step for step in out.steps if step[0] > out.first]
        out.steps = [*((out.first, m) for _, m in before[-1:]), *after]
    out.last = max(end, out.first + {"experiments": 8.0, "hours": 1 / 60, "dollars": 0.01}[axis])
    if axis == "experiments":
        out.last = max(end, out.first + 1) if out.first else _round_up(out.last)
    _window(out, state)
    _signs(out, state)
    return out


def _steps(state: State) -> list[tuple[float, float]]:
    """Where the best changed, by number."""
    table, baseline = state.experiments, state.baseline.metric if state.baseline else None
    kept = (state.experiments[number] for _, number in table.places(KEPT))
    of: Hashable = state.best, baseline, state.metric.direction
    start = [] if baseline is None else [(0.0, baseline)]
    return table.memo(KEPT, of, lambda _: [*start, *((float(n), metric) for n, metric in best_steps(state, kept))])


def _in_order_of_end(out: Series, state: State, axis: Axis) -> None:
    """Set points and steps in order of the verdicts, those without one last."""
    chosen = [state.experiments[number] for _, number in state.experiments.places(POINTS)]
    chosen.sort(key=lambda x: (x.ended is None, x.ended or 0.0))
    spent, points = 0.0, list[Point]()
    for x in chosen:
        spent += x.usd
        points.append(point_of(x, spent if axis == "dollars" else _hours(x, state)))
    places = {point.number: point.x for point in points}
    out.points, out.steps = points, [(0.0, state.baseline.metric)] if state.baseline else []
    out.steps += [(places[number], metric) for number, metric in best_steps(state, chosen)]


def _hours(x: Experiment, state: State) -> float:
    return max(0.0, (x.ended if x.ended is not None else state.time) - state.started) / 3600


def _round_up(end: float) -> float:
    """The end of a long axis: at most 2% further."""
    step = _round_step(end / 50)
    return end if end < ROUND_FROM else math.ceil(end / step) * step


def _round_step(most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is no more than `most`."""
    power = 10.0 ** math.floor(math.log10(most))
    return max(m * power for m in (1, 2, 5) if m * power <= most * (1 + 1e-9))


def _window(out: Series, state: State) -> None:
    """Set low..high to include all steps of the best, and the dots that are not far worse. Both are round: with most
    results the window stays what it is.
    """
    values: Sequence[Place]  # (metric, anything), the lowest first
    if isinstance(out.points, Points):
        values = state.experiments.places(RESULTS)
    else:
        values = sorted((p.metric, p.number) for p in out.points if p.metric is not None)
    anchors = [m for _, m in out.steps]
    if not (values or anchors):
        return
    sigma = state.sigma or 0.0
    low, high = (min(anchors), max(anchors)) if anchors else (values[0][0], values[-1][0])
    if values:
        lower_is_better = state.metric.direction == "min"
        cut = min(len(values) - 1, int(len(values) * 0.8))
        edge = values[cut if lower_is_better else ~cut][0]
        reach = max(high - low, 6 * sigma) * 1.2
        high = max(high, min(edge, high + reach))
        low = min(low, max(edge, low - reach))
    margin = max((high - low) * 0.08, sigma * 1.5, abs(high) * 1e-6)
    low, high = low - margin, high + margin
    step = _round_step((high - low) / 40) if math.isfinite(high - low) and high - low > 1e-300 else 0.0
    out.low = math.floor(low / step) * step if step else low
    out.high = math.ceil(high / step) * step if step else high


def _signs(out: Series, state: State) -> None:
    table = state.experiments
    if isinstance(out.points, Points):
        out.signs = {verdict for verdict, count in state.verdicts.items() if count}
        out.signs |= {"certified"} if table.places(CERTIFIED) else set()
        discarded = [place[0] for place in (*table.places(DISCARDED)[:1], *table.places(DISCARDED)[-1:])]
    else:
        out.signs = {p.verdict for p in out.points} | {"certified" for p in out.points if p.certified}
        discarded = [p.metric for p in out.points if p.verdict == "discarded" and p.metric is not None]
    out.signs |= {OFF for metric in discarded if not out.low <= metric <= out.high}
