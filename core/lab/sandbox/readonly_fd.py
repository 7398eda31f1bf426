"""Opening a run's training data so that nothing can be written through the descriptor.

A descriptor that may only be read is no promise: its file can be opened again by /proc/self/fd, and be given another
mode, other times and attributes through it. In tiers B and C that is Landlock's and the filter's business, or nobody's.
In tier A the descriptor comes through a mount of its own that is read-only, which lasts as long as the descriptor:
what the data hold, and what stands beside their content, is no letter box for the next run.

Standard library only: the shim of every job loads this.
"""
# pathlib costs as much as the rest of the start:

from __future__ import annotations

import ctypes
import os
import socket
from _collections_abc import Sequence  # the module by the public name loads more

_NEW_NAMESPACES = 0x10000000 | 0x00020000  # CLONE_NEWUSER | CLONE_NEWNS
_READ_ONLY, _REMOUNT, _BIND = 1, 32, 4096
_KEPT = 2 | 4 | 8  # nosuid, nodev, noexec: who may not lift them has to repeat them
_MOST = 200  # descriptors in one packet; the kernel takes 253


def open_read_only(paths: Sequence[str], tier: str) -> list[int]:
    """A descriptor of each file, to be closed by the caller. Raises OSError when one cannot be opened."""
    fds: list[int] = []
    if tier == "A" and 0 < len(paths) <= _MOST:
        fds = _through_a_mount(paths)
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


def _through_a_mount(paths: Sequence[str]) -> list[int]:
    """Opened by a child in namespaces of its own; empty where it may not make them, or a file cannot be opened."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            fds = _mounted(paths)
            socket.send_fds(theirs, [b"here"], fds)
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


def _mounted(paths: Sequence[str]) -> list[int]:
    libc = ctypes.CDLL(None, use_errno=True)
    fds = []
    if libc.unshare(_NEW_NAMESPACES):
        raise OSError(ctypes.get_errno(), "no namespaces")
    for path in paths:
        real = os.fsencode(os.path.realpath(path))
        flags = os.statvfs(real).f_flag & _KEPT | _BIND
        if libc.mount(real, real, None, ctypes.c_ulong(_BIND), None) or libc.mount(
            None, real, None, ctypes.c_ulong(_REMOUNT | _READ_ONLY | flags), None
        ):
            raise OSError(ctypes.get_errno(), "no mount")
        fds.append(os.open(real, os.O_RDONLY | os.O_CLOEXEC))
    return fds
