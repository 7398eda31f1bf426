"""When a run's clock will end, and when the next start must begin to be there by then, as this session has seen it"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

RECENT = 5  # runs from which the next is guessed
_BESIDE, _ALONE = (
    1.5,
    3.0,
)  # times a start beside another run, or one that had the processors, that are left for the next
_MARGIN_SECONDS = 1.0
_LEAST_SHARE = 0.02  # of a budget, below which nothing follows from it


def _recent() -> deque[float]:
    return deque(maxlen=RECENT)


@dataclass(slots=True)
class StartTimes:
    """Seconds by the wall of the last starts and clocks of a session, as an engine has seen them."""

    alone: deque[float] = field(default_factory=_recent)
    beside: deque[float] = field(default_factory=_recent)  # another run
    clocks: deque[float] = field(default_factory=_recent)

    def lead(self) -> float | None:
        """Seconds before the end of a clock at which the next start begins; None while none was seen."""
        if self.beside:
            return _BESIDE * max(self.beside) + _MARGIN_SECONDS
        return _ALONE * max(self.alone) + _MARGIN_SECONDS if self.alone else None

    def left(self, passed: float, fraction: float | None) -> float | None:
        """Seconds until the end of a clock that began `passed` seconds ago and has used this part of its budget: the
        least that its own pace and the clocks before say; None where both say nothing.
        """
        guesses = [min(self.clocks) - passed] if self.clocks else []
        if fraction is not None and fraction >= _LEAST_SHARE:
            guesses.append(passed / fraction - passed)
        return max(0.0, min(guesses)) if guesses else None
