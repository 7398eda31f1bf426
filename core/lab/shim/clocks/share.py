"""The part of the processor time that a run asked for and got on its clock, by the kernel's count of waiting

Threads of a run wait for each other, too: one that wants another try could make itself wait. So a run has got its share
also where the other processes of the machine have left it all of its processors, however long its threads waited.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import math
import os
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LEAST_SECONDS = 0.5  # of work and waiting, below which nothing follows from their ratio
_NANO = 1e9
_TICKS = os.sysconf("SC_CLK_TCK")


class ShareMeter:
    """Processor seconds that the threads of a tree used and waited for, from `start` on. Needs /proc/PID/schedstat.

    A run has no say in it: nothing that it reports is used. Time of a thread after its last sample is not counted.
    `processors`: of its slot; `own`: processor seconds of its processes, also of those that have ended.
    """

    def __init__(self, processors: float, own: Callable[[list[int]], float]) -> None:
        self._processors, self._own = max(1.0, processors), own
        self._looked: tuple[float, float, float] | None = None  # when; seconds of the machine, and of the run
        self._missed = 0.0  # processor seconds of the slot that others took
        self._seen: dict[int, tuple[float, float]] = {}
        self._used = self._waited = 0.0

    def start(self, pids: list[int]) -> None:
        """Begin to count; what was used and waited for before is left out."""
        self.sample(pids)
        self._used = self._waited = self._missed = 0.0

    def sample(self, pids: list[int]) -> None:
        self._look_at_others(pids)
        seen: dict[int, tuple[float, float]] = {}
        for pid in pids:
            with suppress(OSError):
                for name in os.listdir(f"/proc/{pid}/task"):
                    with suppress(OSError, IndexError), open(f"/proc/{pid}/task/{name}/schedstat") as file:
                        nanoseconds = file.read().split()
                        seen[int(name)] = int(nanoseconds[0]) / _NANO, int(nanoseconds[1]) / _NANO
        for thread, (used, waited) in seen.items():
            before = self._seen.get(thread, (0.0, 0.0))
            if before[0] > used:  # another thread, of the same number
                before = 0.0, 0.0
            self._used += used - before[0]
            self._waited += waited - before[1]
        self._seen = seen

    def _look_at_others(self, pids: list[int]) -> None:
        """Add what the others have left too little since the last look."""
        usable = os.sched_getaffinity(0)
        now, before = (time.monotonic(), _busy(usable), self._own(pids)), self._looked
        self._looked = now
        if before is not None and (since := now[0] - before[0]) > 0:
            others = now[1] - before[1] - max(0.0, now[2] - before[2])  # no number where it is not told
            left = len(usable) * since - others if math.isfinite(others) else 0.0
            self._missed += min(self._processors * since, max(0.0, self._processors * since - left))

    def share(self, seconds: float) -> float | None:
        """0..1, on a clock of `seconds`; None where it is not known.

        A run that kept all its processors busy has got its share, however many threads of its own waited.
        """
        asked = self._used + self._waited
        if asked < _LEAST_SECONDS or seconds <= 0:
            return None
        whole = seconds * self._processors
        return round(min(1.0, max(self._used / asked, self._used / whole, 1 - self._missed / whole)), 3)


def _busy(usable: set[int]) -> float:
    """Seconds for which these processors have worked since the machine began; infinite where it is not told."""
    with suppress(OSError, ValueError, IndexError), open("/proc/stat") as file:
        ticks = 0
        for line in file:
            name, *counts = line.split()[:9]
            if name[3:].isdigit() and name.startswith("cpu") and int(name[3:]) in usable:
                ticks += sum(map(int, counts)) - int(counts[3]) - int(counts[4])  # idle, waiting for a disk
        return ticks / _TICKS
    return float("inf")
