"""The metric: name, direction and the comparison of two values"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Direction = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What runs are compared by. `self_reported`: the run prints it; no scorer computes it."""

    name: str
    direction: Direction = "min"
    self_reported: bool = False

    def gain(self, old: float, new: float) -> float:
        """Gain of `new` over `old` in the metric's unit; positive is better."""
        return old - new if self.direction == "min" else new - old

    def better(self, new: float, old: float) -> bool:
        return self.gain(old, new) > 0

    @property
    def arrow(self) -> str:
        return "↓" if self.direction == "min" else "↑"

    def sort_key(self, value: float | None) -> float:
        """Sort key: best first, missing and non-finite values last."""
        if value is None or not math.isfinite(value):
            return math.inf
        return value if self.direction == "min" else -value


def format_metric(value: float | None) -> str:
    """A metric's value for display: five significant digits, `–` for None."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    magnitude = abs(value)
    if magnitude == 0 or 1e-4 <= magnitude < 10:
        return f"{value:.4f}"
    return f"{value:.5g}"


def format_delta(value: float | None) -> str:
    """A signed difference of metrics for display, with the sign − (U+2212)."""
    if value is None:
        return "–"
    text = format_metric(abs(value))
    return f"−{text}" if value < 0 else f"+{text}"
