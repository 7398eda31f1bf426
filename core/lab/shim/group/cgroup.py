"""Control group (version 2) of one command: its processes, processor time and limits, its freeze and its end.

The kernel counts all that ever ran in a group. Nothing leaves it: the sandbox shows no control groups, and the files by
which a process is moved belong to the engine. A group is locked by the process that supervises it, for life, so that a
later engine finds those whose supervisor was killed. Names are random: they tell a run nothing of itself.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH102, PTH106, PTH112, PTH118, PTH119, PTH123

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress

from core.lab.shim.proctree import sigkill

PREFIX = "autoresearch-"
MEMORY_SHARE = 16  # the kernel's limit is higher by this part: it counts buffers of pipes and sockets, page tables …
_POLL_SECONDS = 0.002
_AGAIN_SECONDS = 0.05  # after which what still lives is signalled again


class ControlGroup:
    """A group that this process has made and locked, or, by its path, one that another has."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = -1

    @classmethod
    def make(cls, base: str, *, memory: int = 0, threads: int = 0) -> ControlGroup | None:
        """A new group below `base`; None without a base, or where it cannot be made. Limits of 0 are no limits."""
        for _ in range(3 if base else 0):  # another engine may take a group without a lock for one that is abandoned
            group = cls(os.path.join(base, PREFIX + os.urandom(8).hex()))
            if group._create():
                break
        else:
            return None
        if memory:
            group.set("memory.max", memory + memory // MEMORY_SHARE)
            group.set("memory.swap.max", 0)
            group.set("memory.oom.group", 1)
        if threads:
            group.set("pids.max", threads)
        return group

    @classmethod
    def of(cls, base: str, pid: int) -> ControlGroup | None:
        """The group made below `base` in which a process is; None where it is in none."""
        with suppress(OSError), open(f"/proc/{pid}/cgroup") as file:
            names = [name for line in file if line.startswith("0::") for name in line.strip().split("/")]
            for path in (os.path.join(base, name) for name in reversed(names) if base and name.startswith(PREFIX)):
                if os.path.isdir(path):
                    return cls(path)
        return None

    def _create(self) -> bool:
        try:
            os.mkdir(self.path, 0o700)
            self.lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return os.path.isdir(self.path)

    def set(self, name: str, value: int | str) -> None:
        """Write a setting, where the group has its controller."""
        with suppress(OSError):
            _write(os.path.join(self.path, name), str(value))

    def enter(self) -> None:
        """Move this process into the group. Raises OSError."""
        _write(os.path.join(self.path, "cgroup.procs"), "0")

    def pids(self) -> list[int] | None:
        """The processes of the group, unsorted, those whose first thread has ended included; None when it is gone."""
        try:
            with open(os.path.join(self.path, "cgroup.procs")) as file:
                return [int(line) for line in file]
        except OSError:
            return None

    def cpu_seconds(self) -> float | None:
        """Processor seconds of all that is and was in the group."""
        used = self._value("cpu.stat", "usage_usec")
        return None if used is None else used / 1e6

    def out_of_memory(self) -> bool:
        """Whether the kernel ended it as it used more memory than its limit."""
        return bool(self._value("memory.events", "oom_kill"))

    def freeze(self) -> bool:
        """Stop all its threads, new ones too, within milliseconds: no signal continues them. False when it cannot."""
        return self._hold(1)

    def thaw(self) -> bool:
        return self._hold(0)

    def frozen(self) -> bool:
        """Whether all its threads stand still."""
        return self._value("cgroup.events", "frozen") == 1

    def kill(self) -> None:
        """SIGKILL all of it and of the groups in it, frozen or not.

        `cgroup.kill` alone leaves processes whose first thread has ended: it signals to that thread.
        """
        self.set("cgroup.kill", 1)
        for pid in self.pids() or ():
            sigkill(pid)
        for path in _inner(self.path):
            ControlGroup(path).kill()

    def end(self, seconds: float = 10.0) -> bool:
        """Kill all of it, and remove the group with those in it. True when nothing is left.

        A process whose first thread had ended before counts until its parent has waited for it.
        """
        until = time.monotonic() + seconds
        self.kill()
        while not (ended := self._reaches("populated", 0, _AGAIN_SECONDS)) and time.monotonic() < until:
            self.kill()
        if ended:
            _remove(self.path)
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1
        return ended

    def _hold(self, value: int) -> bool:
        try:
            _write(os.path.join(self.path, "cgroup.freeze"), str(value))
        except OSError:
            return False
        return True

    def _reaches(self, key: str, value: int, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (now := self._value("cgroup.events", key)) != value:
            if now is None or time.monotonic() > until:
                return now is None
            time.sleep(_POLL_SECONDS)
        return True

    def _value(self, name: str, key: str) -> int | None:
        with suppress(OSError, ValueError), open(os.path.join(self.path, name)) as file:
            for line in file:
                found, _, value = line.partition(" ")
                if found == key:
                    return int(value)
        return None


def remove_abandoned(base: str) -> int:
    """End the groups below `base` whose supervisor has died. Returns the number of processes that were in them."""
    ended = 0
    for name in _groups(base):
        path = os.path.join(base, name)
        with suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left = ControlGroup(path)
                ended += len(left.pids() or ())
                left.end()
            finally:
                os.close(lock)
    return ended


def _groups(folder: str) -> list[str]:
    return [name for one in _inner(folder) if (name := os.path.basename(one)).startswith(PREFIX)]


def _inner(path: str) -> list[str]:
    """The groups in a group."""
    try:
        with os.scandir(path) as found:
            return [one.path for one in found if one.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _remove(path: str) -> None:
    """Remove an empty group and those in it."""
    for one in _inner(path):
        _remove(one)
    with suppress(OSError):
        os.rmdir(path)


def _write(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)
