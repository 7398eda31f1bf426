"""The metric: its name, which direction is better, and the arithmetic that follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Direction = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a run is judged by. `self_reported` is True when no scorer computed it."""

    name: str
    direction: Direction = "min"
    self_reported: bool = False

    def gain(self, old: float, new: float) -> float:
        """How much better `new` is than `old`; positive is better, in the metric's unit."""
        return old - new if self.direction == "min" else new - old

    def better(self, new: float, old: float) -> bool:
        return self.gain(old, new) > 0

    @property
    def arrow(self) -> str:
        return "↓" if self.direction == "min" else "↑"

    def sort_key(self, value: float | None) -> float:
        """A key that sorts best first, with missing and non-finite values last."""
        if value is None or not math.isfinite(value):
            return math.inf
        return value if self.direction == "min" else -value


def format_metric(value: float | None) -> str:
    """A metric's value for a person: five significant digits, `–` when there is none."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    magnitude = abs(value)
    if magnitude == 0 or 1e-4 <= magnitude < 10:
        return f"{value:.4f}"
    return f"{value:.5g}"


def format_delta(value: float | None) -> str:
    """A signed difference of metrics, with a true minus sign."""
    if value is None:
        return "–"
    text = format_metric(abs(value))
    return f"−{text}" if value < 0 else f"+{text}"
