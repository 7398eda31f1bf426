"""Limits on the processes of the code under test while it is scored: their number, memory and processor time.

Linux only, by /proc. A sandbox with a PID namespace ends all its processes with itself; without one, a process can
leave its group but not its ancestors, so the scorer makes itself the subreaper and finds orphans among its children.
core/lab has the same measurements; they are written again here because nanotrain must not import the harness.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import ClassVar, NamedTuple

PR_SET_CHILD_SUBREAPER = 36
KEYCTL_SYSCALL = {"x86_64": 250, "aarch64": 219}
KEYCTL_JOIN_SESSION_KEYRING = 1
MAX_PROCESSES = 64  # of one model's process and its descendants
MIN_MEMORY_LIMIT = {"cpu": 4 << 30, "cuda": 8 << 30}  # bytes: the limit is never lower than this
CHECK_SECONDS = 0.2  # between two checks of the limits
MAX_KILL_SECONDS = 5.0  # for the kernel to end the killed processes


def become_subreaper() -> None:
    """Make this process the parent of every orphaned descendant."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def join_new_session_keyring() -> None:
    """Give this process and its children an empty session keyring: the inherited one may hold the user's keys."""
    number = KEYCTL_SYSCALL.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(ctypes.c_long(number), ctypes.c_long(KEYCTL_JOIN_SESSION_KEYRING), None)


def parent_pids() -> dict[int, int]:
    """The parent of every visible process that is not a zombie."""
    found: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                state, parent = _read(f"/proc/{entry.name}/stat").rpartition(b")")[2].split(None, 2)[:2]
                if state != b"Z":
                    found[int(entry.name)] = int(parent)
    return found


def _read(path: str) -> bytes:
    """The content of a short file of /proc: five times a second of every process, so without a file object."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def process_tree(root: int, parents: dict[int, int] | None = None) -> list[int]:
    """`root`, if it is running, and all its descendants."""
    parents = parent_pids() if parents is None else parents
    found, queue = [], [root]
    while queue:
        one = queue.pop()
        found += [one] if one in parents else []
        queue += [pid for pid, parent in parents.items() if parent == one]
    return found


def kill_tree(root: int, keep: Collection[int] = ()) -> None:
    """Kill `root`, its descendants and adopted orphans but those in `keep`; waits up to MAX_KILL_SECONDS for them."""
    deadline = time.monotonic() + MAX_KILL_SECONDS
    while time.monotonic() < deadline:
        parents = parent_pids()
        orphans = [pid for pid, parent in parents.items() if parent == os.getpid() and pid not in keep and pid != root]
        targets = {one for top in (root, *orphans) for one in process_tree(top, parents)}
        if not targets:
            return
        for one in targets:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)
        for one in orphans:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(one, os.WNOHANG)
        time.sleep(0.005)


def resident_bytes(pids: Collection[int]) -> int:
    """Memory of these processes in bytes; shared pages count once for each process.

    Mapped files (CUDA's libraries are gigabytes) do not count: the kernel can take their pages back. Files in memory
    that a process has open count, mapped or not; those that are both count twice.
    """
    total, files = 0, dict[tuple[int, int], int]()
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            kinds = ("RssAnon", "RssShmem") if "RssAnon" in fields else ("VmRSS",)  # none of them: it has ended
            total += sum(int(fields.get(kind, "0").split()[0]) for kind in kinds) * 1024
        with contextlib.suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if str(Path(entry.path).readlink()).startswith("/memfd:"):
                        status = entry.stat()
                        files[status.st_dev, status.st_ino] = status.st_blocks * 512
    return total + sum(files.values())


def memory_limit(device: str) -> int:
    """Bytes of memory that one model may use while it is scored: a quarter of the machine's, and MIN_MEMORY_LIMIT."""
    return max(MIN_MEMORY_LIMIT[device], os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)


class ProcessMonitor(threading.Thread):
    """Checks a process and its descendants every CHECK_SECONDS; calls `on_violation` with the reason and ends."""

    ticks_per_second = os.sysconf("SC_CLK_TCK")
    seen: ClassVar[tuple[float, dict[int, int]]] = (-math.inf, {})  # when parents were read, for all monitors

    def __init__(self, root: int, on_violation: Callable[[str], None], memory: int) -> None:
        super().__init__(daemon=True)
        self.root, self.on_violation, self.memory_limit = root, on_violation, memory
        self.stopped = threading.Event()
        self.last_ticks: dict[tuple[int, int], int] = {}  # of each process, by pid and start time
        self.sampled_ticks = 0  # sum over all checks
        self.start()

    def run(self) -> None:
        while not self.stopped.wait(CHECK_SECONDS):
            if time.monotonic() - ProcessMonitor.seen[0] > CHECK_SECONDS / 2:
                ProcessMonitor.seen = time.monotonic(), parent_pids()
            pids = process_tree(self.root, ProcessMonitor.seen[1])
            self._sample(pids)
            if len(pids) > MAX_PROCESSES:
                return self.on_violation(f"the model started more than {MAX_PROCESSES} processes while it was scored")
            if resident_bytes(pids) > self.memory_limit:
                megabytes = self.memory_limit >> 20
                return self.on_violation(f"the model took more than {megabytes} MB of memory while it was scored")
        return None

    def cpu_seconds(self) -> float:
        """Processor seconds of the process and its descendants up to now.

        The larger of two counts. The kernel's count is exact, but omits a process whose parent did not wait for it;
        sampling charges a process that is first seen running with the whole interval, for each of its threads.
        """
        exact = sum(usage.ticks_with_children for usage in map(cpu_usage, process_tree(self.root)) if usage)
        return max(exact, self.sampled_ticks) / self.ticks_per_second

    def _sample(self, pids: list[int]) -> None:
        """Add what each process used since the last check."""
        now: dict[tuple[int, int], int] = {}
        for pid in pids:
            if usage := cpu_usage(pid):
                key = pid, usage.start_time
                now[key] = usage.ticks
                interval = int(CHECK_SECONDS * self.ticks_per_second) * usage.running_threads
                first = max(usage.ticks, interval) if self.last_ticks else usage.ticks
                self.sampled_ticks += usage.ticks - self.last_ticks[key] if key in self.last_ticks else first
        self.last_ticks = now


class CpuUsage(NamedTuple):
    """Processor time of one process, in clock ticks."""

    ticks: int
    ticks_with_children: int  # and of its children that ended and were waited for
    start_time: int
    running_threads: int  # 0 while the process sleeps


def cpu_usage(pid: int) -> CpuUsage | None:
    """The processor time of a process, or None when it has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        own, children = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
        return CpuUsage(own, own + children, int(fields[19]), int(fields[17]) if fields[0] == b"R" else 0)
    return None
