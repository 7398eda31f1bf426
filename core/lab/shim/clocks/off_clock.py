"""Code under test that is off its clock: kept from the processors of runs on theirs, and still while a model is scored.

A tree of processes may run as many threads at once as there are processors that are nobody's. One that runs more is
bound to so many processors; where none is left, or it frees itself of the binding, it is stopped but for a small part
of the time. (The idle class does not help: with the scheduler's autogroups, each `setsid` is a group of its own, with
the same weight as the run on its clock.) While another model is scored, all of it is stopped.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH123

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from core.lab.shim.clocks.clock_register import ClockRegister
from core.lab.shim.proctree import process_stat, threads_of

TYPE_CHECKING = False
if TYPE_CHECKING:  # to load typing takes 3 ms
    from collections.abc import Callable

    from core.lab.shim.group.cgroup import ControlGroup

RATION = 0.05  # part of one processor that is left to a tree where no processor is free
_BURST_SECONDS = 0.3  # of threads more than there are free processors, before the tree is bound or stopped
_MAX_DEBT_SECONDS = 5.0  # of a tree of so many threads that looks at it take long
_REFILL_SECONDS = 0.05  # until a tree that has used up its ration goes on
_LEAST_RATE = 0.25  # at which allowances run down in a tree that is bound to few processors
_MAX_LOST_SECONDS = 3600.0
_STOP_PASSES = 20  # over the tree, which may fork meanwhile
_MAX_ESCAPES = 3  # of a stopped tree; the kernel starts none by itself
_STOP_BIT = 1 << (signal.SIGSTOP - 1)
ESCAPED = "was killed: it continued itself (SIGCONT) while it was stopped for another run"


class OffClock:
    """One tree of processes that is off its clock. Call `tick` often, at times that it cannot predict.

    `lost`: seconds that count against no allowance of the tree, as it had no or few processors in them.
    """

    def __init__(
        self, register: ClockRegister, processors: int, *, scored: bool = False, supervisor: bool = False,
        group: ControlGroup | None = None,
    ) -> None:  # fmt: skip
        """`processors`: of the machine, as far as the session may use them; `scored`: the tree is that of a scorer,
        which no other scoring stops, and which always has one processor; `supervisor`: this process works for the tree
        alone, by reading its output, and what it uses counts as the tree's; `group`: of all the tree, to be frozen,
        while without one it is stopped by signals. It may be set later.
        """
        self.group = group
        self._register = register
        self._processors = max(1, processors)
        self._least = 1 if scored else 0
        self._scored = scored
        self._supervisor = supervisor
        self._own = 0.0  # processor seconds of this process
        self._everywhere = os.sched_getaffinity(0)
        self._bound: frozenset[int] | None = None  # the processors that the tree is bound to
        self._sets: set[frozenset[int]] = set()  # all that it ever was
        self._before: dict[int, set[int]] = {}  # of threads that had chosen their own
        self._known: set[int] = set()  # threads bound at the last tick
        self._freed_itself = False
        self._told: set[tuple[int, int]] = set()  # to stop, by identity
        self._still = False
        self._credit = _BURST_SECONDS
        self._last = 0.0
        self._rate = 1.0  # at which allowances run down
        self._escapes = 0
        self.lost = 0.0

    @property
    def trouble(self) -> str:
        """Why the tree must end, or empty."""
        return ESCAPED if self._escapes > _MAX_ESCAPES else ""

    def tick(self, tree: Callable[[], list[int]], *, held: bool = False, last: bool = False) -> None:
        """Look at the others' clocks and at the tree; `held`: the tree is stopped in any case; `last`: it gets what
        processor time nobody wants, beside clocks of processor seconds.
        """
        now = time.monotonic()
        since = now - self._last if self._last else 0.0
        self._last = now
        self.lost = min(_MAX_LOST_SECONDS, self.lost + since * (1.0 - self._rate))
        taken, scoring = self._register.others()
        if held or (scoring and not self._scored):
            self._rate = 0.0
            self._stop(tree)
        elif not taken or last:
            self.release(tree)
        else:
            self._share(tree, max(self._least, self._processors - taken), since)

    def release(self, tree: Callable[[], list[int]]) -> None:
        """Let the tree run as if it were alone. Idempotent."""
        self._rate = 1.0
        if self._bound is not None:
            for thread in _threads(tree()):
                with suppress(OSError):
                    os.sched_setaffinity(thread, self._before.get(thread, self._everywhere))
            self._bound = None
            self._before.clear()
            self._known.clear()
        self._continue(tree)
        self._freed_itself, self._credit = False, _BURST_SECONDS

    def _share(self, tree: Callable[[], list[int]], free: float, since: float) -> None:
        """Leave `free` processors to the tree, or the ration."""
        free = max(RATION, free)
        self._rate = max(min(_LEAST_RATE, free), free / self._processors)
        running = 0
        if not self._still:
            pids = tree()
            if self._bound is not None:
                self._bind(pids, free)
            running = sum(stat.state == "R" for pid in pids for stat in threads_of(pid).values())
        before, self._own = self._own, time.process_time() if self._supervisor else 0.0
        since_own = self._own - before if before else 0.0
        allowed = RATION if self._freed_itself else free + RATION * (free >= 1)
        self._credit = min(_BURST_SECONDS, self._credit + since * (allowed - running) - since_own)
        if self._credit < 0:
            self._credit = max(self._credit, -_MAX_DEBT_SECONDS)
            if self._bound is None:
                self._bind(tree(), free)
            self._stop(tree)
        elif self._still and self._credit >= _REFILL_SECONDS * allowed:
            self._continue(tree)
        elif self._still:
            self._stop(tree)

    def _bind(self, pids: list[int], free: float) -> None:
        wanted = frozenset(sorted(self._everywhere)[-max(1, int(free + 0.001)) :])
        same = wanted == self._bound
        found: set[int] = set()
        for thread in _threads(pids):
            with suppress(OSError):
                now = os.sched_getaffinity(thread)
                if now != wanted:
                    self._freed_itself = self._freed_itself or (same and thread in self._known)
                    if now != self._everywhere and now not in self._sets:
                        self._before.setdefault(thread, now)
                    os.sched_setaffinity(thread, wanted)
                found.add(thread)
        self._bound, self._known = wanted, found
        self._sets.add(wanted)

    def _stop(self, tree: Callable[[], list[int]]) -> None:
        """Stop all of the tree, which may fork meanwhile, and count how often it has continued by itself."""
        self._still, escaped = True, False
        if self.group is not None and self.group.freeze():
            return
        told = set(self._told)
        for turn in range(_STOP_PASSES):
            running = []
            for pid in tree():
                states = {thread.state for thread in threads_of(pid).values()}
                if states <= set("TtZX"):
                    continue
                running.append(pid)
                identity = (pid, stat.start if (stat := process_stat(pid)) else 0)
                # One that waits for a processor keeps the signal until it has one.
                escaped = escaped or (identity in told and not states & set("TtD") and not _stop_is_pending(pid))
                self._told.add(identity)
            if not running:
                break
            for pid in running:
                with suppress(OSError):
                    os.kill(pid, signal.SIGSTOP)
            told.clear()
            time.sleep(0.001 * (turn > 0))
        self._escapes += escaped

    def _continue(self, tree: Callable[[], list[int]]) -> None:
        if self._still:
            self._still = False
            if self.group is not None:
                self.group.thaw()
            if not self._told:
                return
            self._told.clear()
            for pid in reversed(tree()):  # a parent sees no child that is stopped
                with suppress(OSError):
                    os.kill(pid, signal.SIGCONT)


def _threads(pids: list[int]) -> list[int]:
    return [thread for pid in pids for thread in threads_of(pid)]


def _stop_is_pending(pid: int) -> bool:
    with suppress(OSError), open(f"/proc/{pid}/status") as file:
        return any(int(line.split()[1], 16) & _STOP_BIT for line in file if line.startswith(("SigPnd", "ShdPnd")))
    return True
