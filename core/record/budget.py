"""Time budget of one run, and budget of a session"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

RunClock = Literal["wall", "cpu"]  # what the seconds of a run are: by the wall, or of its processes on processors

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)\s*$")
_ON_PROCESSORS = " cpu"  # after the time of a budget in processor seconds, as it is recorded and shown
_STEPS = re.compile(r"^\s*(\d+)\s*steps?\s*$")
_SHOWN = re.compile(r"^(?:(\d+)d(?=\d))?(?:(\d+)h(?=\d|$))?(?:(\d+)[m:](?=\d|$))?(\d+)?$")  # by format_seconds
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class RunBudget:
    """Time budget of one run: seconds of training by `clock`, or a number of steps (reproducible)."""

    seconds: float | None = None
    steps: int | None = None
    clock: RunClock = "wall"

    def __str__(self) -> str:
        if self.steps is not None:
            return f"{self.steps} steps"
        return format_seconds(self.seconds or 0.0) + _ON_PROCESSORS * (self.clock == "cpu")

    @property
    def words(self) -> str:
        """The budget for a reader who has not seen a clock of processor seconds."""
        return str(self).replace(_ON_PROCESSORS, " of processor time")

    @property
    def written(self) -> str:
        """The budget as program.md holds it, which has a key of its own for the clock."""
        return str(self) if self.steps is not None else f"{self.seconds or 0.0}s"

    @classmethod
    def recorded(cls, text: str) -> RunBudget:
        """The budget whose `str` is `text`. Raises ValueError."""
        time = text.removesuffix(_ON_PROCESSORS)
        shown = _SHOWN.match(time)
        if time and shown:
            parts = zip(shown.groups(default="0"), (86400, 3600, 60, 1), strict=True)
            found = cls(seconds=float(sum(int(number) * seconds for number, seconds in parts)))
        else:
            found = parse_run_budget(time)
        return found if time == text else replace(found, clock="cpu")


@dataclass(frozen=True, slots=True)
class SessionBudget:
    """Budget of a session: `hours` of engine time, `experiments`, `usd` in dollars. None: no limit.

    `device_usd_per_hour`: price of a device, whose dollars count beside the model's; None: it costs none.
    """

    hours: float | None = None
    experiments: int | None = None
    usd: float | None = None
    device_usd_per_hour: float | None = None

    def exhausted(
        self, *, seconds: float, experiments: int, usd: float, next_usd: float = 0.0, unit: str = "proposal"
    ) -> str | None:
        """Why the session is finished, or None while some budget is left.

        `next_usd`: expected cost of one more `unit`; the session ends before that would exceed the dollars.
        """
        if self.experiments is not None and experiments >= self.experiments:
            return f"the budget of {self.experiments} experiment{'s' * (self.experiments != 1)} is spent"
        if self.hours is not None and seconds >= self.hours * 3600:
            return f"the budget of {self.hours:g} hours is spent"
        if self.usd is not None and usd >= self.usd:
            return f"the budget of ${self.usd:.2f} is spent (${usd:.2f})"
        if self.usd is not None and usd + next_usd > self.usd:
            return f"${usd:.2f} of ${self.usd:.2f} is spent, and one more {unit} costs about ${next_usd:.2f}"
        return None


def parse_duration(text: str) -> float:
    """Seconds in `20s`, `5m`, `1.5h`, `2d`. Raises ValueError with the hint."""
    match = _DURATION.match(text)
    if not match:
        raise ValueError(f"{text!r} is not a duration: write a number and s, m, h or d, such as 20s or 5m")
    unit = match[2] if match[2] == "ms" else match[2][0]
    return float(match[1]) * _UNIT[unit]


def parse_run_budget(text: str) -> RunBudget:
    """`20s`, `5m` or `400 steps`. Raises ValueError with the hint."""
    match = _STEPS.match(text)
    if match:
        steps = int(match[1])
        if steps < 1:
            raise ValueError("a step budget must be at least 1 step")
        return RunBudget(steps=steps)
    try:
        seconds = parse_duration(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a run budget: write 20s, 5m or 400 steps") from None
    if seconds <= 0:
        raise ValueError("a run budget must be more than 0 seconds")
    return RunBudget(seconds=seconds)


def format_seconds(seconds: float) -> str:
    """`4.2s`, `45s`, `1:53`, `3h12m`, `2d04h`: at most six cells."""
    seconds = max(0.0, seconds)
    if seconds < 10 and seconds != int(seconds):
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
