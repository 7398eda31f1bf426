"""Processor time of a run on its clock, and the limit on it: more than its slot has would be an unfair advantage.

On a clock of processor seconds it is what the clock tells.
"""

from __future__ import annotations

import math
import resource

from core.lab.shim.proctree import process_stat, threads_of, tree_cpu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from core.lab.shim.group.cgroup import ControlGroup

_TIME_FACTOR, _EXTRA_SECONDS = 1.1, 0.5  # allowed over a slot's processor time, for work other than training
_THREAD_FACTOR, _EXTRA_THREADS = 1.3, 5.0  # allowed running threads over the slot's, summed over samples
_OTHERS_FACTOR, _OTHERS_SECONDS = 1.3, 0.1  # allowed time of all threads over that of the busiest ones
SAMPLE_SECONDS = 0.2  # between two samples, on average


class CpuMeter:
    """Processor seconds of a run's process tree, and its limit of `cores` on the clock (None: no limit). Without a
    limit they are counted only where they are the `clock`.

    In a control group the kernel's count is exact. Without one, the larger of two counts holds. The kernel's of the
    processes lacks those whose parent ignores their end (SIGCHLD), so samples of the tree are summed as well: a process
    seen for the first time is charged the whole time since the last sample for each of its running threads. That is
    too much for one process but right on average for many, however short they live, as long as a run cannot predict the
    time of a sample.

    On a busy machine more threads get a larger share of the processors within the limit on seconds. So each sample also
    counts threads that run or wait for a processor. They are too many when much of the work was done by others than
    the busiest thread: a thread with little work may wait long for a processor.
    """

    def __init__(self, cores: float | None, group: ControlGroup | None = None, *, clock: bool = False) -> None:
        self._cores, self._group, self._counts = cores, group, clock or cores is not None
        self._seen: dict[tuple[int, int], float] = {}
        self._sampled = 0.0  # sum over all samples
        self._sampled_at = 0.0  # monotonic seconds; 0: never
        self.read_at = 0.0  # the same, of `used`
        self._from: tuple[float, float] | None = None  # both counts at the start of the clock
        self.before = 0.0  # all that was used when the clock started
        self.used = 0.0  # on the clock so far, at the last sample
        self._samples = self._running = 0  # on the clock: number of samples, and running threads in all of them
        self._work: dict[tuple[int, int], float] = {}  # seconds of each thread, also of ended ones
        self._work_from: dict[tuple[int, int], float] = {}

    def sample(self, pids: list[int], now: float) -> None:
        """Add a sample of the tree at `now` (monotonic seconds)."""
        if not self._counts:
            return
        since = now - self._sampled_at if self._sampled_at else 0.0
        self._sampled_at = self.read_at = now
        seen: dict[tuple[int, int], float] = {}
        running = 0
        for pid in pids:
            stat = process_stat(pid)
            if stat is None:
                continue
            known = self._seen.get((pid, stat.start))
            seen[pid, stat.start] = stat.cpu
            threads = threads_of(pid)
            self._work.update({(number, thread.start): thread.cpu for number, thread in threads.items()})
            busy = sum(thread.state == "R" for thread in threads.values())
            running += busy
            self._sampled += max(0.0, stat.cpu - known) if known is not None else max(stat.cpu, since * busy)
        self._seen = seen
        if self._from is not None:
            counted, sampled = self._from
            self.used = max(self.counted(pids) - counted, self._sampled - sampled if self._group is None else 0.0)
            self._samples += 1
            self._running += running

    def read(self, pids: list[int], now: float) -> None:
        """Bring `used` up to date between samples, at a time that the run may have chosen, by the kernel's count alone:
        a process that begins right after a sample would be charged for less than it used.
        """
        if self._from is not None:
            self.used, self.read_at = max(self.used, self.counted(pids) - self._from[0]), now

    def start(self, pids: list[int], now: float) -> None:
        """Start the clock: time used until now is not counted."""
        self.sample(pids, now)
        self.before = self.counted(pids)
        self._from = (self.before, self._sampled) if self._counts else None
        self._work_from = dict(self._work)

    def excess(self, seconds: float, budget: float = 0.0) -> str:
        """A reason, when `seconds` on the clock used more than is allowed for the whole `budget`; else empty."""
        if not self._cores:
            return ""
        allowed = self._cores * (max(seconds, budget) * _TIME_FACTOR + _EXTRA_SECONDS)
        at_once = self._cores * _THREAD_FACTOR * max(self._samples, budget / SAMPLE_SECONDS) + _EXTRA_THREADS
        others = self.used > _OTHERS_FACTOR * self._busiest(math.ceil(self._cores)) + _OTHERS_SECONDS
        if self.used <= allowed and not (self._running > at_once and others):
            return ""
        average = self._running / max(1, self._samples)
        cores = f"{self._cores:g} processor{'s' * (self._cores != 1)}"
        return (
            f"used {self.used:.1f} processor seconds in {seconds:.1f} s, with {average:.1f} threads at work at once, "
            f"where its slot has {cores}"
        )

    def _busiest(self, count: int) -> float:
        """Seconds on the clock of the `count` busiest threads."""
        seconds = (cpu - self._work_from.get(thread, 0.0) for thread, cpu in self._work.items())
        return sum(sorted(seconds)[-count:])

    def counted(self, pids: list[int]) -> float:
        """Processor seconds of the tree so far, by the kernel."""
        if self._group is not None and (seconds := self._group.cpu_seconds()) is not None:
            return seconds
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime + tree_cpu(pids)
