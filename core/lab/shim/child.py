"""How a shim's child becomes the job: nothing of ours in hand but its output and the control channel.

Standard library only: the shim of every job loads this.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH123

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:  # to load typing takes 3 ms
    from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_KEYCTL_JOIN = 1


def become_job(spec: dict[str, Any], channel: int, output: int, group: int | None) -> NoReturn:
    """In the child of a fork. `channel` and `output`: descriptors; `group`: see `free_group`."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.setsid()
        _leave_the_keys()
        _join_group(group)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target, inheritable=True)
        # Out of the way of the numbers that a sandbox's own start may use.
        channel = fcntl.fcntl(channel, fcntl.F_DUPFD, 20)
        for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if spec["disk_limit"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (spec["disk_limit"],) * 2)
        _raise_oom_score()
        os.chdir(spec["cwd"])
        env = dict(spec["env"], AUTORESEARCH_CONTROL_FD=str(channel))
        os.execvpe(spec["argv"][0], spec["argv"], env)
    except BaseException as error:
        os.write(2, f"cannot start {spec['argv'][0]}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(127)


def free_group() -> int | None:
    """A group that nobody else has, for a job; None where this process may not choose one."""
    if os.geteuid() != 0:
        return None
    number = 0x4000_0000 | int.from_bytes(os.urandom(3))
    pid = os.fork()
    if pid == 0:
        try:
            _join_group(number)
            os._exit(0)
        finally:
            os._exit(1)
    return number if os.waitpid(pid, 0)[1] == 0 else None


def _join_group(number: int | None) -> None:
    """Have a group of its own, where one may: what is left in shared memory is known by it, and removed."""
    if number is not None:
        os.setgroups([])
        os.setgid(number)


def _leave_the_keys() -> None:
    """Take an empty session keyring: the one we came with may hold the keys of whoever started the engine."""
    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(ctypes.c_long(number), ctypes.c_long(_KEYCTL_JOIN), None)


def _raise_oom_score() -> None:
    """When memory ends, the kernel should take the job, not the engine or the shell beside it."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        return
