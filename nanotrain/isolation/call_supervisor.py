"""The scorer's answers to the calls of a model's process (`asked_calls.py`): allowed until it is shown rows, then not.

Honest code asks git for the commit, runs a compiler, fills a queue or reads a table before it has been shown a row.
Files of its own folders, which no other run sees, can be read after that, too (`own_files.py`); signals reach its own
processes only, and the state of the machine is made up, at any time. The answer is the same for every thread and
process that has the filter, and changes in one moment. It never depends on what another thread could change meanwhile.
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

from nanotrain.isolation.asked_calls import CLONE, MACHINE_STATE, SIGNALS, STARTING
from nanotrain.isolation.own_files import Call, OwnFiles

_RECEIVE, _SEND, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104  # ioctls of a listener
_SYNC_WAKE_UP = 1  # the caller goes on where this thread ran: several times faster, from Linux 6.6 on
_NOTIFICATION = struct.Struct("QIIiIQ6Q")  # struct seccomp_notif
_RESPONSE = struct.Struct("QqiI")
_CONTINUE = 1
_RAN_NANOSECONDS = 1_000_000  # of a thread that was let go on: by then it has read its path
_TMPFS, _BLOCK, _BLOCKS, _LONGEST_NAME = 0x01021994, 4096, 1 << 24, 255  # a disk of 64 GB, half of it free
_MAX_SETTLE_SECONDS = 20.0
_NOT_THERE = (OSError, OverflowError)  # the second for an address in the upper half, which is the kernel's


class CallSupervisor(threading.Thread):
    """Answers the calls of one model's processes, which `processes` finds; `listener` is that of their filter, and is
    closed by `close`.
    """

    def __init__(self, listener: int, processes: Callable[[], Collection[int]]) -> None:
        super().__init__(daemon=True)
        self.listener, self.processes = listener, processes
        self.refusing, self.lock = False, threading.Lock()
        self.refused = False  # whether a call was refused
        self.own = OwnFiles()  # what it may still read
        self.first = 0  # the process that made the first call
        machine = os.uname().machine
        self.starting, self.signals = {*STARTING[machine], CLONE[machine]}, SIGNALS[machine]
        self.machine_state = MACHINE_STATE[machine]
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
            self.first = self.first or pid
            with self.lock:
                result = self._result(Call(self.listener, number, pid, call, arguments))
                value, fault, flags = (0, 0, _CONTINUE) if result is None else (max(result, 0), min(result, 0), 0)
                fcntl.ioctl(self.listener, _SEND, _RESPONSE.pack(number, value, fault, flags))

    def _result(self, call: Call) -> int | None:
        """What the call returns; None: it goes on."""
        if kind := self.machine_state.get(call.call):
            told, place = (_disk(), call.arguments[1]) if kind == "disk" else (_machine(), call.arguments[0])
            try:
                with call.memory() as memory:
                    os.pwrite(memory, told, place)
            except _NOT_THERE:
                return -errno.ENOSYS
            return 0
        if call.call in self.signals:
            return None if not self.refusing and self._is_own(call.arguments[0]) else -errno.ESRCH
        if not self.refusing:
            return None
        try:
            return self.own.answer(call)
        except _NOT_THERE:
            self.refused = True
            return -errno.EPERM if call.call in self.starting else -errno.ENOENT

    def _is_own(self, target: int) -> bool:
        """Whether a signal's target, a process or a group by its first one, is the model's, in numbers of its own."""
        number = target & 0xFFFFFFFF
        number = (1 << 32) - number if number >> 31 else number
        return number in map(_own_number, self.processes())

    def refuse(self) -> None:
        """From here on no call is allowed; one that was allowed before may still be on its way."""
        with self.lock:
            self.refusing = True

    def settle(self, threads: Collection[str], own: Collection[str] = ()) -> bool:
        """True once no call goes on that was allowed before: the kernel reads its path late, and it could be one of a
        row by then. `threads`: all of the model, by their folders in /proc; `own`: folders, by the names that it has
        for them, of which it can read everything from then on.
        """
        deadline = time.monotonic() + _MAX_SETTLE_SECONDS
        begun = {folder: _ran(folder) for folder in threads}
        while waiting := [folder for folder, ran in begun.items() if not _settled(folder, ran)]:
            if time.monotonic() > deadline:
                return False
            begun = {folder: begun[folder] for folder in waiting}
            time.sleep(0.001)
        found = OwnFiles(self.first, own)  # it can change none of them any more
        with self.lock:
            self.own = found
        return True

    def close(self) -> None:
        """Idempotent."""
        if self.end >= 0:
            os.close(self.end)
            self.end = -1
            self.join()
            os.close(self.listener)
            os.close(self.ended)


def _own_number(pid: int) -> int:
    """The number of a process as it has it itself, in a sandbox with numbers of its own; -1 without one."""
    with contextlib.suppress(OSError, IndexError):
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        return int(status.split("\nNSpid:", 1)[1].split("\n", 1)[0].split()[-1])
    return -1


def _disk() -> bytes:
    """struct statfs."""
    half = _BLOCKS // 2
    sizes = (_TMPFS, _BLOCK, _BLOCKS, half, half, _BLOCKS, half, 0, _LONGEST_NAME, _BLOCK, 0)
    return struct.pack("=11Q32x", *sizes)


def _machine() -> bytes:
    """struct sysinfo: the memory that there is, half of it free, and no load."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return struct.pack("=10QHH4xQQI4x", 0, 0, 0, 0, total, total // 2, 0, 0, 0, 0, 1, 0, 0, 0, 1)


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
