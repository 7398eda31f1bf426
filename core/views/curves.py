"""Loss curves of live runs: comparison at equal time, forecast of the end, and speed

A curve is a sequence of (seconds of the run's clock, loss) in order of time. The training loss is self-reported and
decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Curve = Sequence[tuple[float, float]]

MIN_POINTS = 6
MIN_SHARE = 0.1  # of the run's time, for a forecast
RECENT_SHARE = 0.2  # of the time so far, over which two curves are compared


@dataclass(frozen=True, slots=True)
class Forecast:
    """Expected loss at the end of a run, and the method of the forecast."""

    loss: float
    method: str


def loss_at(curve: Curve, seconds: float) -> float | None:
    """Loss at a time, interpolated linearly; None outside the curve."""
    if not curve or not curve[0][0] <= seconds <= curve[-1][0]:
        return None
    low, high = 0, len(curve) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if curve[middle][0] <= seconds:
            low = middle
        else:
            high = middle
    (x0, y0), (x1, y1) = curve[low], curve[high]
    return y0 if x1 == x0 else y0 + (y1 - y0) * min(1.0, max(0.0, (seconds - x0) / (x1 - x0)))


def difference(curve: Curve, other: Curve) -> float | None:
    """Mean of `curve` - `other` at equal times over the last fifth of its time so far; None for too few points."""
    if len(curve) < MIN_POINTS:
        return None
    now = curve[-1][0]
    start = curve[0][0] + (now - curve[0][0]) * (1 - RECENT_SHARE)
    recent = [(x, y) for x, y in curve if x >= start] or list(curve[-1:])
    found = [y - at for x, y in recent[-500:] if (at := loss_at(other, x)) is not None]
    return sum(found) / len(found) if len(found) >= 2 else None


def forecast(curve: Curve, end: float, other: Curve = (), name: str = "the best") -> Forecast | None:
    """Forecast of the loss at `end` seconds; None while the curve is too short.

    With a complete `other` curve: its end, shifted by the `difference` at equal time. Alone: a straight line of the
    loss over the logarithm of time, fitted to the second half so far.
    """
    if len(curve) < MIN_POINTS or end <= 0 or not MIN_SHARE * end <= curve[-1][0] < end * 0.995:
        return None
    if other and other[-1][0] >= 0.9 * end:
        shift = difference(curve, other)
        if shift is not None:
            tail = [y for x, y in other if x >= other[-1][0] * 0.95]
            return Forecast(sum(tail) / len(tail) + shift, f"where {name} ended, shifted by the present difference")
    late = [(math.log(x), y) for x, y in curve[len(curve) // 2 :] if x > 0]
    fit = _line(late)
    if fit is None:
        return None
    slope, base = fit
    return Forecast(base + slope * math.log(end), "a straight line over log time")


def _line(points: Curve) -> tuple[float, float] | None:
    """Slope and value at 0 of the least-squares line."""
    if len(points) < 3:
        return None
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread <= 0:
        return None
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return slope, mean_y - slope * mean_x


def speed(steps: Curve, usual: Curve) -> tuple[float, float | None] | None:
    """Steps per second so far, and the ratio to another run's speed in the same time; None while too few are known.

    `steps` and `usual`: (seconds, step) pairs.
    """
    if len(steps) < 3 or steps[-1][0] <= steps[0][0]:
        return None
    (x0, y0), (x1, y1) = steps[0], steps[-1]
    rate = (y1 - y0) / (x1 - x0)
    if not usual or rate <= 0:
        return rate, None
    start, end = max(x0, usual[0][0]), min(x1, usual[-1][0])
    theirs = (loss_at(usual, start), loss_at(usual, end))
    ours = (loss_at(steps, start), loss_at(steps, end))
    if end <= start or None in theirs or None in ours:
        return rate, None
    (a, b), (c, d) = theirs, ours
    assert a is not None and b is not None and c is not None and d is not None
    return rate, (d - c) / (b - a) if b > a else None
