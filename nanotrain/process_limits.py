"""Keeps the processes of the code under test on a leash while they are scored: counted, weighed, and ended to the last.

Their processor seconds are counted as well: whoever trains on while he is scored computes more than answers need.
Linux only, by /proc. Where a cage has a PID namespace its end is the end of all in it; where it has none, a process
may leave its group, but never its ancestors: the scorer takes in orphans (subreaper), so it finds them here.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
PROCESSES_MAX = 64  # of one model's process and its children
LOOK_SECONDS = 0.2
MEMORY_LEAST = 4 << 30  # bytes
PATIENCE_SECONDS = 5.0  # for the kernel to end what was killed


def take_in_orphans() -> None:
    """Make this process the parent of whatever its children leave behind."""
    ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0)


def leave_the_keys() -> None:
    """Take an empty session keyring, for this process and its children: the old one may hold somebody's keys."""
    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(ctypes.c_long(number), ctypes.c_long(1), None)


def parents() -> dict[int, int]:
    """The parent of every process that can be seen, zombies left out."""
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                state, parent = (entry / "stat").read_bytes().rpartition(b")")[2].split()[:2]
                if state != b"Z":
                    found[int(entry.name)] = int(parent)
    return found


def below(root: int, known: dict[int, int] | None = None) -> list[int]:
    """`root` itself, if it is there, and every process below it."""
    known = parents() if known is None else known
    found, queue = [], [root]
    while queue:
        one = queue.pop()
        found += [one] if one in known else []
        queue += [pid for pid, parent in known.items() if parent == one]
    return found


def end(root: int, others: Collection[int] = ()) -> None:
    """Kill `root`, all below it, and every orphan of this process; `others` are children that are not to be touched."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        known = parents()
        strays = [pid for pid, parent in known.items() if parent == os.getpid() and pid not in others and pid != root]
        targets = {one for top in (root, *strays) for one in below(top, known)}
        if not targets:
            return
        for one in targets:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)
        for one in strays:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(one, os.WNOHANG)
        time.sleep(0.005)


def memory(pids: Collection[int]) -> int:
    """Bytes these processes hold in memory, what they share counted for each."""
    total, page = 0, os.sysconf("SC_PAGE_SIZE")
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * page
    return total


def memory_limit() -> int:
    """Bytes one model may take while it is scored: a quarter of this machine's memory, and 4 GB anywhere."""
    return max(MEMORY_LEAST, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)


class Leash(threading.Thread):
    """Looks at a process and all below it five times a second, and calls `broken` with words when it takes too much."""

    ticks = os.sysconf("SC_CLK_TCK")  # a second

    def __init__(self, root: int, broken: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.root, self.broken = root, broken
        self.limit = memory_limit()
        self.over = threading.Event()
        self.known: dict[tuple[int, int], int] = {}  # ticks of each process, by its number and start
        self.looked = 0  # ticks, added up from look to look
        self.start()

    def run(self) -> None:
        while not self.over.wait(LOOK_SECONDS):
            family = below(self.root)
            self.count(family)
            if len(family) > PROCESSES_MAX:
                return self.broken(f"the model started more than {PROCESSES_MAX} processes while it was scored")
            if memory(family) > self.limit:
                return self.broken(f"the model took more than {self.limit >> 20} MB of memory while it was scored")
        return None

    def spent(self) -> float:
        """Processor seconds of the process and all below it, up to now.

        The larger of two counts. The kernel's is exact, but forgets whoever ends unseen by its parent; the looks charge
        a process that is met running for the first time with the whole time since the last one, for each thread.
        """
        return max(sum(ticks[1] for ticks in map(processor, below(self.root)) if ticks), self.looked) / self.ticks

    def count(self, family: Collection[int]) -> None:
        """Add what each process used since the last look."""
        seen: dict[tuple[int, int], int] = {}
        for pid in family:
            if found := processor(pid):
                own, _, start, threads = found
                seen[pid, start] = own
                fresh = max(own, int(LOOK_SECONDS * self.ticks) * threads) if self.known else own
                self.looked += own - self.known[pid, start] if (pid, start) in self.known else fresh
        self.known = seen


def processor(pid: int) -> tuple[int, int, int, int] | None:
    """Of a process: its own ticks, those with its dead children's, its start, and its threads, 0 when it sleeps."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        own, gone = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
        return own, own + gone, int(fields[19]), int(fields[17]) if fields[0] == b"R" else 0
    return None
