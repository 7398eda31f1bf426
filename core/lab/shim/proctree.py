"""Processes by identity, and process trees: found, measured, killed to the last one.

Standard library only and few imports: the shim of every job loads this.
"""

from __future__ import annotations

import os
import signal
import time

Identity = tuple[str, int, int]  # boot id, pid, start time in clock ticks since boot

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")  # a second


def boot_id() -> str:
    """The kernel's name for this boot: a pid means nothing without it."""
    return _read("/proc/sys/kernel/random/boot_id").decode().strip()


def _read(path: str) -> bytes:
    """A /proc file's bytes; empty when it is gone or not ours to read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(fd)


class Stat:
    """The fields of /proc/PID/stat that matter here. `start` in clock ticks since boot; `cpu` in seconds, its own."""

    __slots__ = ("cpu", "group", "parent", "session", "start", "state")

    def __init__(self, text: bytes) -> None:
        # The name is in brackets and may itself hold brackets and spaces: count from the last one.
        fields = text[text.rindex(b")") + 2 :].split()
        self.state = fields[0].decode()
        self.parent, self.group, self.session = int(fields[1]), int(fields[2]), int(fields[3])
        self.cpu = (int(fields[11]) + int(fields[12])) / _TICKS
        self.start = int(fields[19])


def process_stat(pid: int) -> Stat | None:
    text = _read(f"/proc/{pid}/stat")
    return Stat(text) if text else None


def process_identity(pid: int) -> Identity | None:
    """(boot id, pid, start time) of a process, or None when there is none."""
    stat = process_stat(pid)
    return (boot_id(), pid, stat.start) if stat else None


def same_process(identity: Identity) -> bool:
    """True while that very process is there and not a zombie."""
    boot, pid, start = identity
    stat = process_stat(pid)
    return stat is not None and stat.start == start and stat.state not in "ZX" and boot == boot_id()


def descendants(root: int) -> list[int]:
    """Every process below `root`, parents first. Cheap: reads only the tree, never all of /proc."""
    found: list[int] = []
    queue = [root]
    while queue:
        pid = queue.pop(0)
        try:
            threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
        except OSError:
            continue
        for thread in threads:
            children = [int(child) for child in _read(f"/proc/{pid}/task/{thread}/children").split()]
            found.extend(children)
            queue.extend(children)
    return found


def tree_memory(pids: list[int], held: int = 0) -> int:
    """Resident bytes of some processes: what each has to itself, and the largest shared part once.

    `held` are bytes of memory files that they hold open, mapped (then they are in the shared part) or not.
    """
    own, shared = 0, held
    for pid in pids:
        fields = _read(f"/proc/{pid}/statm").split()
        if len(fields) > 2:
            own += (int(fields[1]) - int(fields[2])) * _PAGE
            shared = max(shared, int(fields[2]) * _PAGE)
    return own + shared


def tree_cpu(pids: list[int]) -> float:
    """Processor seconds that some processes and their collected children have used."""
    ticks = 0
    for pid in pids:
        text = _read(f"/proc/{pid}/stat")
        if text:
            ticks += sum(map(int, text[text.rindex(b")") + 2 :].split()[11:15]))
    return ticks / _TICKS


def threads_of(pid: int) -> dict[int, Stat]:
    """The threads of a process by their number; `cpu` and `start` are each one's own."""
    try:
        names = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
    except OSError:
        return {}
    texts = {int(name): _read(f"/proc/{pid}/task/{name}/stat") for name in names}
    return {thread: Stat(text) for thread, text in texts.items() if text}


def held_files(pids: list[int]) -> tuple[int, int]:
    """(bytes of memory, bytes of disk) in files that have no name any more and live by an open descriptor alone."""
    memory = disk = 0
    seen: set[tuple[int, int]] = set()
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        try:
            names = os.listdir(folder)  # noqa: PTH208 - no pathlib in a shim
        except OSError:
            continue
        for name in names:
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
    """Proportional resident bytes (pages shared by a fork counted once), or None where the kernel does not say."""
    total = 0
    for pid in pids:
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                total += int(line.split()[1]) * 1024
                break
    return total or None


def kill_children(group: int, *, seconds: float = 10.0) -> bool:
    """SIGKILL everything below this process, which must be a subreaper, and reap it. True when nothing is left.

    Orphans come to a subreaper, so "no child left" means "no descendant left"; new forks are met by the next sweep.
    """
    me, until = os.getpid(), time.monotonic() + seconds
    while True:
        _kill_group(group)
        for pid in descendants(me):
            _kill(pid)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.002)


def hunt(mark: str, identities: list[Identity], session: int | None, *, seconds: float = 10.0) -> int:
    """Kill what a dead shim left: processes known by identity, of its job's session, or marked in their environment.

    `mark` is a path that only this job's processes have in their environment. Returns how many were killed.
    """
    boot, needle, killed = boot_id(), os.fsencode(mark), 0
    known = {(pid, start) for b, pid, start in identities if b == boot}
    oldest = min((start for _, start in known), default=0)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        prey = [pid for pid in _all_pids() if _is_prey(pid, known, oldest, session, needle)]
        if not prey:
            break
        for pid in prey:
            killed += _kill(pid)
        time.sleep(0.01)
    return killed


def _is_prey(pid: int, known: set[tuple[int, int]], oldest: int, session: int | None, needle: bytes) -> bool:
    stat = process_stat(pid)
    if stat is None or stat.state in "ZX" or pid == os.getpid():
        return False
    if (pid, stat.start) in known or (known and session == stat.session and stat.start >= oldest):
        return True
    return needle in _read(f"/proc/{pid}/environ")


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208


def _kill(pid: int) -> int:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return 0
    return 1


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        return
