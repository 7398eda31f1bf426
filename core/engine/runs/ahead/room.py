"""Memory for a start beside a run: of the machine, and of the card in a GPU slot"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from core.lab import container
from core.lab.gpu import cards
from core.lab.runner import RunProcess

_MORE = 1.2  # times the most that a run used, which the next may use
_LATE = 0.5  # of its clock, after which a run uses about the most that it will
_RECENT = 20  # runs whose use says what the next may use
_RESERVE = 16  # a part of all memory that stays free
_GB = 2**30


def _recent() -> deque[int]:
    return deque(maxlen=_RECENT)


@dataclass(slots=True)
class Room:
    """What runs of the session used at most, as an engine has seen it."""

    peaks: deque[int] = field(default_factory=_recent)
    card_peaks: deque[int] = field(default_factory=_recent)  # of all memory in use on a card while a run trained
    _running: int = 0  # of a run past the half of its clock, while none has ended
    _card_running: int = 0

    def look(self, slot: str, job: RunProcess) -> bool:
        """Look at the run in a slot: until one has ended, the next needs what one past the half of its clock uses.
        False while it is too early to say.
        """
        if (job.fraction or 0.0) < _LATE:
            return bool(self.peak)
        if not self.peaks:
            self._running = int(job.status.get("peak_memory") or 0)
        if not self.card_peaks and slot.startswith("gpu") and (memory := cards.memory_of(slot)) is not None:
            self._card_running = max(self._card_running, memory[0])
        return True

    @property
    def peak(self) -> int:
        """What a run needs; 0 while that is not known."""
        return max(self.peaks, default=self._running)

    def for_start(self, used: int) -> tuple[int, str]:
        """(bytes that a start may use beside a run that uses `used` now, "" or why that is not enough, in words)."""
        total = container.memory_total()
        return self.of(used, total, total - container.memory_used())

    def of(self, used: int, total: int, free: int) -> tuple[int, str]:
        """The same, on a machine with `total` bytes of which `free` are free."""
        if not (peak := self.peak):
            return 0, "how much memory a run needs is not known"
        room = free - max(0, peak - used) - total // _RESERVE
        if room >= _MORE * peak:
            return room, ""
        return 0, f"{max(0, room) / _GB:.1f} GB of memory are free beside a run, and a run needs {peak / _GB:.1f}"

    def short(self) -> str:
        """Why a start should give back what it holds, in words, or "": the machine has less free than stays free."""
        total = container.memory_total()
        free = total - container.memory_used()
        return "" if free >= total // _RESERVE else f"{max(0, free) / _GB:.1f} GB of {total / _GB:.1f} GB are free"

    def on_card(self, slot: str) -> str:
        """Why the card of a GPU slot has no room for a start beside a run, or ""."""
        memory = cards.memory_of(slot)
        peak = max(self.card_peaks, default=self._card_running)
        if memory is None or not peak:
            return "how much of its card's memory a run needs is not known"
        used, total = memory
        left = total - max(used, peak)
        if left >= _MORE * peak:
            return ""
        return f"{left / _GB:.1f} GB of its card's memory are free beside a run, and a run needs {peak / _GB:.1f}"
