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
KCMP_SYSCALL = {"x86_64": 312, "aarch64": 272}
KCMP_FILES = 2
MAX_TABLES = 8  # of descriptors of one process that are told apart; of more, each is read
LIBC = ctypes.CDLL(None, use_errno=True)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
WAIT_ALL = 0x40000000  # __WALL: also for children that send no SIGCHLD
MAX_PROCESSES = 64  # of one model's process and its descendants
MAX_THREADS = 512 + 16 * (os.cpu_count() or 1)  # of all of them: each library may have a pool of the processors' number
MIN_MEMORY_LIMIT = {"cpu": 4 << 30, "cuda": 8 << 30}  # bytes: the limit is never lower than this
# Read from the disk by a model that has seen rows: which pages of files are in memory is a message to a later process.
# All that it can reach was read before; where its calls cannot be refused, it may still open what it likes.
MAX_PAGES_READ = {"refused": 1024, "open": 8192}
READS = "the model read too many pages of files that were not in memory while it was scored"
MAX_SCRATCH_BYTES = 256 << 20  # of files that a model writes, where they are on the machine's disk
CHECK_SECONDS = 0.2  # between two checks of the limits
CALM_LOOKS = 3  # at the processes of a model, 2 ms apart, that find none to end
MAX_KILL_SECONDS = 5.0  # for the kernel to end the killed processes


def become_subreaper() -> None:
    """Make this process the parent of every orphaned descendant."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def join_new_session_keyring() -> None:
    """Give this process and its children an empty session keyring: the inherited one may hold the user's keys."""
    number = KEYCTL_SYSCALL.get(os.uname().machine)
    if number is not None:
        LIBC.syscall(ctypes.c_long(number), ctypes.c_long(KEYCTL_JOIN_SESSION_KEYRING), None)


def parent_pids() -> dict[int, int]:
    """The parent of every visible process of which a thread lives, whatever became of its first one."""
    found: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = _read(f"/proc/{entry.name}/stat").rpartition(b")")[2].split(None, 18)
                if fields[0] not in (b"Z", b"X") or int(fields[17]) > 1:
                    found[int(entry.name)] = int(fields[1])
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


def threads_of(pid: int) -> list[str]:
    """Folders in /proc of the threads of a process."""
    try:
        return [f"/proc/{pid}/task/{name}" for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208
    except OSError:
        return []


def kill_tree(root: int, keep: Collection[int] = ()) -> None:
    """Kill `root`, its descendants and adopted orphans but those in `keep`; waits up to MAX_KILL_SECONDS for them."""
    deadline = time.monotonic() + MAX_KILL_SECONDS
    while time.monotonic() < deadline:
        parents = parent_pids()
        orphans = [pid for pid, parent in parents.items() if parent == os.getpid() and pid not in keep and pid != root]
        targets = {one for top in (root, *orphans) for one in process_tree(top, parents)}
        if not targets:
            return reap_orphans()
        for one in targets:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)
        time.sleep(0.005)
    return None


def is_orphan(pid: int) -> bool:
    """Of a child of this process: whether it is of a model. A program of the scorer's own is in its session."""
    with contextlib.suppress(OSError):
        return pid not in ProcessMonitor.roots and os.getsid(pid) != os.getsid(0)
    return False


def reap_orphans() -> None:
    """Wait for orphans that have ended, and count their time."""
    with ProcessMonitor.lock, contextlib.suppress(OSError):
        for thread in threads_of(os.getpid()):
            for pid in filter(is_orphan, map(int, _read(f"{thread}/children").split())):
                usage = os.wait4(pid, os.WNOHANG | WAIT_ALL)[2]
                ProcessMonitor.reaped += usage.ru_utime + usage.ru_stime


def resident_bytes(pids: Collection[int]) -> int:
    """Memory of these processes in bytes; shared pages count once for each process.

    Mapped files (CUDA's libraries are gigabytes) do not count: the kernel can take their pages back. Files in memory
    that a process has open count, mapped or not; those that are both count twice.
    """
    total, files = 0, dict[tuple[int, int], int]()
    for pid in pids:
        threads = threads_of(pid)
        for folder in threads:  # the first may have ended, and then it has no memory
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = dict(line.split(":", 1) for line in Path(f"{folder}/status").read_text().splitlines())
                kinds = ("RssAnon", "RssShmem") if "RssAnon" in fields else ("VmRSS",)
                if kinds[0] in fields:
                    total += sum(int(fields.get(kind, "0").split()[0]) for kind in kinds) * 1024
                    break
        tables: list[str] = []  # of descriptors: one, but where a thread has a table of its own
        for folder in threads:
            if len(tables) > MAX_TABLES or not any(_share_files(folder, other) for other in tables):
                tables.append(folder)
                files |= _memory_files(folder)
    return total + sum(files.values())


def pages_read(pids: Collection[int]) -> int:
    """Pages that these processes have had read from a disk: by calls and faults, or faults alone (a network's disk)."""
    total = 0
    for pid in pids:
        faults = usage.faults if (usage := cpu_usage(pid)) else 0
        read = 0
        with contextlib.suppress(OSError, ValueError, IndexError):
            read = int(_read(f"/proc/{pid}/io").split(b"read_bytes:")[1].split(None, 1)[0]) // PAGE_BYTES
        total += max(read, faults)
    return total


def bytes_below(folder: str) -> int:
    """What the files in a folder take of the disk."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{place}/{name}").st_blocks * 512
    return total


def _share_files(one: str, other: str) -> bool:
    """Whether two threads, by their folders, have the same table of descriptors."""
    number = KCMP_SYSCALL.get(os.uname().machine)
    pids = (int(folder.rpartition("/")[2]) for folder in (one, other))
    return number is not None and LIBC.syscall(*map(ctypes.c_long, (number, *pids, KCMP_FILES, 0, 0))) == 0


def _memory_files(folder: str) -> dict[tuple[int, int], int]:
    """Bytes of the files in memory that a thread has open, by device and inode."""
    found: dict[tuple[int, int], int] = {}
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"{folder}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(entry.path).startswith("/memfd:"):  # noqa: PTH115 - of every thread
                    status = entry.stat()
                    found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return found


def memory_limit(device: str) -> int:
    """Bytes of memory that one model may use while it is scored: a quarter of the machine's, and MIN_MEMORY_LIMIT."""
    return max(MIN_MEMORY_LIMIT[device], os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)


class ModelGroup:
    """A control group (version 2) of one model's process, in the one that the harness has made for this scoring.

    The kernel counts all that ever ran in it, and nothing leaves it: it lies where the sandbox shows nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def make(cls, memory: int) -> ModelGroup | None:
        """None without a harness that has made one, or where no more can be made. `memory` in bytes."""
        top = os.environ.get("AUTORESEARCH_CGROUP")
        group = cls(Path(top or "", f"model-{os.urandom(6).hex()}"))
        limits = {"memory.max": memory + memory // 16, "memory.swap.max": 0, "memory.oom.group": 1,
                  "pids.max": MAX_PROCESSES + MAX_THREADS}  # fmt: skip
        try:
            if top is None:
                return None
            group.folder.mkdir()
            for name, value in limits.items():
                if (group.folder / name).exists():
                    (group.folder / name).write_text(str(value))
        except OSError:
            return None
        return group

    def enter(self, command: list[str]) -> list[str]:
        """The command that runs `command` in the group."""
        return ["/bin/sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(self.folder), *command]

    def pids(self) -> list[int]:
        return list(map(int, (self.folder / "cgroup.procs").read_text().split()))

    def cpu_seconds(self) -> float:
        """Processor seconds of all that is and was in the group."""
        return int(self._value("cpu.stat", "usage_usec")) / 1e6

    def out_of_memory(self) -> bool:
        """Whether the kernel has ended a process since the group used more memory than it may."""
        with contextlib.suppress(OSError):  # there is no such file without a limit
            return self._value("memory.events", "oom_kill") != "0"
        return False

    def kill(self) -> None:
        """SIGKILL all of it. `cgroup.kill` alone leaves processes whose first thread has ended."""
        with contextlib.suppress(OSError):
            (self.folder / "cgroup.kill").write_text("1")
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def remove(self) -> None:
        """Remove it once all of it has ended, and was waited for; waits up to MAX_KILL_SECONDS."""
        deadline = time.monotonic() + MAX_KILL_SECONDS
        with contextlib.suppress(OSError):
            while self._value("cgroup.events", "populated") != "0" and time.monotonic() < deadline:
                time.sleep(0.002)
            self.folder.rmdir()

    def _value(self, file: str, key: str) -> str:
        return dict(line.split(" ", 1) for line in (self.folder / file).read_text().splitlines())[key]


class ProcessMonitor(threading.Thread):
    """Checks a process and its descendants about every CHECK_SECONDS; calls `on_violation` with the reason and ends."""

    ticks_per_second = os.sysconf("SC_CLK_TCK")
    seen: ClassVar[tuple[float, dict[int, int]]] = (-math.inf, {})  # when parents were read, for all monitors
    roots: ClassVar[set[int]] = set()  # of all monitors, ended ones too
    reaped: ClassVar[float] = 0.0  # processor seconds of orphans that were waited for, in all
    lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self, root: int, on_violation: Callable[[str], None], memory: int, group: ModelGroup | None = None,
        scratch: str = "", keepers: Collection[int] = (),
    ) -> None:  # fmt: skip
        super().__init__(daemon=True)
        self.keepers = frozenset(keepers)  # trusted processes of the tree, whose memory is not the model's
        self.scratch = scratch  # the folder that it may write, if that is on the disk
        self.root, self.on_violation, self.memory_limit, self.group = root, on_violation, memory, group
        self.stopped = threading.Event()
        self.last_ticks: dict[tuple[int, int], int] = {}  # of each process, by pid and start time
        self.last_time = time.monotonic()
        self.sampled_ticks = 0.0  # sum over all checks
        self.reaped_before = ProcessMonitor.reaped
        self.most_pages: int | None = None  # read from a disk, since the process began; None: any number
        self.alone: set[int] | None = None  # the only processes that there may be; None: any
        ProcessMonitor.roots.add(root)
        self.start()

    def run(self) -> None:
        # At random times: a model could hide work between checks that it can predict.
        while not self.stopped.wait(CHECK_SECONDS * (0.5 + os.urandom(1)[0] / 255)):
            if time.monotonic() - ProcessMonitor.seen[0] > CHECK_SECONDS / 2:
                ProcessMonitor.seen = time.monotonic(), {} if self.group else parent_pids()
            pids = self.pids(ProcessMonitor.seen[1])
            if self.group is None:
                self._sample(pids)
                reap_orphans()
            if violation := self.violation(pids):
                return self.on_violation(violation)
        return None

    def pids(self, parents: dict[int, int] | None = None) -> list[int]:
        """All processes of the model, with orphans: they are this process's children, and not in its session."""
        if self.group is not None:
            with contextlib.suppress(OSError):
                return self.group.pids()
        parents = parent_pids() if parents is None else parents
        tops = [self.root, *(pid for pid, parent in parents.items() if parent == os.getpid() and is_orphan(pid))]
        return [pid for top in tops for pid in process_tree(top, parents)]

    def violation(self, pids: Collection[int]) -> str:
        """The limit that the processes exceed, as a sentence; or ""."""
        if len(pids) > MAX_PROCESSES:  # first: to look at each of very many takes long
            return f"the model started more than {MAX_PROCESSES} processes while it was scored"
        if sum(usage.threads for usage in map(cpu_usage, pids) if usage) > MAX_THREADS + MAX_PROCESSES:
            return f"the model started more than {MAX_THREADS} threads while it was scored"
        if resident_bytes(set(pids) - self.keepers) > self.memory_limit or self.out_of_memory():
            return f"the model took more than {self.memory_limit >> 20} MB of memory while it was scored"
        # Asked again: of those that were ended when the model was shown rows, an older look may hold some.
        if self.alone is not None and not self.alone >= set(pids) and not self.alone >= set(self.pids()):
            return "the model started a process after it was shown rows"
        if self.scratch and bytes_below(self.scratch) > MAX_SCRATCH_BYTES:
            return f"the model wrote more than {MAX_SCRATCH_BYTES >> 20} MB of files while it was scored"
        if self.most_pages is not None and pages_read(pids) > self.most_pages:
            return READS
        return ""

    def limit_reads(self, pages: int) -> None:
        """From here on no more than these may be read from a disk."""
        self.most_pages = pages_read(self.pids()) + pages

    def keep_alone(self, own: set[int]) -> None:
        """End all processes but `own`, to which no new one is allowed; a later one violates the limits."""
        deadline, calm = time.monotonic() + MAX_KILL_SECONDS, 0
        while calm < CALM_LOOKS and time.monotonic() < deadline:
            others = set(self.pids()) - own
            calm = 0 if others else calm + 1
            for pid in others:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
        self.alone = own

    def out_of_memory(self) -> bool:
        return self.group is not None and self.group.out_of_memory()

    def cpu_seconds(self) -> float:
        """Processor seconds of the process and its descendants up to now.

        In a control group, the kernel's. Else the larger of two counts: the kernel's count is exact, but omits a
        process whose parent did not wait for it; sampling charges a process that is first seen running with the whole
        interval, for each of its threads.
        """
        if self.group is not None:
            return self.group.cpu_seconds()
        exact = sum(usage.ticks_with_children for usage in map(cpu_usage, self.pids()) if usage)
        exact_seconds = exact / self.ticks_per_second + ProcessMonitor.reaped - self.reaped_before
        return max(exact_seconds, self.sampled_ticks / self.ticks_per_second)

    def _sample(self, pids: list[int]) -> None:
        """Add what each process used since the last check."""
        now: dict[tuple[int, int], int] = {}
        moment = time.monotonic()
        interval, self.last_time = (moment - self.last_time) * self.ticks_per_second, moment
        for pid in pids:
            if usage := cpu_usage(pid):
                key = pid, usage.start_time
                now[key] = usage.ticks
                if key in self.last_ticks:
                    self.sampled_ticks += usage.ticks - self.last_ticks[key]
                else:
                    busy = interval * running_threads(pid) if self.last_ticks else 0
                    self.sampled_ticks += max(usage.ticks, busy)
        self.last_ticks = now


class CpuUsage(NamedTuple):
    """Processor time of one process, in clock ticks."""

    ticks: int
    ticks_with_children: int  # and of its children that ended and were waited for
    start_time: int
    threads: int
    faults: int  # that had to read from a disk


def cpu_usage(pid: int) -> CpuUsage | None:
    """The processor time of a process, all its threads together, or None when it has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        own, children = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
        return CpuUsage(own, own + children, int(fields[19]), int(fields[17]), int(fields[9]))
    return None


def running_threads(pid: int) -> int:
    """How many threads of a process run, or wait for a processor."""
    count = 0
    for folder in threads_of(pid):
        with contextlib.suppress(OSError):
            count += _read(f"{folder}/stat").rpartition(b")")[2].split(None, 1)[0] == b"R"
    return count
