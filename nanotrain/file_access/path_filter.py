"""A filter on the system calls that take a path or make a process, as BPF: each is asked of the scorer.

A look-up leaves traces that every later process can find: pages in memory, entries of folders (also of names that do
not exist), times of access. So a model that has seen rows may look nothing up. Until then it may, for it has nothing to
tell. The answer never depends on the path, which another thread could change meanwhile.
"""

from __future__ import annotations

import struct

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Of the system call table of each machine: open, stat, access, readlink, getdents, chdir, mkdir, unlink, rename, link
# and all that is like them, extended attributes, execve; processes, pipes, sockets and files in memory, whose numbers
# are given in turn, too.
_CALLS = {
    "x86_64": (
        *(2, 4, 6, 21, 22, 41, 53, 57, 58, 59, 76, 78, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 92, 94, 132, 133),
        *(137, 188, 189, 191, 192, 194, 195, 197, 198, 213, 217, 235, 254, 257, 258, 259, 260, 261, 262, 263, 264, 265),
        *(266, 267, 268, 269, 280, 283, 284, 289, 290, 291, 293, 294, 303, 304, 316, 319, 322, 332, 437, 439, 452),
    ),
    "aarch64": (
        *(5, 6, 8, 9, 11, 12, 14, 15, 19, 20, 26, 27, 33, 34, 35, 36, 37, 38, 43, 45, 48, 49, 50, 53, 54, 56, 59, 61),
        *(74, 78, 79, 85, 88, 198, 199, 221, 264, 265, 276, 279, 281, 291, 437, 439, 452),
    ),
}
_CLONE, CLONE_THREAD = {"x86_64": 56, "aarch64": 220}, 0x10000
SECCOMP = {"x86_64": 317, "aarch64": 277}  # the number of the call that installs a filter
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06


def path_program(machine: str) -> bytes:
    """The filter for a machine; empty where its system calls are not known."""
    if machine not in _CALLS:
        return b""
    asked = _op(_RET, _NOTIFY)
    code = [_op(_LOAD, 4), _op(_JEQ, _AUDIT[machine], 1, 0), asked, _op(_LOAD, 0)]
    if machine == "x86_64":  # x32 calls have numbers of their own
        code += [_op(_JGE, 0x40000000, 0, 1), asked]
    for number in _CALLS[machine]:
        code += [_op(_JEQ, number, 0, 1), asked]
    code += [_op(_JEQ, _CLONE[machine], 0, 3), _op(_LOAD, 16), _op(_JSET, CLONE_THREAD, 1, 0), asked]
    return b"".join([*code, _op(_RET, _ALLOW)])


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)
