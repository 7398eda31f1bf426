"""A model's own files, as they were before it was shown rows: it can still look at them, and read them.

By the scorer's list and the scorer's descriptors: no name is looked up for it, and no time of access changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
from collections.abc import Collection, Iterator
from typing import NamedTuple

_IS_VALID, _ADD_FD = 0x40082102, 0x40182103  # ioctls of a listener
_ADD_FD_REQUEST = struct.Struct("QIIII")
_CURRENT, _EMPTY_PATH = 0xFFFFFF9C, 0x1000  # AT_FDCWD, AT_EMPTY_PATH
_MORE_THAN_READING = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | os.O_DIRECTORY | os.O_PATH
_MAX_PATH_BYTES = 4096
# By number: what the call does, where its path is among the arguments; one before it is the folder, 0 for none.
_CALLS = {
    "x86_64": {2: ("open", 0), 257: ("open", 1), 4: ("stat", 0), 6: ("stat", 0), 262: ("stat", 1), 21: ("access", 0),
               269: ("access", 1), 439: ("access", 1)},
    "aarch64": {56: ("open", 1), 79: ("stat", 1), 48: ("access", 1), 439: ("access", 1)},
}  # fmt: skip


class Call(NamedTuple):
    """A call that waits for its answer: the caller's thread, and the call with its arguments."""

    listener: int
    number: int
    pid: int
    call: int
    arguments: list[int]

    @contextlib.contextmanager
    def memory(self) -> Iterator[int]:
        """A descriptor of the caller's memory. Raises OSError."""
        memory = os.open(f"/proc/{self.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self.listener, _IS_VALID, struct.pack("Q", self.number))  # else it is of another process by now
            yield memory
        finally:
            os.close(memory)


class OwnFiles:
    """The files and folders below the folders `tops`, as the process `pid` has them now, on the disk of each."""

    def __init__(self, pid: int = 0, tops: Collection[str] = ()) -> None:
        self.machine = os.uname().machine
        self.known: dict[str, tuple[str, os.stat_result]] = {}  # with the path of the file itself, for links
        root = f"/proc/{pid}/root"
        for top in tops:
            with contextlib.suppress(OSError):
                device = os.lstat(root + top).st_dev
                self._list(root, top, device)
        for path, (_, status) in [*self.known.items()]:
            if stat.S_ISLNK(status.st_mode):
                with contextlib.suppress(OSError):
                    target = os.path.join(os.path.dirname(path), os.readlink(root + path))  # noqa: PTH115, PTH118, PTH120
                    self.known[path] = self.known.get(os.path.normpath(target), self.known[path])

    def _list(self, root: str, top: str, device: int) -> None:
        for place, folders, names in os.walk(root + top):
            for path in (place, *(f"{place}/{name}" for name in (*folders, *names))):
                status = os.lstat(path)
                if status.st_dev == device:
                    self.known[path.removeprefix(root)] = path.removeprefix(root), status
                elif path.rpartition("/")[2] in folders:
                    folders.remove(path.rpartition("/")[2])

    def answer(self, call: Call) -> int:
        """What the call returns. Raises OSError for one that is about anything else."""
        kind, place = _CALLS[self.machine].get(call.call, ("", 0))
        address, more, flags, *_ = call.arguments[place:]
        if not kind or (kind == "open" and more & _MORE_THAN_READING) or (kind == "access" and more & os.W_OK):
            raise PermissionError
        with call.memory() as memory:
            name = os.fsdecode(os.pread(memory, _MAX_PATH_BYTES, address).split(b"\0", 1)[0])
            folder = call.arguments[0] & 0xFFFFFFFF if place else _CURRENT
            if kind == "stat" and place and not name and flags & _EMPTY_PATH:  # of a file that it has open
                os.pwrite(memory, self._packed(os.stat(f"/proc/{call.pid}/fd/{folder}")), more)  # noqa: PTH116
                return 0
            if not name or (folder != _CURRENT and not name.startswith("/")):
                raise FileNotFoundError
            path = os.path.normpath(os.path.join(os.readlink(f"/proc/{call.pid}/cwd"), name))  # noqa: PTH115, PTH118
            if path not in self.known:
                raise FileNotFoundError
            path, status = self.known[path]
            if kind == "stat":
                os.pwrite(memory, self._packed(status), more)
            return self._opened(call, f"/proc/{call.pid}/root{path}", more) if kind == "open" else 0

    def _opened(self, call: Call, path: str, flags: int) -> int:
        """A descriptor, in the caller, of a file."""
        found = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOATIME | os.O_NONBLOCK)
        try:
            request = bytearray(_ADD_FD_REQUEST.pack(call.number, 0, found, 0, flags & os.O_CLOEXEC))
            return int(fcntl.ioctl(call.listener, _ADD_FD, request))
        finally:
            os.close(found)

    def _packed(self, one: os.stat_result) -> bytes:
        """The kernel's `struct stat` of this machine."""
        times = [part for time in (one.st_atime_ns, one.st_mtime_ns, one.st_ctime_ns) for part in divmod(time, 10**9)]
        mode, links, owner = one.st_mode, one.st_nlink, (one.st_uid, one.st_gid)
        if self.machine == "x86_64":
            head = struct.pack("QQQIIIxxxxQ", one.st_dev, one.st_ino, links, mode, *owner, one.st_rdev)
            return head + struct.pack("9q24x", one.st_size, one.st_blksize, one.st_blocks, *times)
        head = struct.pack("QQIIIIQ8x", one.st_dev, one.st_ino, mode, links, *owner, one.st_rdev)
        return head + struct.pack("qi4xq6q8x", one.st_size, one.st_blksize, one.st_blocks, *times)
