"""Limits of the control groups around this process (a container, a batch job, a service): memory and processors.

Version 1 and 2 of control groups are read, with every group from the process's own up to the mount's top, since the
smallest limit holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")
_MEMORY = ("memory.max", "memory.high", "memory.limit_in_bytes")


def memory_total(root: Path = _ROOT) -> int:
    """Bytes of memory that this process and its children may use: the machine's, or a control group's limit."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [_number(group / name) for group in _groups(root, "memory") for name in _MEMORY]
    return min([machine, *(limit for limit in limits if limit)])


def memory_used(root: Path = _ROOT) -> int:
    """Bytes of it that are used, without the file cache that can be dropped."""
    import psutil

    memory, total = psutil.virtual_memory(), memory_total(root)
    if total >= memory.total:
        return int(memory.total - memory.available)
    for group in _groups(root, "memory"):
        limits = [_number(group / name) for name in _MEMORY]
        used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes")
        if total in limits and used:
            return max(0, used - _inactive_files(group))
    return min(total, int(memory.total - memory.available))


def cores(root: Path = _ROOT) -> int:
    """Processors that this process may use: its affinity, and the quotas of its control groups; at least one."""
    usable, quotas = float(len(os.sched_getaffinity(0))), []
    for group in _groups(root, "cpu"):
        both = _words(group / "cpu.max") or [*_words(group / "cpu.cfs_quota_us"), *_words(group / "cpu.cfs_period_us")]
        if len(both) == 2 and both[0].isdecimal() and both[1].isdecimal() and int(both[1]):
            quotas.append(int(both[0]) / int(both[1]))
    return max(1, int(min([usable, *quotas])))


def own_group(root: Path = _ROOT) -> Path | None:
    """Folder of the control group (version 2) that this process is in; None where it is not mounted."""
    return next(_groups(root, ""), None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups around this process that may limit `controller`, inner ones first."""
    own = {}  # controllers of a hierarchy -> the group in it; "" is version 2
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            own[name] = path
    mounts = [_mount(line) for line in _lines(root / "proc/self/mountinfo") if " - cgroup" in line]
    for kind, top, place, options in mounts:
        name = "" if kind == "cgroup2" else controller
        if name not in own or (kind == "cgroup" and controller not in options):
            continue
        folder = root / place.lstrip("/")
        # In a container the mount may begin at the group itself, or the path be told from outside of it.
        inside = own[name].removeprefix(top) if top != "/" and own[name].startswith(top) else own[name]
        parts = [part for part in inside.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            if (group := folder.joinpath(*parts[:depth])).is_dir():
                yield group


def _mount(line: str) -> tuple[str, str, str, list[str]]:
    """(file system, its folder that is mounted, where, options) of a line of mountinfo."""
    before, _, after = line.partition(" - ")
    fields, last = before.split(" "), after.split(" ")
    return last[0], fields[3], fields[4], last[-1].split(",")


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _number(file: Path) -> int:
    """The number in a file; 0 without one."""
    text = " ".join(_words(file))
    return int(text) if text.isdecimal() else 0


def _inactive_files(group: Path) -> int:
    stat = dict(line.split(" ", 1) for line in _lines(group / "memory.stat") if " " in line)
    found = stat.get("total_inactive_file") or stat.get("inactive_file") or "0"
    return int(found) if found.isdecimal() else 0
