"""State of the files of a worktree as git laid them out, so that a large worktree is restored by its differences

The kernel sets a file's ctime at every change of its content, mode, times, links or extended attributes, and no
process without privileges can set it. So an entry with the same inode, ctime, size and times is unchanged, and stays;
everything else is removed. Few entries may differ: which ones a run has touched can be seen afterwards by their times.
"""

from __future__ import annotations

import mmap
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from core.lab.shim.rmtree import remove_tree

MIN_FILES = 2_000  # of a worktree that is worth the effort
MAX_CHANGED = 64  # entries that may differ; with more, everything is laid out anew
_TICK = 0.03  # seconds, longer than the grain of ctime
# An access time in the future is not changed by reading (relatime), for the 25 hours until it is a day old.
_ACCESS_AHEAD = 3600 * 10**9

_Stamp = tuple[int, ...]


class Layout:
    """Entries of the working tree `top`, without `.git`, as they are now; nothing may write to them meanwhile."""

    def __init__(self, top: Path, commit: str) -> None:
        self._top = os.fspath(top)
        self.take(commit)

    def take(self, commit: str) -> None:
        """Take the entries of a tree in which everything was laid out anew."""
        self.commit = commit
        self._folders: dict[str, dict[str, _Stamp]] = {}
        self._take("")

    def _take(self, folder: str) -> None:
        known = self._folders[folder] = {}
        with os.scandir(self._path(folder)) as entries:
            names = [entry.name for entry in entries if folder or entry.name != ".git"]
        for name in names:
            path = f"{folder}/{name}" if folder else name
            if stat.S_ISDIR(os.lstat(self._path(path)).st_mode):
                self._take(path)
            known[name] = self._settle(path)

    def _path(self, path: str) -> str:
        return f"{self._top}/{path}" if path else self._top

    def _settle(self, path: str) -> _Stamp:
        """Set an access time that reading does not change, and return the stamp."""
        full = self._path(path)
        os.utime(full, ns=(time.time_ns() + _ACCESS_AHEAD, os.lstat(full).st_mtime_ns), follow_symlinks=False)
        return _stamp(os.lstat(full))

    def moved(self, top: Path) -> None:
        self._top = os.fspath(top)

    def clean(self) -> set[str] | None:
        """Remove everything that is not as it was laid out. Returns the files that are missing then.

        None, and the tree is in any state, when too many entries differ. Raises OSError.
        """
        missing: set[str] = set()
        touched: list[str] = []
        if not self._clean("", missing, touched):
            return None
        for folder in touched:  # the deepest first
            self._rebuild(folder)
        self._record_folders({above for folder in touched for above in _above(folder)})
        return missing

    def _clean(self, folder: str, missing: set[str], touched: list[str]) -> bool:
        known, seen, extra = self._folders[folder], set[str](), list[str]()
        with os.scandir(self._path(folder)) as found:
            entries = [(entry.name, entry.stat(follow_symlinks=False)) for entry in found]
        for name, status in entries:
            if name == ".git" and not folder:
                continue
            path = f"{folder}/{name}" if folder else name
            now, then = _stamp(status), known.get(name)
            same_folder = then is not None and now[:2] == then[:2] and stat.S_ISDIR(status.st_mode)
            if now != then and not same_folder:
                extra.append(path)
                continue
            seen.add(name)
            if same_folder:
                if not self._clean(path, missing, touched):
                    return False
                if now != then:
                    touched.append(path)
        for name in known.keys() - seen:
            self._miss(f"{folder}/{name}" if folder else name, missing)
        if len(missing) + len(touched) > MAX_CHANGED:
            return False
        for path in extra:
            remove_tree(Path(self._path(path)))
        return True

    def _miss(self, path: str, missing: set[str]) -> None:
        """Add a file, or all files of a folder, to `missing`, and forget them."""
        folder, _, name = path.rpartition("/")
        self._folders[folder].pop(name, None)
        inside = self._folders.get(path)
        if inside is None:
            missing.add(path)
            return
        for below in list(inside):
            self._miss(f"{path}/{below}", missing)
        del self._folders[path]

    def _rebuild(self, folder: str) -> None:
        """Replace a folder whose attributes, size or entries have changed by a new one with the same entries."""
        old, new = self._path(folder), self._path(folder) + ".autoresearch-new"
        Path(new).mkdir()
        for name in self._folders[folder]:
            Path(old, name).rename(Path(new, name))
        remove_tree(Path(old))
        Path(new).rename(old)
        for name in self._folders[folder]:
            self._record(f"{folder}/{name}")
        self._record(folder)

    def _record(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        self._folders[folder][name] = self._settle(path)

    def drop(self, paths: Iterable[str]) -> None:
        """Remove files, which are to be laid out anew."""
        for path in paths:
            folder, _, name = path.rpartition("/")
            if self._folders.get(folder, {}).pop(name, None) is not None:
                Path(self._path(path)).unlink()

    def renew(self, paths: Iterable[str]) -> None:
        """Record files that have been laid out anew, and the folders around them."""
        folders: set[str] = set()
        for path in paths:
            folders.update(_above(path))
            for folder in _above(path):
                self._folders.setdefault(folder, {})
            self._record(path)
        self._record_folders(folders)

    def _record_folders(self, folders: Iterable[str]) -> None:
        for folder in sorted(folders, key=len, reverse=True):
            self._record(folder)


def _above(path: str) -> list[str]:
    """The folders around a path, without the top."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def tells_changes(folder: Path) -> bool:
    """Whether ctime tells every change on this file system, and reading leaves an access time in the future."""
    probe = folder / f".autoresearch-probe-{os.getpid()}"
    try:
        probe.write_bytes(bytes(mmap.PAGESIZE))
        now = time.time_ns()
        os.utime(probe, ns=(now + _ACCESS_AHEAD, now))
        before = probe.stat()
        time.sleep(_TICK)
        probe.read_bytes()
        if probe.stat().st_atime_ns != before.st_atime_ns:
            return False
        with probe.open("r+b") as file, mmap.mmap(file.fileno(), 0) as page:
            page[0] = 1
            return probe.stat().st_ctime_ns != before.st_ctime_ns
    except (OSError, ValueError):
        return False
    finally:
        probe.unlink(missing_ok=True)


def _stamp(status: os.stat_result) -> _Stamp:
    return (
        stat.S_IFMT(status.st_mode), status.st_ino, status.st_ctime_ns, status.st_mode, status.st_size,
        status.st_mtime_ns, status.st_atime_ns,
    )  # fmt: skip
