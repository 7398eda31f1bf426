"""Processors that a run on its clock really uses, which nothing else may take from it

A run on a card may leave its processors alone or keep many busy, and only a look at it can tell. What it is expected to
use holds until it has been looked at; then the most that it used in any second of the last half minute, and a little
more. A run that lies gains nothing: with less its own clock is disturbed, with more the next start comes later.
"""

from __future__ import annotations

import math
from collections import deque

_SECOND, _RECENT = 1.0, 30  # seconds of one look, and looks that count
_MORE = 1.25  # times what it used
_LEAST, _STEP = 0.1, 0.05  # processors


class ProcessorUse:
    """What one run keeps. `expected`: processors at first; `most`: at most."""

    def __init__(self, expected: float, most: float) -> None:
        self._most = most
        self._looks: deque[float] = deque(maxlen=_RECENT)
        self._at = self._used = 0.0
        self._begun = False
        self.kept = min(most, expected)
        self.peak: float | None = None  # the most of `kept` that was measured; None: the clock was too short to measure

    def look(self, used: float, now: float) -> bool:
        """Count what it `used` so far (processor seconds) at `now` (monotonic). Whether `kept` has changed."""
        if not self._begun:
            self._begun, self._at, self._used = True, now, used
        if now - self._at < _SECOND:
            return False
        self._looks.append(max(0.0, used - self._used) / (now - self._at))
        self._at, self._used, before = now, used, self.kept
        wanted = max(_LEAST, _MORE * max(self._looks))
        self.kept = min(self._most, round(math.ceil(wanted / _STEP) * _STEP, 3))
        self.peak = max(self.peak or 0.0, self.kept)
        return self.kept != before
