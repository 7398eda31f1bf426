"""The scorer's answers to the calls of a model that take a path: allowed until it is shown rows, then refused.

Files of its own folders, which no other run sees, can be read after that, too (`own_files.py`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from nanotrain.file_access.own_files import Call, OwnFiles

_RECEIVE, _SEND, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104  # ioctls of a listener
_SYNC_WAKE_UP = 1  # the caller goes on where this thread ran: several times faster, from Linux 6.6 on
_NOTIFICATION = struct.Struct("QIIiIQ6Q")  # struct seccomp_notif
_RESPONSE = struct.Struct("QqiI")
_CONTINUE = 1
_RAN_NANOSECONDS = 1_000_000  # of a thread that was let go on: by then it has read its path
MAX_SETTLE_SECONDS = 20.0


class PathSupervisor(threading.Thread):
    """Answers the calls of one model's processes; `listener` is that of their filter, and is closed by `close`."""

    def __init__(self, listener: int) -> None:
        super().__init__(daemon=True)
        self.listener = listener
        self.refusing = False
        self.refused = False  # whether a call was refused
        self.own = OwnFiles()  # what it may still read
        self.ended, self.end = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)
        self.start()

    def run(self) -> None:
        poll = select.poll()
        for descriptor in (self.listener, self.ended):
            poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, event in poll.poll():
                if descriptor == self.ended or event & (select.POLLHUP | select.POLLERR):
                    return
                self._answer()

    def _answer(self) -> None:
        notification = bytearray(_NOTIFICATION.size)  # which the kernel wants empty
        with contextlib.suppress(OSError):  # the caller has died
            fcntl.ioctl(self.listener, _RECEIVE, notification)
            number, pid, _, call, _, _, *arguments = _NOTIFICATION.unpack(notification)
            value, fault = 0, 0
            if self.refusing:
                try:
                    value = self.own.answer(Call(self.listener, number, pid, call, arguments))
                except OSError:
                    self.refused, fault = True, -errno.ENOENT
            fcntl.ioctl(self.listener, _SEND, _RESPONSE.pack(number, value, fault, 0 if self.refusing else _CONTINUE))

    def refuse(self, threads: Callable[[], Collection[str]], own: Collection[str] = ()) -> bool:
        """Refuse all calls from here on, but to read what is below the folders `own`. True once no call goes on that
        was allowed before: the kernel reads its path late, and it could be one of a row by then. `threads`: all of the
        model, by their folders in /proc.
        """
        self.own = OwnFiles(own)
        self.refusing = True
        deadline = time.monotonic() + MAX_SETTLE_SECONDS
        begun = {folder: _ran(folder) for folder in threads()}
        while waiting := [folder for folder, ran in begun.items() if not _settled(folder, ran)]:
            if time.monotonic() > deadline:
                return False
            begun = {folder: begun[folder] for folder in waiting}
            time.sleep(0.001)
        return True

    def close(self) -> None:
        """Idempotent."""
        if self.end >= 0:
            os.close(self.end)
            self.end = -1
            self.join()
            os.close(self.listener)
            os.close(self.ended)


def _ran(folder: str) -> int:
    """Nanoseconds for which a thread has run."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(folder, "schedstat").read_text().split()[0])
    return 0


def _settled(folder: str, ran: int) -> bool:
    """Whether a thread sleeps, is stopped or has ended, or has run for so long that it is past the call it was in."""
    try:
        state = Path(folder, "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "STZX" or (state != "D" and _ran(folder) - ran > _RAN_NANOSECONDS)
