"""The filters on system calls that a model's process sets before the code under test is loaded, as BPF.

Calls that take a path, make a process, a pipe, a socket or a file in memory, or tell of the machine, are asked of the
scorer (`call_supervisor.py`). A look-up leaves traces that every later process can find: pages in memory, entries of
folders (also of names that do not exist), times of access. What a process makes has numbers that are given in turn. So
a model that has seen rows may do neither. Until then it may, for it has nothing to tell.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Of the system call table of each machine: open, stat, access, readlink, getdents, chdir, mkdir, unlink, rename, link
# and all that is like them, extended attributes, execve; timers, signals and watches as descriptors.
_LOOK_UPS = {
    "x86_64": (2, 4, 6, 21, 59, 76, 78, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 92, 94, 132, 133, 188, 189, 191,
               192, 194, 195, 197, 198, 217, 235, 254, 257, 258, 259, 260, 261, 262, 263, 264, 265, 266, 267, 268, 269,
               280, 283, 289, 294, 303, 304, 316, 322, 332, 437, 439, 452),
    "aarch64": (5, 6, 8, 9, 11, 12, 14, 15, 26, 27, 33, 34, 35, 36, 37, 38, 45, 48, 49, 50, 53, 54, 56, 61, 74, 78, 79,
                85, 88, 221, 264, 265, 276, 281, 291, 437, 439, 452),
}  # fmt: skip
# (pipe) pipe2, socketpair, socket, bind, listen, connect, accept, accept4, setsockopt, (epoll_create) epoll_create1,
# epoll_ctl, (eventfd) eventfd2, memfd_create, setsid, setpgid, getpgid, getsid, (fork vfork).
STARTING = {
    "x86_64": (22, 293, 53, 41, 49, 50, 42, 43, 288, 54, 213, 291, 233, 284, 290, 319, 112, 109, 121, 124, 57, 58),
    "aarch64": (59, 199, 198, 200, 201, 203, 202, 242, 208, 20, 21, 19, 279, 157, 154, 155, 156),
}
MACHINE_STATE = {
    "x86_64": {137: "disk", 138: "disk", 99: "machine"},
    "aarch64": {43: "disk", 44: "disk", 179: "machine"},
}
SIGNALS = {"x86_64": (62, 234), "aarch64": (129, 131)}  # kill, tgkill
CLONE, CLONE_THREAD = {"x86_64": 56, "aarch64": 220}, 0x10000
SECCOMP = {"x86_64": 317, "aarch64": 277}  # the number of the call that installs a filter
# What passes descriptors on (sendmsg, sendmmsg), which are counted for a user, and sets filters: needed to ask.
_LAST = {"x86_64": (46, 307, 317), "aarch64": (211, 269, 277)}
_ALLOW, _NOTIFY, _ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000
_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_FIRST = 16  # where the low half of the first argument is


def asking_program(machine: str, own: int) -> bytes:
    """The filter that asks, of the process with the number `own`; empty where the system calls are not known."""
    if machine not in _AUDIT:
        return b""
    code = [*_begin(machine, _NOTIFY), *_each((*_LOOK_UPS[machine], *MACHINE_STATE[machine]), _NOTIFY)]
    return b"".join([*code, *_starting(machine, own, _NOTIFY, _NOTIFY), _op(_RET, _ALLOW)])


def refusing_program(machine: str, own: int, *, asked: bool) -> bytes:
    """The filter after it: no filter and no descriptor passed on any more. Where nobody can be `asked`, no call but
    look-ups that the first one asks for either.
    """
    if machine not in _AUDIT:
        return b""
    denied = _ERRNO | errno.EPERM
    code = [*_begin(machine, denied), *_each(_LAST[machine], denied)]
    if not asked:
        code += _each(MACHINE_STATE[machine], _ERRNO | errno.ENOSYS)
        code += _starting(machine, own, denied, _ERRNO | errno.ESRCH)
    return b"".join([*code, _op(_RET, _ALLOW)])


def _begin(machine: str, answer: int) -> list[bytes]:
    """The number of the call is loaded; `answer` those of another table."""
    code = [_op(_LOAD, 4), _op(_JEQ, _AUDIT[machine], 1, 0), _op(_RET, answer), _op(_LOAD, 0)]
    if machine == "x86_64":  # x32 calls have numbers of their own
        code += [_op(_JGE, 0x40000000, 0, 1), _op(_RET, answer)]
    return code


def _starting(machine: str, own: int, answer: int, signal: int) -> list[bytes]:
    """Whatever makes something, and signals to others than the process itself. The number is not loaded after it."""
    code = _each(STARTING[machine], answer)
    code += [_op(_JEQ, CLONE[machine], 0, 4), _op(_LOAD, _FIRST), _op(_JSET, CLONE_THREAD, 1, 0), _op(_RET, answer)]
    code += [_op(_RET, _ALLOW)]
    kill, thread_kill = SIGNALS[machine]
    code += [_op(_JEQ, kill, 1, 0), _op(_JEQ, thread_kill, 0, 4), _op(_LOAD, _FIRST), _op(_JEQ, 0, 2, 0)]
    return [*code, _op(_JEQ, own, 1, 0), _op(_RET, signal)]


def _each(numbers: Sequence[int] | dict[int, str], answer: int) -> list[bytes]:
    return [part for number in numbers for part in (_op(_JEQ, number, 0, 1), _op(_RET, answer))]


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)
