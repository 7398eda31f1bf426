"""The part of its processors that the rest of the machine leaves a run on its clock

It follows from how many threads of others want a processor, looked at some times a second: what the run does, how long
its own threads wait for each other, and whether it is idle change nothing, so that no run can make itself be measured
again.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH123

from __future__ import annotations

import os
from contextlib import suppress

from core.lab.shim.proctree import threads_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LEAST_LOOKS = 5  # below which nothing follows


def runnable_threads() -> int | None:
    """Threads of the whole machine that run or wait for a processor, this one included; None where it is not told."""
    with suppress(OSError, ValueError, IndexError), open("/proc/loadavg") as file:
        return int(file.read().split()[3].partition("/")[0]) or None
    return None


def running_threads(pids: list[int]) -> int:
    """Those of some processes."""
    return sum(thread.state == "R" for pid in pids for thread in threads_of(pid).values())


class ShareMeter:
    """Threads that compete with a run, from `start` on. `processors`: of its slot; `machine`: of all.

    `runnable` and `own`: as `runnable_threads` and `running_threads`.
    """

    def __init__(
        self,
        processors: float,
        machine: int = os.cpu_count() or 1,
        runnable: Callable[[], int | None] = runnable_threads,
        own: Callable[[list[int]], int] = running_threads,
    ) -> None:
        self._processors, self._machine = max(1.0, processors), machine
        self._runnable, self._own = runnable, own
        self._others = self._wanted = self._looks = 0

    def start(self) -> None:
        """Begin to count."""
        self._others = self._wanted = self._looks = 0

    def sample(self, pids: list[int]) -> None:
        """Look once, at a time that the run cannot foresee. `pids`: its processes."""
        runnable = self._runnable()
        if runnable is not None:
            own = self._own(pids)
            self._others += runnable - 1 - own  # less this one
            self._wanted += own
            self._looks += 1

    def share(self) -> float | None:
        """0..1, what a run that keeps its processors busy gets among the others; None where it is not known."""
        if self._looks < _LEAST_LOOKS:
            return None
        others = max(0.0, self._others / self._looks)
        return round(min(1.0, self._machine / (others + self._processors)), 3)

    def wanted(self) -> float:
        """Processors that its own threads wanted, on average."""
        return round(self._wanted / self._looks, 3) if self._looks else 0.0
