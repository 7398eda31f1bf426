"""Read-only descriptors of a run's training data.

O_RDONLY alone does not protect a file: a process can open it again by /proc/self/fd, and change its mode, times and
xattrs. In tier B, Landlock and the seccomp filter prevent this; tier C does not. In tier A each file is opened through
a read-only mount that exists as long as the descriptor: neither content nor metadata (mode, times, xattrs) can carry
data to the next run.
"""

from __future__ import annotations

import ctypes
import os
import socket
from _collections_abc import Sequence  # the module by the public name loads more

_NEW_NAMESPACES = 0x10000000 | 0x00020000  # CLONE_NEWUSER | CLONE_NEWNS
_READ_ONLY, _REMOUNT, _BIND = 1, 32, 4096
_LOCKED_FLAGS = 2 | 4 | 8  # nosuid, nodev, noexec: an unprivileged remount must repeat them
_MAX_DESCRIPTORS = 200  # in one packet; the kernel allows 253


def open_read_only(paths: Sequence[str], tier: str) -> list[int]:
    """A descriptor of each file, to be closed by the caller. Raises OSError when one cannot be opened."""
    fds = _open_via_mount(paths) if tier == "A" and 0 < len(paths) <= _MAX_DESCRIPTORS else []
    if fds:
        return fds
    try:
        for path in paths:
            fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        for fd in fds:
            os.close(fd)
        raise
    return fds


def _open_via_mount(paths: Sequence[str]) -> list[int]:
    """Descriptors opened by a child in its own namespaces; none where these are not allowed or a file fails."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            fds = _open_in_namespace(paths)
            socket.send_fds(theirs, [b"fds"], fds)
        finally:
            os._exit(0)
    theirs.close()
    try:
        _, fds, _, _ = socket.recv_fds(ours, 16, len(paths))
    except OSError:
        fds = []
    ours.close()
    os.waitpid(pid, 0)
    if len(fds) == len(paths):
        return fds
    for fd in fds:
        os.close(fd)
    return []


def _open_in_namespace(paths: Sequence[str]) -> list[int]:
    libc = ctypes.CDLL(None, use_errno=True)
    fds = []
    if libc.unshare(_NEW_NAMESPACES):
        raise OSError(ctypes.get_errno(), "could not create namespaces")
    for path in paths:
        real = os.fsencode(os.path.realpath(path))
        flags = os.statvfs(real).f_flag & _LOCKED_FLAGS | _BIND
        if libc.mount(real, real, None, ctypes.c_ulong(_BIND), None) or libc.mount(
            None, real, None, ctypes.c_ulong(_REMOUNT | _READ_ONLY | flags), None
        ):
            raise OSError(ctypes.get_errno(), "could not mount")
        fds.append(os.open(real, os.O_RDONLY | os.O_CLOEXEC))
    return fds
