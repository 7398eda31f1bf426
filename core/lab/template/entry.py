"""How a fork of the template enters the sandbox: with the same means, in the same order, as a command that is started.

Tier A: the sandbox is started with a shell that waits, and the fork joins its namespaces; then it drops what
bubblewrap drops, and sets the same filter. Tier B: what `core/lab/sandbox/landlock.py` does before it executes a
command. Tier C: nothing. The order names the tier's means (`core.lab.sandbox.tiers.entry`): `prefix` and `filter`, or
`rules`.
"""
# It is loaded by the project's Python into each model's process, so it takes little:
# ruff: noqa: PTH116, PTH123

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from core.lab.sandbox import landlock
from core.lab.shim.proctree import descendants

_HOLD = ("/bin/sh", "-c", "echo; read nothing")
# CLONE_NEW… of each kind of namespace by its name in /proc.
_KINDS = {"user": 0x10000000, "mnt": 0x20000, "pid": 0x20000000, "ipc": 0x8000000, "uts": 0x4000000,
          "net": 0x40000000, "cgroup": 0x2000000}  # fmt: skip
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _PR_SET_PDEATHSIG = 4, 22, 38, 1
_SETNS = {"x86_64": 308, "aarch64": 268}
_LIBC = ctypes.CDLL(None, use_errno=True)


class Entered:
    """What the attendant has prepared: the sandbox's own processes, its root, the filter; nothing in tiers B and C."""

    def __init__(self, keepers: Sequence[int] = (), root: int = -1, program: bytes = b"") -> None:
        self.keepers, self.root, self.program = list(keepers), root, program

    @property
    def descriptors(self) -> list[int]:
        """Those that the model's process still needs."""
        return [self.root] if self.root >= 0 else []


def enter_namespaces(sandbox: Mapping[str, Any], env: Mapping[str, str], errors: int) -> Entered:
    """Start the sandbox of tier A, and join its namespaces: the next fork is in them. Raises OSError.

    `errors`: where what starts it says why it does not.
    """
    if "prefix" not in sandbox:
        return Entered()
    program = b""
    if sandbox["filter"]:
        with open(sandbox["filter"], "rb") as file:
            program = file.read()
    wait, _open = os.pipe()  # the shell waits for its end, which is that of this process
    heard, say = os.pipe()
    starter = os.fork()
    if starter == 0:
        try:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            for source, target in ((wait, 0), (say, 1), (errors, 2)):
                os.dup2(source, target)
            os.closerange(3, 1 << 20)
            argv = [*sandbox["prefix"], *_HOLD]
            os.execve(argv[0], argv, dict(env))
        finally:
            os._exit(127)
    for descriptor in (wait, say):
        os.close(descriptor)
    if not os.read(heard, 1):
        raise OSError(errno.EPERM, "the sandbox did not start")
    os.close(heard)
    keepers = [starter, *descendants(starter)]
    holder = keepers[-1]
    root = os.open(f"/proc/{holder}/root", os.O_PATH | os.O_DIRECTORY)
    _join(holder)
    return Entered(keepers, root, program)


def _join(pid: int) -> None:
    """Join all namespaces of a process that are not this one's, in one call: rights in one come from another."""
    flags = 0
    for name, kind in _KINDS.items():
        here, there = os.stat(f"/proc/self/ns/{name}"), os.stat(f"/proc/{pid}/ns/{name}")
        flags |= kind if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino) else 0
    process = os.pidfd_open(pid)
    number = _SETNS.get(os.uname().machine, -1)
    if _LIBC.syscall(ctypes.c_long(number), ctypes.c_long(process), ctypes.c_long(flags)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot join the sandbox: {os.strerror(code)}")
    os.close(process)


def restrict(sandbox: Any, entered: Entered) -> None:
    """Give up every right that the sandbox does not give, for good. Raises OSError."""
    os.chdir("/")
    if "rules" in sandbox:
        rules = sandbox["rules"]
        landlock.make_up(rules["made_up"])
        landlock.drop_capabilities()
        landlock.restrict_files(rules, network=rules["network"], cuda=rules["cuda"])
        landlock.restrict_calls(rules)
    if entered.root < 0:
        return
    os.fchdir(entered.root)
    os.chroot(".")
    os.chdir("/")
    os.close(entered.root)
    landlock.drop_capabilities()
    _LIBC.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # for the scorer: it looks at its files and its memory
    if entered.program:
        landlock.set_filter(entered.program)
