"""What a job in tier B has to ask for: to connect local sockets, its own and no other, and to signal its own processes.

Landlock does not rule over the connecting to a socket by its path, so the job's filter (`confine.py`) hands every
`connect` over to the shim. The shim reads the address, finds the socket below the job's own temporary folder, makes the
connection itself and puts it in the place of the job's socket. The job's memory is read once and what was found is
what is connected to, so nothing is gained by changing the address in between. Needs Linux 5.9.

A signal goes on to its receiver when that is one of the job's own processes: who could stop the shim, could stop the
clock.

Standard library only and few imports: the shim of every job in tier B loads this.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH100, PTH123

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat as modes
import struct

from core.lab.shim.proctree import process_stat

_RECEIVE, _SEND, _ADD_FD = 0xC0502100, 0xC0182101, 0x40182103  # ioctls of a seccomp listener
_NOTICE = struct.Struct("QIIiIQ6Q")  # struct seccomp_notif
_ANSWER = struct.Struct("QqiI")
_PUT = struct.Struct("QIIII")
_SET_FD = _CONTINUE = 1
_SIGNALS = {"x86_64": {62: "kill", 234: "tgkill"}, "aarch64": {129: "kill", 131: "tgkill"}}
_LONGEST = 110  # bytes of a sockaddr_un


class Doorkeeper:
    """Answers a job's calls. `listener` is its filter's; `name` what the job calls its temporary folder, `folder`.

    Call `serve` when the listener is readable. Attributes beside: `fd`, to poll.
    """

    def __init__(self, listener: int, name: str, folder: str) -> None:
        self.fd = listener
        self._name = os.path.abspath(name)
        self._folder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._signals = _SIGNALS[os.uname().machine]
        os.set_blocking(listener, False)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._folder)

    def serve(self, tree: list[int]) -> bool:
        """Answer one call; `tree` are the job's processes. False when there is nobody left to call."""
        notice = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(self.fd, _RECEIVE, notice)
        except OSError as error:  # gone meanwhile, or interrupted
            return error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN)
        number, pid, _, call, _, _, target, address, length, *_ = _NOTICE.unpack(notice)
        answer = flags = 0
        try:
            if call not in self._signals:
                self._connect(number, pid, target, address, length)
            elif may_signal(target, tree):
                flags = _CONTINUE  # what was looked at is in registers: nobody changes it on the way
            else:
                answer = -errno.EPERM
        except OSError as error:
            answer = -(error.errno or errno.EACCES)
        try:
            fcntl.ioctl(self.fd, _SEND, _ANSWER.pack(number, 0, answer, flags))
        except OSError:
            return True  # the caller died
        return True

    def _connect(self, number: int, pid: int, target: int, address: int, length: int) -> None:
        path = self._path(pid, address, length)
        flags = _flags(pid, target)
        found = self._find(path)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ours:
                ours.setblocking(False)  # nobody makes the shim wait
                ours.connect(f"/proc/self/fd/{found}")
                ours.setblocking(not flags & os.O_NONBLOCK)
                put = _PUT.pack(number, _SET_FD, ours.fileno(), target, flags & os.O_CLOEXEC)
                fcntl.ioctl(self.fd, _ADD_FD, put)
        finally:
            os.close(found)

    def _path(self, pid: int, address: int, length: int) -> str:
        """The rest of the address below our folder, from the caller's memory. Raises OSError for any other."""
        if not 3 <= length <= _LONGEST:
            raise OSError(errno.EINVAL, "no address of a local socket")
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            data = os.pread(memory.fileno(), length, address)
        (family,) = struct.unpack_from("=H", data)
        path = os.fsdecode(data[2:].split(b"\0", 1)[0])
        if family != socket.AF_UNIX or not path.startswith(self._name + "/"):
            raise OSError(errno.EACCES, "not below its own folder")
        return path[len(self._name) + 1 :]

    def _find(self, path: str) -> int:
        """An O_PATH descriptor of a socket in the folder, through no link. Raises OSError when there is none."""
        place = os.dup(self._folder)
        try:
            *folders, name = path.split("/")
            for folder in folders:
                if folder == "..":
                    raise OSError(errno.EACCES, "not below its own folder")
                flags = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
                inner = os.open(folder or ".", flags, dir_fd=place)
                os.close(place)
                place = inner
            found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
        finally:
            os.close(place)
        if not modes.S_ISSOCK(os.fstat(found).st_mode):
            os.close(found)
            raise OSError(errno.ECONNREFUSED, "no socket")
        return found


def may_signal(target: int, tree: list[int]) -> bool:
    """Whether the first argument of `kill` names none but the job's own: a process, its group (0), or minus a group."""
    target = (target & 0xFFFFFFFF) - ((target & 0x80000000) << 1)
    if target >= 0:
        return target == 0 or target in tree
    return any(stat.group == -target for pid in tree if (stat := process_stat(pid)))


def _flags(pid: int, fd: int) -> int:
    """The open flags of a process's descriptor. Raises OSError when it has none of that number."""
    try:
        with open(f"/proc/{pid}/fdinfo/{fd}") as file:
            for line in file:
                if line.startswith("flags:"):
                    return int(line.split()[1], 8)
    except FileNotFoundError:
        pass
    raise OSError(errno.EBADF, "no such descriptor")
