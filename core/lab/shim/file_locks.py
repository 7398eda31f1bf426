"""Locks of a run's files, decided and taken by the shim: a lock on a file that others can open is a word to them.

The run's filter passes each `flock` and each lock command of `fcntl` here. A lock has an effect only on files in the
folders that the run may write. Elsewhere a shared lock seems to be taken, since programs that read data take one, and
an exclusive one is refused. Locks that belong to an open file (`flock`, F_OFD_*) are taken by the shim, on the
run's own descriptor, and questions about locks are answered by it: the run cannot exchange the file between the check
and the lock. Locks that belong to a process (F_SETLK) go on to the kernel after the check.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH115, PTH123

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
from _collections_abc import Callable, Sequence
from contextlib import suppress

_FLOCK_CALL, _FCNTL_CALL = {"x86_64": (73, 72), "aarch64": (32, 25)}[os.uname().machine]
CALLS = (_FLOCK_CALL, _FCNTL_CALL)
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
_GETLK, _SETLK, _SETLKW, _OFD_GETLK, _OFD_SETLK, _OFD_SETLKW = 5, 6, 7, 36, 37, 38
_MAX_WAITING = 256  # each has a descriptor of the shim, which needs others to look at the run
_LOCK = struct.Struct("hhxxxxqqixxxx")  # struct flock: type, whence, start, length, process
CONTINUE = "continue"  # the kernel may do it


class FileLocks:
    """Answers lock calls. `folders`: those that the run may write, as it names them.

    `waiting` are the calls that wait for a lock: (number of the notification, descriptor, how to try).
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = [folder.rstrip("/") + "/" for folder in folders]
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.syscall.restype = ctypes.c_long
        self.waiting: list[tuple[int, int, Callable[[], object]]] = []

    def answer(self, number: int, thread: int, call: int, arguments: Sequence[int]) -> str | int | None:
        """0 for a lock that was taken, CONTINUE, or None when the call waits. Raises OSError."""
        target, command, address = arguments[0] & 0x7FFFFFFF, arguments[1] & 0xFFFFFFFF, arguments[2]
        process = _process(thread)
        held = self._duplicate(process, target)
        keep = False
        try:
            own = self._is_own(held)
            if call == _FLOCK_CALL:
                if not own:
                    return _elsewhere(shared=command & ~fcntl.LOCK_NB in (fcntl.LOCK_SH, fcntl.LOCK_UN))
                keep = self._take(number, held, lambda: fcntl.flock(held, command | fcntl.LOCK_NB),
                                  wait=not command & fcntl.LOCK_NB)  # fmt: skip
                return None if keep else 0
            lock = _read(thread, address)
            if command in (_GETLK, _OFD_GETLK):
                _write(thread, address, _question(held, command, lock, process) if own else _free(lock))
                return 0
            if not own:
                return _elsewhere(shared=_LOCK.unpack(lock)[0] in (fcntl.F_RDLCK, fcntl.F_UNLCK))
            if command in (_SETLK, _SETLKW):
                return CONTINUE
            keep = self._take(number, held, lambda: fcntl.fcntl(held, _OFD_SETLK, lock), wait=command == _OFD_SETLKW)
            return None if keep else 0
        finally:
            if not keep:
                os.close(held)

    def _take(self, number: int, held: int, attempt: Callable[[], object], *, wait: bool) -> bool:
        """Take a lock. True when the call waits for it. Raises OSError."""
        try:
            attempt()
        except OSError as error:
            if not wait or error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            if len(self.waiting) >= _MAX_WAITING:
                raise OSError(errno.ENOLCK, "too many wait for a lock") from None
            self.waiting.append((number, held, attempt))
            return True
        return False

    def retry(self, is_alive: Callable[[int], bool]) -> list[tuple[int, int]]:
        """Try for those that wait: (number of the notification, negative error or 0) of those that are done."""
        done, left = [], []
        for number, held, attempt in self.waiting:
            try:
                if is_alive(number):
                    attempt()
                    done.append((number, 0))
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    left.append((number, held, attempt))
                    continue
                done.append((number, -(error.errno or errno.EIO)))
            os.close(held)
        self.waiting = left
        return done

    def close(self) -> None:
        for _, held, _ in self.waiting:
            os.close(held)
        self.waiting = []

    def _duplicate(self, process: int, target: int) -> int:
        """A descriptor of the same open file. Raises OSError."""
        handle = self._call(_PIDFD_OPEN, process, 0)
        try:
            return self._call(_PIDFD_GETFD, handle, target, 0)
        finally:
            os.close(handle)

    def _call(self, number: int, *arguments: int) -> int:
        got = int(self._libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)))
        if got < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return got

    def _is_own(self, held: int) -> bool:
        mode = os.fstat(held).st_mode
        place = os.readlink(f"/proc/self/fd/{held}") + "/"
        regular = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
        return regular and (any(place.startswith(folder) for folder in self._folders) or place.startswith("/memfd:"))


def _elsewhere(*, shared: bool) -> int:
    """The answer for a file that the run may only read."""
    if not shared:
        raise OSError(errno.EPERM, "not a file of the run")
    return 0


def _process(thread: int) -> int:
    with suppress(OSError), open(f"/proc/{thread}/status") as file:
        for line in file:
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    raise OSError(errno.ESRCH, "it has ended")


def _read(thread: int, address: int) -> bytes:
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        return os.pread(memory.fileno(), _LOCK.size, address)


def _write(thread: int, address: int, lock: bytes) -> None:
    with open(f"/proc/{thread}/mem", "r+b", buffering=0) as memory:
        os.pwrite(memory.fileno(), lock, address)


def _free(lock: bytes) -> bytes:
    return struct.pack("h", fcntl.F_UNLCK) + lock[2:]


def _question(held: int, command: int, lock: bytes, process: int) -> bytes:
    """The answer of the kernel to the run's question: locks of the process that asks are none to itself."""
    answer = bytes(fcntl.fcntl(held, command, lock))
    return _free(lock) if _LOCK.unpack(answer)[4] == process else answer
