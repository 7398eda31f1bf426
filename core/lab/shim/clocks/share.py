"""The part of the processor time that a run asked for and got on its clock, by the kernel's count of waiting."""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import os
from contextlib import suppress

_LEAST_SECONDS = 0.5  # of work and waiting, below which nothing follows from their ratio
_NANO = 1e9


class ShareMeter:
    """Processor seconds that the threads of a tree used and waited for, from `start` on. Needs /proc/PID/schedstat.

    A run has no say in it: nothing that it reports is used. Time of a thread after its last sample is not counted.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[float, float]] = {}
        self._used = self._waited = 0.0

    def start(self, pids: list[int]) -> None:
        """Begin to count; what was used and waited for before is left out."""
        self.sample(pids)
        self._used = self._waited = 0.0

    def sample(self, pids: list[int]) -> None:
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

    def share(self, seconds: float, processors: float) -> float | None:
        """0..1, on a clock of `seconds` with so many `processors`; None where it is not known.

        A run that kept all its processors busy has got its share, however many threads of its own waited.
        """
        asked = self._used + self._waited
        if asked < _LEAST_SECONDS or seconds <= 0:
            return None
        return round(min(1.0, max(self._used / asked, self._used / (seconds * max(1.0, processors)))), 3)
