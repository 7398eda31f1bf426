"""Limits of a run on memory, processes and disk, checked a few times a second."""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH108, PTH113, PTH114, PTH118, PTH123

from __future__ import annotations

import os
import time
from _collections_abc import Iterator  # the module by the public name loads more
from contextlib import suppress

from core.lab.shim.proctree import boot_id, exact_memory, process_stat, tree_memory, unnamed_files

TYPE_CHECKING = False
if TYPE_CHECKING:  # to load typing takes 3 ms
    from typing import Any

    from core.lab.shim.group.cgroup import ControlGroup

_ENTRIES_PER_CHECK = 2000  # of the disk walk, so that a check never delays the deadline
_UNNAMED_SECONDS = 0.5  # between two checks of files without a name
_SHARED_MEMORY = "/dev/shm"
POOLS = 16  # of as many threads as the machine has processors, on top of the limit: each library may have one
_WALK_SECONDS = 1.0  # at least, between two walks


def most_threads(processes: int) -> int:
    """The most threads of so many processes together; 0, no limit, for 0."""
    return processes + POOLS * (os.cpu_count() or 1) if processes else 0


class LimitWatch:
    """Limits of one run and its peak use. A limit of 0 is no limit."""

    def __init__(self, spec: dict[str, Any], group: ControlGroup | None = None) -> None:
        self._group = group
        self._memory_limit: int = spec["memory_limit"] or 0
        self._usual_limit, self._beside = self._memory_limit, ""
        self._process_limit: int = spec["process_limit"] or 0
        self._disk_limit: int = spec["disk_limit"] or 0
        self._private: list[str] = spec["private"]
        self._kept: list[str] = spec["private"][:2] if spec["keep_private"] else []
        self._folders: list[str] = spec["private"] + spec["watched"]
        self._link: str = spec["link"]
        self._worktree: str = spec["cwd_top"]
        self._grown_from: int | None = None
        self._unreadable = ""  # a folder that cannot be read: by its mode, or as its path is too long
        self._walk: Iterator[int] | None = None
        self._next_walk = self._next_unnamed = 0.0
        self._unnamed_memory = self._unnamed_disk = 0  # in files without a name
        self.memory = self.peak_memory = self.peak_processes = self.disk = 0
        self.tree: list[tuple[str, int, int]] = []
        self._boot = boot_id()

    def lower_limit(self, memory: int) -> None:
        """Allow so much memory for now: as much as is free beside another run."""
        self._memory_limit, self._beside = memory, ", which is free beside another run"

    def usual_limit(self) -> None:
        self._memory_limit, self._beside = self._usual_limit, ""

    def peaks(self) -> dict[str, int]:
        """Bytes and counts; `memory` is current, the others are peaks."""
        most = self.peak_processes
        return {"memory": self.memory, "peak_memory": self.peak_memory, "peak_processes": most, "disk": self.disk}

    def check(self, pids: list[int]) -> tuple[str, str] | None:
        """("resources", reason) when a limit is exceeded."""
        self.peak_processes = max(self.peak_processes, len(pids))
        if (limit := self._process_limit) and len(pids) > limit:  # first: to look at each of very many takes long
            return "resources", f"was killed: it started more than {limit} processes"
        stats = [(pid, stat) for pid in pids if (stat := process_stat(pid))]
        if limit:
            threads = sum(stat.threads for _, stat in stats)
            if threads > most_threads(limit):
                return "resources", f"was killed: it started more than {limit} processes: {threads} with their threads"
        # By identity, so that a later engine can kill them if this shim is killed.
        self.tree = [(self._boot, pid, stat.start) for pid, stat in stats[:256]]
        if (now := time.monotonic()) >= self._next_unnamed:
            self._unnamed_memory, self._unnamed_disk = unnamed_files(pids)
            self._next_unnamed = now + _UNNAMED_SECONDS
        self.memory = tree_memory(pids, self._unnamed_memory)
        limit = self._memory_limit
        if limit and self.memory > limit:
            self.memory = max(exact_memory(pids) or self.memory, self._unnamed_memory)
            if self.memory > limit:
                self.peak_memory = max(self.peak_memory, self.memory)
                return "resources", f"was killed: it used more than {limit >> 20} MB of memory{self._beside}"
        self.peak_memory = max(self.peak_memory, self.memory)
        return self.out_of_memory() or self._check_disk()

    def out_of_memory(self) -> tuple[str, str] | None:
        """The end of a run that the kernel has ended, as its control group used more memory than it may."""
        if self._group is None or not self._group.out_of_memory():
            return None
        self.peak_memory = max(self.peak_memory, self._memory_limit)
        return "resources", f"was killed: it used more than {self._memory_limit >> 20} MB of memory"

    def _check_disk(self) -> tuple[str, str] | None:
        now = time.monotonic()
        if self._walk is None:
            if now < self._next_walk:
                return None
            self._walk = self._measure()
        for used in self._walk:
            if used < 0:
                return None  # the walk goes on at the next check
            self.disk = used
        self._walk = None
        self._next_walk = now + _WALK_SECONDS
        if self._unreadable:
            return "resources", "was killed: it created a folder that the harness cannot read to measure its size"
        self.disk += self._unnamed_disk
        if self._disk_limit and self.disk > self._disk_limit:
            return "resources", f"was killed: it wrote more than {self._disk_limit >> 20} MB to disk"
        return None

    def _measure(self) -> Iterator[int]:
        """Yields -1 after many entries, and at the end the bytes that the run has written."""
        own, tree, seen = 0, 0, 0
        for top in [*self._folders, self._worktree]:
            stack = [top] if top else []
            while stack:
                size = 0
                entries = _entries(folder := stack.pop())
                if entries is None:
                    self._unreadable = folder
                    continue
                for entry in entries:
                    seen += 1
                    if seen % _ENTRIES_PER_CHECK == 0:
                        yield -1
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            stack.append(entry.path)
                        # An empty file counts too: many of them use up a disk's inodes.
                        size += entry.stat(follow_symlinks=False).st_blocks * 512 + 256
                    except OSError:
                        continue
                if top == self._worktree:
                    tree += size
                else:
                    own += size
        if self._grown_from is None:
            self._grown_from = tree  # size of the checkout
        yield own + max(0, tree - self._grown_from)

    def clean_up(self, gid: int | None) -> None:
        """Remove the run's private home and temporary files, and the files of its own `gid` in shared memory."""
        from core.lab.shim.rmtree import remove_tree  # late: a start does not wait for it

        for folder in self._private:
            if folder not in self._kept:
                with suppress(OSError):
                    remove_tree(folder)
        if os.path.islink(self._link):
            with suppress(OSError):
                os.unlink(self._link)
        for entry in (_entries(_SHARED_MEMORY) or ()) if gid is not None else ():
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_gid == gid:
                    remove_tree(entry.path)


class GitFile:
    """A worktree's `.git`, restored after the run: git commands there would run code named in a forged one."""

    def __init__(self, worktree: str) -> None:
        self._path = os.path.join(worktree, ".git")
        self._text = self._read()

    def _read(self) -> bytes | None:
        if os.path.islink(self._path) or not os.path.isfile(self._path):
            return None
        with open(self._path, "rb") as file:
            return file.read(65536)

    def restore(self) -> None:
        """Restore it where it was changed. Does nothing in a folder that was not a linked worktree."""
        if self._text is None or self._read() == self._text:
            return
        from core.lab.shim.rmtree import remove_tree

        with suppress(OSError):
            remove_tree(self._path)
            with open(self._path, "xb") as file:
                file.write(self._text)


def _entries(folder: str) -> list[os.DirEntry[str]] | None:
    """Entries of a folder: none when it does not exist, None when it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        return None
