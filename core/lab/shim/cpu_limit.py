"""How much of the processors a job uses on its clock: more than its slot has would be training for nothing.

Standard library only and few imports: the shim of every job loads this.
"""

from __future__ import annotations

import math
import resource

from core.lab.shim.proctree import process_stat, threads_of, tree_cpu

FACTOR, SECONDS = 1.1, 0.5  # of a slot's processors, for what is not training
AT_ONCE, LOOKS = 1.3, 5.0  # of running threads, on average over the looks; honest helpers blink
BESIDE, BESIDE_SECONDS = 1.3, 0.1  # of the busiest threads' seconds; what the others did beside them
LOOK_SECONDS = 0.2  # between two looks, on average


class Processors:
    """Processor seconds of a job's whole tree. `cores` is what it may keep busy on its clock, None for any number.

    Two counts, and the larger holds. The kernel's own is exact, but it forgets a process whose parent ignores its end
    (SIGCHLD), so looks at the tree are added up as well: a process seen for the first time is charged with the whole
    time since the last look for each of its threads that runs. That is too much for one process and right on average
    for many, however short they live, as long as nobody can tell when the next look comes.

    On a machine that is busy with other things more threads get a larger share of it without ever reaching the limit
    on seconds. So threads that run, or wait only for a processor, are counted at each look too, and are too many when
    much of the work was done beside the busiest one; a helper with little to do may have to wait for a processor long.
    """

    def __init__(self, cores: float | None) -> None:
        self._cores = cores
        self._seen: dict[tuple[int, int], float] = {}
        self._looked = 0.0  # sum over all looks
        self._last: float | None = None
        self._from: tuple[float, float] | None = None  # both counts at the start of the clock
        self.used = 0.0  # on the clock so far, at the last look
        self._looks = self._running = 0  # on the clock: how many looks, and running threads over all of them
        self._work: dict[tuple[int, int], float] = {}  # each thread's seconds, the dead ones' too
        self._work_from: dict[tuple[int, int], float] = {}

    def look(self, pids: list[int], now: float) -> None:
        """Take in the tree as it is at `now` (monotonic seconds)."""
        if not self._cores:
            return
        since = now - self._last if self._last is not None else 0.0
        self._last = now
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
            at_work = sum(thread.state == "R" for thread in threads.values())
            running += at_work
            self._looked += max(0.0, stat.cpu - known) if known is not None else max(stat.cpu, since * at_work)
        self._seen = seen
        if self._from is not None:
            counted, looked = self._from
            self.used = max(self._counted(pids) - counted, self._looked - looked)
            self._looks += 1
            self._running += running

    def start(self, pids: list[int], now: float) -> None:
        """The clock starts: what was used until now is free."""
        self.look(pids, now)
        self._from = (self._counted(pids), self._looked) if self._cores else None
        self._work_from = dict(self._work)

    def too_many(self, seconds: float, budget: float = 0.0) -> str:
        """Words, when in `seconds` of the clock more was used than is allowed in all of its `budget`; else empty."""
        if not self._cores:
            return ""
        allowed = self._cores * (max(seconds, budget) * FACTOR + SECONDS)
        at_once = self._cores * AT_ONCE * max(self._looks, budget / LOOK_SECONDS) + LOOKS
        beside = self.used > BESIDE * self._busiest(math.ceil(self._cores)) + BESIDE_SECONDS
        if self.used <= allowed and not (self._running > at_once and beside):
            return ""
        at_work = self._running / max(1, self._looks)
        cores = f"{self._cores:g} processor{'s' * (self._cores != 1)}"
        return (
            f"used {self.used:.1f} processor seconds in {seconds:.1f} s, with {at_work:.1f} threads at work at once, "
            f"where its slot has {cores}"
        )

    def _busiest(self, count: int) -> float:
        """Seconds on the clock of the `count` threads that did most."""
        seconds = (cpu - self._work_from.get(thread, 0.0) for thread, cpu in self._work.items())
        return sum(sorted(seconds)[-count:])

    @staticmethod
    def _counted(pids: list[int]) -> float:
        gone = resource.getrusage(resource.RUSAGE_CHILDREN)
        return gone.ru_utime + gone.ru_stime + tree_cpu(pids)
