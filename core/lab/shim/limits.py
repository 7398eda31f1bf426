"""What a job may take of the machine: memory, processes and disk, looked at a few times a second.

Standard library only: the shim of every job loads this.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH108, PTH113, PTH114, PTH118, PTH123

from __future__ import annotations

import os
import time
from _collections_abc import Iterator  # the module by the public name loads more
from contextlib import suppress

from core.lab.shim.proctree import boot_id, exact_memory, held_files, process_stat, tree_memory

TYPE_CHECKING = False
if TYPE_CHECKING:  # to load typing takes 3 ms
    from typing import Any

_ENTRIES_PER_LOOK = 2000  # of the disk walk: a look never holds up the deadline
_HELD_SECONDS = 0.5  # between two looks for files without a name
_SHARED_MEMORY = "/dev/shm"
_DISK_SECONDS = 1.0  # at least this long between two walks


class Watch:
    """Limits of one job and what it used at most. A limit of 0 is none."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._memory_limit: int = spec["memory_limit"] or 0
        self._process_limit: int = spec["process_limit"] or 0
        self._disk_limit: int = spec["disk_limit"] or 0
        self._private: list[str] = spec["private"]
        self._folders: list[str] = spec["private"] + spec["watched"]
        self._link: str = spec["link"]
        self._worktree: str = spec["cwd_top"]
        self._grown_from: int | None = None
        self._unseen = ""  # a folder that was closed to us, or is deeper than a path is long
        self._walk: Iterator[int] | None = None
        self._next_walk = self._next_held = 0.0
        self._held_memory = self._held_disk = 0  # in files without a name
        self.memory = self.peak_memory = self.peak_processes = self.disk = 0
        self.tree: list[tuple[str, int, int]] = []
        self._boot = boot_id()

    def peaks(self) -> dict[str, int]:
        """Bytes and counts; `memory` is now, the others the most so far."""
        return {
            "memory": self.memory,
            "peak_memory": self.peak_memory,
            "peak_processes": self.peak_processes,
            "disk": self.disk,
        }

    def look(self, pids: list[int]) -> tuple[str, str] | None:
        """("resources", why) when a limit is broken."""
        self.peak_processes = max(self.peak_processes, len(pids))
        if self._process_limit and len(pids) > self._process_limit:
            return "resources", f"was killed: it started more than {self._process_limit} processes"
        # Known by identity, so that a later engine can end them should this shim be killed.
        self.tree = [(self._boot, pid, stat.start) for pid in pids[:256] if (stat := process_stat(pid))]
        if (now := time.monotonic()) >= self._next_held:
            self._held_memory, self._held_disk = held_files(pids)
            self._next_held = now + _HELD_SECONDS
        self.memory = tree_memory(pids, self._held_memory)
        limit = self._memory_limit
        if limit and self.memory > limit:
            self.memory = max(exact_memory(pids) or self.memory, self._held_memory)
            if self.memory > limit:
                self.peak_memory = max(self.peak_memory, self.memory)
                return "resources", f"was killed: it used more than {limit >> 20} MB of memory"
        self.peak_memory = max(self.peak_memory, self.memory)
        return self._look_at_disk()

    def _look_at_disk(self) -> tuple[str, str] | None:
        now = time.monotonic()
        if self._walk is None:
            if now < self._next_walk:
                return None
            self._walk = self._measure()
        for used in self._walk:
            if used < 0:
                return None  # more to come at the next look
            self.disk = used
        self._walk = None
        self._next_walk = now + _DISK_SECONDS
        if self._unseen:
            return "resources", "was killed: it made a folder that nobody can look into, to see what it writes"
        self.disk += self._held_disk
        if self._disk_limit and self.disk > self._disk_limit:
            return "resources", f"was killed: it wrote more than {self._disk_limit >> 20} MB to disk"
        return None

    def _measure(self) -> Iterator[int]:
        """Yields -1 when it has looked at many entries, and at last the bytes that the job has written."""
        own, tree, seen = 0, 0, 0
        for top in [*self._folders, self._worktree]:
            stack = [top] if top else []
            while stack:
                size = 0
                entries = _entries(folder := stack.pop())
                if entries is None:
                    self._unseen = folder
                    continue
                for entry in entries:
                    seen += 1
                    if seen % _ENTRIES_PER_LOOK == 0:
                        yield -1
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            stack.append(entry.path)
                        # An empty file takes room too: many of them fill a disk's inodes.
                        size += entry.stat(follow_symlinks=False).st_blocks * 512 + 256
                    except OSError:
                        continue
                if top == self._worktree:
                    tree += size
                else:
                    own += size
        if self._grown_from is None:
            self._grown_from = tree  # what was checked out is not the job's doing
        yield own + max(0, tree - self._grown_from)

    def clean_up(self, group: int | None) -> None:
        """Remove the job's private home and temporary files, and what its own `group` has in shared memory."""
        from core.lab.shim.rmtree import remove_tree  # late: a start need not wait for it

        for folder in self._private:
            with suppress(OSError):
                remove_tree(folder)
        if os.path.islink(self._link):
            with suppress(OSError):
                os.unlink(self._link)
        for entry in (_entries(_SHARED_MEMORY) or ()) if group is not None else ():
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_gid == group:
                    remove_tree(entry.path)


class GitFile:
    """A worktree's `.git`, put back after the run: a forged one would act on whoever looks into the folder."""

    def __init__(self, worktree: str) -> None:
        self._path = os.path.join(worktree, ".git")
        self._text = self._read()

    def _read(self) -> bytes | None:
        if os.path.islink(self._path) or not os.path.isfile(self._path):
            return None
        with open(self._path, "rb") as file:
            return file.read(65536)

    def restore(self) -> None:
        """Undo what the run did to it. Does nothing in a folder that was no linked worktree."""
        if self._text is None or self._read() == self._text:
            return
        from core.lab.shim.rmtree import remove_tree

        with suppress(OSError):
            remove_tree(self._path)
            with open(self._path, "xb") as file:
                file.write(self._text)


def _entries(folder: str) -> list[os.DirEntry[str]] | None:
    """What is in a folder: nothing when it has gone, None when it is there and cannot be looked into."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        return None
