"""Names that appear in folders, also those that are gone soon after, and the folders that are moved meanwhile

Linux tells them by inotify; elsewhere, or where the user has no watches left, nothing is told.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

LOST = "./"  # among the names: the kernel has dropped some
_MOVED_TO, _CREATE, _DELETE_SELF, _MOVE_SELF = 0x80, 0x100, 0x400, 0x800
_UNMOUNT, _OVERFLOW = 0x2000, 0x4000
_ONLY_FOLDERS = 0x1000000
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_BUFFER = 1 << 18


class FolderWatch:
    """Watches `folders` (name → place) from now on, in a thread of its own, until `close`.

    `matters` is asked about each new entry, by its name and place; where it says so, the name is kept. `opens`, asked
    by name, says which new folders are watched in turn.
    """

    def __init__(
        self, folders: Mapping[str, Path], matters: Callable[[str, Path], bool], opens: Callable[[str], bool]
    ) -> None:
        self._matters, self._opens = matters, opens
        self._seen: set[str] = set()
        self._places: dict[int, tuple[str, Path, bool]] = {}  # by watch; whether it is one of `folders`
        self._thread: threading.Thread | None = None
        try:
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = int(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        except (OSError, AttributeError):
            return
        if self._fd < 0:
            return
        for name, place in folders.items():
            self._add(name, place, True)
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._follow, name="folder watch", daemon=True)
        self._thread.start()

    def close(self) -> frozenset[str]:
        """End the watch. Returns the names of new entries that matter, and of `folders` that were moved or removed."""
        if self._thread is not None:
            os.close(self._stopped)
            self._thread.join()
            self._thread = None
            self._read()  # what came last
            os.close(self._stop)
            os.close(self._fd)
        return frozenset(self._seen)

    def _add(self, name: str, place: Path, given: bool) -> None:
        mask = _CREATE | _MOVED_TO | _DELETE_SELF | _MOVE_SELF | _ONLY_FOLDERS
        watch = int(self._libc.inotify_add_watch(self._fd, os.fsencode(place), mask))
        if watch >= 0:
            self._places[watch] = (name, place, given)

    def _follow(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        while all(fd != self._stop for fd, _ in poll.poll()):
            self._read()

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._fd, _BUFFER):
                at = 0
                while at < len(data):
                    watch, mask, _, length = _EVENT.unpack_from(data, at)
                    name = os.fsdecode(data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0"))
                    self._hear(watch, mask, name)
                    at += _EVENT.size + length

    def _hear(self, watch: int, mask: int, name: str) -> None:
        if mask & _OVERFLOW:
            self._seen.add(LOST)
            return
        folder, place, given = self._places.get(watch, ("", Path(), False))
        if mask & (_MOVE_SELF | _DELETE_SELF | _UNMOUNT) and given:
            self._seen.add(folder)
        if mask & (_CREATE | _MOVED_TO) and watch in self._places:
            self._meet(f"{folder}/{name}" if folder else name, place / name)

    def _meet(self, path: str, place: Path) -> None:
        """A new entry, and what is in it already where it is a folder that matters."""
        if self._matters(path, place):
            self._seen.add(path)
        if self._opens(path) and place.is_dir():
            self._add(path, place, False)
            with suppress(OSError):
                for inner in list(place.iterdir()):
                    self._meet(f"{path}/{inner.name}", inner)
