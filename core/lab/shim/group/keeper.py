"""The keeper of a command of the engine's: a scorer, or a coding agent. Nothing of the command survives it.

    keeper ENGINE BASE INNER ARGV…

It adopts the command's orphans, and has a control group for it below BASE where that is not empty. When the command
has ended, at SIGTERM, or when the engine (a pid) has died, however that was, it kills all that is left, and ends as the
command did. With INNER, the command may make groups of its own, in the folder that `AUTORESEARCH_CGROUP` names: a
scorer does, for each process that runs code under test.

Started with `-I -S`: it loads only the modules of this folder and a small part of the standard library.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH102, PTH118

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

from core.lab.shim.group.cgroup import ControlGroup
from core.lab.shim.proctree import WAIT_ALL, kill_children

TYPE_CHECKING = False
if TYPE_CHECKING:  # to load typing takes 3 ms
    from typing import NoReturn

VARIABLE = "AUTORESEARCH_CGROUP"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class _Ended(Exception):
    """SIGTERM, which the death of the engine also sends."""


def main() -> None:
    engine, base, inner, *argv = sys.argv[1:]
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _on_end)
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    group, status = None, int(signal.SIGKILL)
    child = 0
    try:
        if os.getppid() != int(engine):
            raise _Ended
        group = ControlGroup.make(base)
        child = os.fork()
        if child == 0:
            _execute(argv, group, bool(inner))
        pid = 0
        while pid != child:
            pid, status = os.waitpid(-1, WAIT_ALL)
    except _Ended:
        pass
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if group is not None:
        group.kill()
    if child:
        kill_children(child)
    if group is not None:
        group.end()
    if os.WIFSIGNALED(status):
        with suppress(OSError):  # SIGKILL
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)


def _on_end(number: int, frame: object) -> None:
    raise _Ended


def _execute(argv: list[str], group: ControlGroup | None, inner: bool) -> NoReturn:
    """Become the command, in a session and a control group of its own."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        if group is not None and inner:
            own = ControlGroup(os.path.join(group.path, "main"))
            os.mkdir(own.path)
            own.enter()
            for name in ("memory", "pids"):
                group.set("cgroup.subtree_control", f"+{name}")
            os.environ[VARIABLE] = group.path
        elif group is not None:
            group.enter()
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, f"could not start {argv[0]}: {error.strerror}\n".encode(errors="replace"))
    finally:
        with suppress(BaseException):
            os._exit(127)
        raise AssertionError("unreachable")
