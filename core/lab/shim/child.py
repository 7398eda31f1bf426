"""The forked child of a shim, until it executes the run's command.

Of the shim's descriptors it passes on only the output pipe and the control channel.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH123

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:  # to load typing takes 3 ms
    from typing import Any, NoReturn

    from core.lab.shim.clocks.low_priority import LowPriority
    from core.lab.shim.group.cgroup import ControlGroup

_PR_SET_PDEATHSIG = 1
_KEYCTL_JOIN_SESSION_KEYRING = 1


def execute(
    spec: dict[str, Any], channel: int, output: int, gid: int | None, group: ControlGroup | None = None,
    low: LowPriority | None = None, *, shim: int, locks: tuple[int, ...] = (),
) -> NoReturn:  # fmt: skip
    """Become the run's command. `channel` and `output`: descriptors; `gid`: see `unused_gid`; `group`: to enter; `low`:
    to begin with. `shim`: the process that forked this one, without which it ends, and `locks`: what is held for that
    one's life alone.
    """
    try:
        # At once: it may be frozen in its group, and what nobody supervises would wait there for ever.
        _end_with(shim)
        for descriptor in locks:
            os.close(descriptor)
        os.setsid()
        if spec["beside"]:
            os.nice(19)
        if group is not None:
            group.enter()
        _join_empty_keyring()
        _set_gid(gid)
        _end_with(shim)  # a change of the group took it back
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target, inheritable=True)
        # Above the numbers that the start of a sandbox may use.
        channel = fcntl.fcntl(channel, fcntl.F_DUPFD, 20)
        for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if spec["disk_limit"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (spec["disk_limit"],) * 2)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")  # the kernel's OOM killer chooses the run before the engine or a shell
        if low is not None:
            low.lower([os.getpid()])
        os.chdir(spec["cwd"])
        env = dict(spec["env"], AUTORESEARCH_CONTROL_FD=str(channel))
        os.execvpe(spec["argv"][0], spec["argv"], env)
    except BaseException as error:
        os.write(2, f"could not start {spec['argv'][0]}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(127)


def _end_with(parent: int) -> None:
    """Die with the parent, however that ends, now too."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(127)


def unused_gid() -> int | None:
    """A random group id for one run; None where this process may not set its group."""
    if os.geteuid() != 0:
        return None
    gid = 0x4000_0000 | int.from_bytes(os.urandom(3))
    pid = os.fork()
    if pid == 0:
        try:
            _set_gid(gid)
            os._exit(0)
        finally:
            os._exit(1)
    return gid if os.waitpid(pid, 0)[1] == 0 else None


def _set_gid(gid: int | None) -> None:
    """Take a group of its own where possible: it identifies the run's files in shared memory, to be removed."""
    if gid is not None:
        os.setgroups([])
        os.setgid(gid)


def _join_empty_keyring() -> None:
    """Take an empty session keyring: the inherited one may hold keys of the user who started the engine."""
    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(ctypes.c_long(number), ctypes.c_long(_KEYCTL_JOIN_SESSION_KEYRING), None)
