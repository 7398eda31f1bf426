"""The lowest priority for a tree of processes, which can be taken back: it gets processor time that nobody else wants.

Which setting has an effect depends on how the kernel groups tasks: the weight of a control group that has the processor
controller; the priority of an autogroup, which each `setsid` begins, in the root group; else the idle class. Without
privileges the idle class cannot be left again, and is not used.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH110, PTH118, PTH123

from __future__ import annotations

import os
from contextlib import suppress

from core.lab.shim.proctree import threads_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from core.lab.shim.group.cgroup import ControlGroup

_NICE, _USUAL = 19, 0  # of an autogroup
_WEIGHT, _USUAL_WEIGHT = 1, 100  # of a control group
_PASSES = 20  # over a tree whose threads may start others meanwhile
_FIRST_KILLED, _KILLED = 900, 500  # by the kernel for lack of memory, see core/lab/shim/child.py


class LowPriority:
    """Lowers one tree, and gives it back its priority. `group`: that holds all of it, or None."""

    def __init__(self, group: ControlGroup | None = None) -> None:
        weighed = group is not None and os.path.exists(os.path.join(group.path, "cpu.weight"))
        self._group = group if weighed else None
        self._autogroups = self._group is None and _autogroups()
        self._idle = _may_leave_idle()

    @property
    def works(self) -> bool:
        """Whether it can lower a tree so that it does not matter to others."""
        return self._group is not None or self._autogroups or self._idle

    def lower(self, pids: list[int]) -> None:
        """Lower all of the tree that is not; to be called again, as a new `setsid` begins a new autogroup."""
        if self._group is not None:
            self._group.set("cpu.weight", _WEIGHT)
        for pid in pids:
            _kill_first(pid, _FIRST_KILLED)
            if self._autogroups:
                _set_autogroup(pid, _NICE)
            if self._idle:
                for thread in threads_of(pid):
                    _set_class(thread, os.SCHED_IDLE)

    def restore(self, pids: list[int]) -> bool:
        """Give the tree its usual priority. False while some of it has not: to be called again."""
        if self._group is not None:
            self._group.set("cpu.weight", _USUAL_WEIGHT)
        whole = True
        for pid in pids:
            _kill_first(pid, _KILLED)
            if self._autogroups:
                whole = _set_autogroup(pid, _USUAL) and whole
        for _ in range(_PASSES if self._idle else 0):
            if not sum(_set_class(thread, os.SCHED_OTHER) for pid in pids for thread in threads_of(pid)):
                break
        return whole


def _set_class(thread: int, policy: int) -> bool:
    """Whether the thread had another class and has this one now."""
    with suppress(OSError):
        if os.sched_getscheduler(thread) != policy:
            os.sched_setscheduler(thread, policy, os.sched_param(0))
            return True
    return False


def _set_autogroup(pid: int, nice: int) -> bool:
    """Whether the autogroup of a process has this priority now, or there is none. Without privileges the kernel allows
    one change in a tenth of a second.
    """
    path = f"/proc/{pid}/autogroup"
    try:
        with open(path) as file:
            text = file.read().split()
        if text and text[-1] != str(nice):
            with open(path, "w") as file:
                file.write(str(nice))
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _kill_first(pid: int, value: int) -> None:
    with suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "r+") as file:
        if file.read().strip() != str(value):
            file.seek(0)
            file.write(str(value))


def _autogroups() -> bool:
    """Whether the tasks of this process are in an autogroup: it is in the root control group for processors."""
    try:
        with open("/proc/sys/kernel/sched_autogroup_enabled") as file:
            enabled = file.read().strip() == "1"
        with open("/proc/self/cgroup") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return False
    own = [path for _, controllers, path in groups if "cpu" in controllers.split(",")]
    inside = not own and os.path.exists("/sys/fs/cgroup/cgroup.events")  # in a namespace a path tells nothing
    return enabled and not inside and all(path == "/" for path in own or [path for _, name, path in groups if not name])


def _may_leave_idle() -> bool:
    """Whether this process may give the usual class to a thread in the idle one; tried by one that ends at once."""
    pid = os.fork()
    if pid == 0:
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0
