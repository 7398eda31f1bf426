"""Supervisor of a run's seccomp filter: its locks; in tier B its connects, its signals, the names of its threads.

Landlock does not restrict connections to a socket by path, so the run's filter (`core/lab/sandbox/landlock.py`) passes
every `connect` to the shim. The shim reads the address, opens the socket below the run's own temporary folder, connects
to it, and replaces the run's socket by the connected one. The run's memory is read once, and the shim connects to what
it has opened, so changing the address meanwhile has no effect. Needs Linux 5.9.

A signal is allowed only to the run's own processes: a run that could stop the shim could stop the clock.

CUDA names its threads when it starts (`/proc/self/task/TID/comm`), and fails where it may not. Landlock has no rule for
"the process's own", so the shim opens that file for a process of the run; every other opening goes on, by Landlock's
rules.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH100, PTH123, PTH208

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat as modes
import struct
from contextlib import suppress

from core.lab.shim.file_locks import CALLS, CONTINUE, FileLocks
from core.lab.shim.proctree import process_stat

TYPE_CHECKING = False
if TYPE_CHECKING:  # to load typing takes 3 ms
    from collections.abc import Callable, Sequence

_RECEIVE, _SEND, _IS_VALID, _ADD_FD = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103  # ioctls of a listener
_NOTIFICATION = struct.Struct("QIIiIQ6Q")  # struct seccomp_notif
_RESPONSE = struct.Struct("QqiI")
_ADD_FD_REQUEST = struct.Struct("QIIII")
_SET_FD = _CONTINUE = 1
_SIGNAL_CALLS = {"x86_64": {62: "kill", 234: "tgkill"}, "aarch64": {129: "kill", 131: "tgkill"}}
_OPEN_CALLS = {"x86_64": {2: 0, 257: 1}, "aarch64": {56: 1}}  # of each: where its path is among the arguments
_MAX_PATH_BYTES = 64  # of a thread's name: /proc/4194304/task/4194304/comm
_MAX_ADDRESS_BYTES = 110  # of a sockaddr_un


class SeccompSupervisor:
    """Answers the calls of one run. `listener`: of its filter; `name`: path of its temporary `folder` within the run;
    `own`: the folders that it may write, as it names them.

    `fd` is the listener, to poll; call `serve` when it is readable, and `retry` now and then while `waits`.
    """

    def __init__(self, listener: int, name: str, folder: str, own: Sequence[str] = ()) -> None:
        self.fd = listener
        self._locks = FileLocks(own)
        self._name = os.path.abspath(name)
        self._folder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._signals = _SIGNAL_CALLS[os.uname().machine]
        self._opens = _OPEN_CALLS[os.uname().machine]
        os.set_blocking(listener, False)

    def close(self) -> None:
        self._locks.close()
        os.close(self.fd)
        os.close(self._folder)

    @property
    def waits(self) -> bool:
        """Whether a call waits for a lock."""
        return bool(self._locks.waiting)

    def retry(self) -> None:
        """Answer the calls that have got the lock they wait for."""
        for number, answer in self._locks.retry(self._is_valid):
            self._send(number, answer, 0)

    def _is_valid(self, number: int) -> bool:
        """Whether the caller still waits for the answer."""
        with suppress(OSError):
            fcntl.ioctl(self.fd, _IS_VALID, struct.pack("Q", number))
            return True
        return False

    def _send(self, number: int, answer: int, flags: int) -> None:
        with suppress(OSError):  # the caller died
            fcntl.ioctl(self.fd, _SEND, _RESPONSE.pack(number, 0, answer, flags))

    def serve(self, tree: Callable[[], list[int]]) -> bool:
        """Answer one call; `tree` tells the run's processes. False when no process with the filter is left."""
        notification = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self.fd, _RECEIVE, notification)
        except OSError as error:  # the caller has died, or was interrupted
            return error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN)
        number, pid, _, call, _, _, *arguments = _NOTIFICATION.unpack(notification)
        target, address, length, *_ = arguments
        answer = flags = 0
        try:
            if call in CALLS:
                decided = self._locks.answer(number, pid, call, arguments)
                if decided is None:
                    return True
                flags = _CONTINUE if decided == CONTINUE else 0
            elif call in self._opens:
                place, mode, *_ = arguments[self._opens[call] :]
                answer = self._open_name(number, pid, place, mode)
                flags = 0 if answer else _CONTINUE  # which Landlock restricts, whatever the path is by then
            elif call not in self._signals:
                self._connect(number, pid, target, address, length)
            elif may_signal(target, tree()):
                flags = _CONTINUE  # the arguments are in registers, which no other thread can change
            else:
                answer = -errno.EPERM
        except OSError as error:
            answer = -(error.errno or errno.EACCES)
        self._send(number, answer, flags)
        return True

    def _open_name(self, number: int, pid: int, address: int, flags: int) -> int:
        """A descriptor, in the caller, of the name of a thread of its own process; 0 for any other path."""
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            path = os.fsdecode(os.pread(memory.fileno(), _MAX_PATH_BYTES, address).split(b"\0", 1)[0])
        if not path.startswith("/proc/") or not path.endswith("/comm") or path.count("/") != 5:
            return 0
        _, _, process, folder, thread, _ = path.split("/")
        threads = os.listdir(f"/proc/{pid}/task")
        if folder != "task" or thread not in threads or process not in ("self", *threads):
            return 0
        found = os.open(f"/proc/{pid}/task/{thread}/comm", flags & os.O_ACCMODE | os.O_CLOEXEC)
        try:
            request = bytearray(_ADD_FD_REQUEST.pack(number, 0, found, 0, flags & os.O_CLOEXEC))
            return int(fcntl.ioctl(self.fd, _ADD_FD, request))
        finally:
            os.close(found)

    def _connect(self, number: int, pid: int, target: int, address: int, length: int) -> None:
        path = self._path(pid, address, length)
        flags = _flags(pid, target)
        found = self._find(path)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ours:
                ours.setblocking(False)  # a full backlog must not block the shim
                ours.connect(f"/proc/self/fd/{found}")
                ours.setblocking(not flags & os.O_NONBLOCK)
                request = _ADD_FD_REQUEST.pack(number, _SET_FD, ours.fileno(), target, flags & os.O_CLOEXEC)
                fcntl.ioctl(self.fd, _ADD_FD, request)
        finally:
            os.close(found)

    def _path(self, pid: int, address: int, length: int) -> str:
        """The address relative to the folder, from the caller's memory. Raises OSError for any other address."""
        if not 3 <= length <= _MAX_ADDRESS_BYTES:
            raise OSError(errno.EINVAL, "not an address of a local socket")
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            data = os.pread(memory.fileno(), length, address)
        (family,) = struct.unpack_from("=H", data)
        path = os.fsdecode(data[2:].split(b"\0", 1)[0])
        if family != socket.AF_UNIX or not path.startswith(self._name + "/"):
            # As in a sandbox where it does not exist: CUDA does not start when its service is there but refused.
            raise OSError(errno.ENOENT, "not below the run's own folder")
        return path[len(self._name) + 1 :]

    def _find(self, path: str) -> int:
        """An O_PATH descriptor of a socket in the folder; links are not followed. Raises OSError when there is none."""
        place = os.dup(self._folder)
        try:
            *folders, name = path.split("/")
            for folder in folders:
                if folder == "..":
                    raise OSError(errno.EACCES, "not below the run's own folder")
                flags = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
                inner = os.open(folder or ".", flags, dir_fd=place)
                os.close(place)
                place = inner
            found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
        finally:
            os.close(place)
        if not modes.S_ISSOCK(os.fstat(found).st_mode):
            os.close(found)
            raise OSError(errno.ECONNREFUSED, "not a socket")
        return found


def may_signal(target: int, tree: list[int]) -> bool:
    """Whether the argument of `kill` names only processes of the run: a pid, the own group (0), or minus a group."""
    target = (target & 0xFFFFFFFF) - ((target & 0x80000000) << 1)
    if target >= 0:
        return target == 0 or target in tree
    return any(stat.group == -target for pid in tree if (stat := process_stat(pid)))


def _flags(pid: int, fd: int) -> int:
    """The open flags of a process's descriptor. Raises OSError when there is none of that number."""
    with suppress(FileNotFoundError), open(f"/proc/{pid}/fdinfo/{fd}") as file:
        for line in file:
            if line.startswith("flags:"):
                return int(line.split()[1], 8)
    raise OSError(errno.EBADF, "no such descriptor")
