"""Processes and process trees: identity, descendants, memory, processor time, and the end of a whole tree.

A process is what all its threads are. Its first thread may have ended while others go on: then /proc/PID says `Z`, with
no memory and no descriptors, and these are read from a thread that lives.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time

Identity = tuple[str, int, int]  # boot id, pid, start time in clock ticks since boot

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")  # a second
_TELLS_CHILDREN = os.access(f"/proc/self/task/{os.getpid()}/children", os.R_OK)
_MAX_ASKED_THREADS = 1000  # for their children: to read every process of the machine is faster than more of them
WAIT_ALL = 0x40000000  # __WALL: also for children that send no SIGCHLD
_LIBC = ctypes.CDLL(None)
_KCMP = {"x86_64": 312, "aarch64": 272}.get(os.uname().machine)
_KCMP_MEMORY, _KCMP_FILES = 1, 2  # what two threads may share
_MAX_TABLES = 8  # of descriptors of one process that are told apart; of more, each is read


def boot_id() -> str:
    """The kernel's id of this boot: pids are unique only within one."""
    return _read("/proc/sys/kernel/random/boot_id").decode().strip()


def _read(path: str) -> bytes:
    """Bytes of a /proc file; empty when it does not exist or cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return b"".join(iter(lambda: os.read(fd, 65536), b""))
    except OSError:
        return b""
    finally:
        os.close(fd)


def _names(folder: str) -> list[str]:
    """Names in a /proc folder; none when it does not exist or cannot be read."""
    try:
        return os.listdir(folder)  # noqa: PTH208 - no pathlib in a shim
    except OSError:
        return []


class ProcessStat:
    """Some fields of /proc/PID/stat. `start` in clock ticks since boot; `cpu` in seconds, `tree_cpu` with children.

    All are the process's but `state`, which is that of its first thread; `threads` is their number, ended ones that
    nobody has waited for included.
    """

    __slots__ = ("cpu", "group", "parent", "session", "start", "state", "threads", "tree_cpu")

    def __init__(self, text: bytes) -> None:
        # The name is in brackets and may contain brackets and spaces: split after the last one.
        fields = text[text.rindex(b")") + 2 :].split()
        self.state = fields[0].decode()
        self.parent, self.group, self.session = int(fields[1]), int(fields[2]), int(fields[3])
        self.cpu = (int(fields[11]) + int(fields[12])) / _TICKS
        self.tree_cpu = self.cpu + (int(fields[13]) + int(fields[14])) / _TICKS
        self.threads = int(fields[17])
        self.start = int(fields[19])

    @property
    def alive(self) -> bool:
        """While any of its threads is."""
        return self.state not in "ZX" or self.threads > 1


def process_stat(pid: int) -> ProcessStat | None:
    text = _read(f"/proc/{pid}/stat")
    return ProcessStat(text) if text else None


def process_identity(pid: int) -> Identity | None:
    """(boot id, pid, start time) of a process, or None when there is none."""
    stat = process_stat(pid)
    return (boot_id(), pid, stat.start) if stat else None


def same_process(identity: Identity) -> bool:
    """True while this process exists, and any of its threads lives."""
    boot, pid, start = identity
    stat = process_stat(pid)
    return stat is not None and stat.start == start and stat.alive and boot == boot_id()


def descendants(root: int, most: int = 0) -> list[int]:
    """All processes below `root`, parents first. Reads only the tree, not all of /proc, where the kernel tells it.

    `most`: with more, only some of them: a fork bomb grows meanwhile, and to read all of it takes ever longer. 0: all.
    """
    if not _TELLS_CHILDREN:
        return _descendants_by_parent(root)
    found, asked = [root], 0
    for pid in found:  # it grows meanwhile
        if most and len(found) > most + 1:
            break
        threads = _names(f"/proc/{pid}/task")
        asked += len(threads)
        if asked > _MAX_ASKED_THREADS:
            return _descendants_by_parent(root)
        for thread in threads:
            found += [int(child) for child in _read(f"/proc/{pid}/task/{thread}/children").split()]
    return found[1:]


def _descendants_by_parent(root: int) -> list[int]:
    """The same by the parents of all processes: for gVisor, and kernels without CONFIG_PROC_CHILDREN."""
    children: dict[int, list[int]] = {}
    for pid in _all_processes():
        if stat := process_stat(pid):
            children.setdefault(stat.parent, []).append(pid)
    found = [root]
    for pid in found:  # it grows meanwhile
        found += children.get(pid, ())
    return found[1:]


def _all_processes() -> list[int]:
    return [int(name) for name in _names("/proc") if name.isdecimal()]


def tree_memory(pids: list[int], unnamed: int = 0) -> int:
    """Resident bytes of processes: the private part of each, and the largest shared part once.

    `unnamed`: bytes of memory files that they hold open; where these are mapped, they are in the shared part too.
    """
    own, shared = 0, unnamed
    for pid in pids:
        fields = _memory_file(pid, "statm").split()
        if len(fields) > 2:
            own += (int(fields[1]) - int(fields[2])) * _PAGE
            shared = max(shared, int(fields[2]) * _PAGE)
    return own + shared


def tree_cpu(pids: list[int]) -> float:
    """Processor seconds of processes and their reaped children."""
    return sum(stat.tree_cpu for pid in pids if (stat := process_stat(pid)))


def threads_of(pid: int) -> dict[int, ProcessStat]:
    """Threads of a process by id; `cpu` and `start` are those of the thread."""
    texts = {int(name): _read(f"/proc/{pid}/task/{name}/stat") for name in _names(f"/proc/{pid}/task")}
    return {thread: ProcessStat(text) for thread, text in texts.items() if text}


def _memory_file(pid: int, name: str) -> bytes:
    """The text of `statm` or `smaps_rollup`, from the first thread that has memory: one that has ended has none."""
    text = _read(f"/proc/{pid}/{name}")
    if text and not text.startswith(b"0 "):
        return text
    for thread in _names(f"/proc/{pid}/task"):
        text = _read(f"/proc/{pid}/task/{thread}/{name}")
        if text and not text.startswith(b"0 "):
            return text
    return b""


def _descriptor_tables(pid: int) -> list[str]:
    """Folders of the descriptors of a process: one, but where a thread has a table of its own."""
    found: list[str] = []
    for thread in _names(f"/proc/{pid}/task"):
        near = found[:_MAX_TABLES] if len(found) <= _MAX_TABLES else []
        if not any(_shared(int(thread), int(one), _KCMP_FILES) for one in near):
            found.append(thread)
    return [f"/proc/{pid}/task/{thread}/fd" for thread in found]


def _shared(one: int, other: int, what: int) -> bool:
    """Whether two threads share their memory, or their descriptors; False where the kernel does not tell."""
    arguments = map(ctypes.c_long, (_KCMP or -1, one, other, what, 0, 0))
    return _KCMP is not None and one != other and int(_LIBC.syscall(*arguments)) == 0


def unnamed_files(pids: list[int]) -> tuple[int, int]:
    """(bytes of memory, bytes of disk) in removed files that are still open."""
    memory = disk = 0
    seen: set[tuple[int, int]] = set()
    for folder in (table for pid in pids for table in _descriptor_tables(pid)):
        for name in _names(folder):
            try:
                link = os.readlink(f"{folder}/{name}")  # noqa: PTH115
                if not link.endswith(" (deleted)"):
                    continue
                status = os.stat(f"{folder}/{name}")  # noqa: PTH116
            except OSError:
                continue
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            if link.startswith(("/memfd:", "/dev/shm/", "/SYSV")):
                memory += status.st_blocks * 512
            else:
                disk += status.st_blocks * 512
    return memory, disk


def exact_memory(pids: list[int]) -> int | None:
    """Proportional resident bytes (shared pages counted once), or None where the kernel does not provide them.

    Processes that share all their memory (between `vfork` and `exec`, say) count once.
    """
    total, counted = 0, list[int]()
    for pid in pids:
        if any(_shared(pid, other, _KCMP_MEMORY) for other in counted[-_MAX_TABLES:]):
            continue
        _, _, rest = _memory_file(pid, "smaps_rollup").partition(b"\nPss:")
        if rest:
            counted.append(pid)
            total += int(rest.split(maxsplit=1)[0]) * 1024
    return total or None


def kill_children(group: int, *, seconds: float = 10.0) -> bool:
    """SIGKILL and reap all processes below this one, which must be a subreaper. True when none is left.

    Orphans become children of a subreaper, so no child means no descendant; the next round finds new forks.
    """
    me, until = os.getpid(), time.monotonic() + seconds
    while True:
        for pid in (-group, *descendants(me)):
            sigkill(pid)
        try:
            while os.waitpid(-1, os.WNOHANG | WAIT_ALL)[0]:
                pass
        except ChildProcessError:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.002)


def kill_leftovers(mark: str, identities: list[Identity], session: int | None, *, seconds: float = 10.0) -> int:
    """Kill the processes of a dead shim's run: by identity, by session, or by a mark in their environment.

    `mark` is a text that only this run's processes have in their environment. Returns the number killed.
    """
    boot, needle, killed = boot_id(), os.fsencode(mark), 0
    known = {(pid, start) for b, pid, start in identities if b == boot}
    oldest = min((start for _, start in known), default=0)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = [pid for pid in _all_processes() if _is_leftover(pid, known, oldest, session, needle)]
        if not found:
            break
        killed += sum(map(sigkill, found))
        time.sleep(0.01)
    return killed


def _is_leftover(pid: int, known: set[tuple[int, int]], oldest: int, session: int | None, needle: bytes) -> bool:
    stat = process_stat(pid)
    if stat is None or not stat.alive or pid == os.getpid():
        return False
    if (pid, stat.start) in known or (known and session == stat.session and stat.start >= oldest):
        return True
    return needle in _read(f"/proc/{pid}/environ")


def sigkill(pid: int) -> int:
    """SIGKILL a process, or the process group -pid. Returns how many were killed: 0 or 1."""
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return 0
    return 1
