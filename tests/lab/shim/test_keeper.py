"""The keeper: nothing of a command survives it, by a control group where the engine may make one and without."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.lab.sandbox.delegation import delegation
from core.lab.shim.daemonize import bare_python
from core.lab.shim.group.cgroup import remove_abandoned
from core.lab.shim.proctree import process_stat, sigkill

# Leaves daemons that gave up environment, session, parent and first thread, and prints their number.
DAEMONS = """
    import ctypes, os, sys, threading, time
    def daemon(last):
        if os.fork(): return
        os.setsid()
        if os.fork(): os._exit(0)
        last()
    def bare(): os.execve(sys.executable, ["python", "-I", "-S", "-c", "import time; time.sleep(300)", NAME], {})
    def without_first():
        threading.Thread(target=lambda: time.sleep(300)).start()
        ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
    daemon(bare)
    daemon(without_first)
    print("left", flush=True)
"""


@pytest.fixture(params=["group", "parents"])
def base(request: pytest.FixtureRequest) -> str:
    """Where groups are made, and nowhere."""
    if request.param == "group" and not delegation().base:
        pytest.skip("no control group can be made here")
    return delegation().base if request.param == "group" else ""


def named(name: str) -> list[int]:
    """The live processes with this word in their command line, or, where the first thread has ended, in a thread's."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        texts = [path / "cmdline", *path.glob("task/*/cmdline")]
        with contextlib.suppress(OSError):
            inside = any(name.encode() in text.read_bytes() for text in texts)
            if inside and int(path.name) != os.getpid() and (stat := process_stat(int(path.name))) and stat.alive:
                found.append(int(path.name))
    return found


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def command(base: str, name: str, then: str, inner: str = "") -> list[str]:
    program = textwrap.dedent(DAEMONS).replace("NAME", repr(name)) + then
    start = [*bare_python("core.lab.shim.group.keeper"), str(os.getpid()), base, inner]
    return [*start, sys.executable, "-I", "-S", "-c", program, name]


@pytest.mark.parametrize(("then", "code"), [("sys.exit(3)", 3), ("os.abort()", -signal.SIGABRT)])
def test_what_a_command_leaves_ends_with_it(base: str, tmp_path: Path, then: str, code: int) -> None:
    done = subprocess.run(command(base, str(tmp_path), then), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (code, "left\n"), done.stderr
    assert named(str(tmp_path)) == []


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_the_engine(base: str, tmp_path: Path, end: signal.Signals) -> None:
    """At SIGTERM from the engine, and when the engine is killed."""
    name = str(tmp_path)
    kept = command(base, name, "time.sleep(300)")
    if end == signal.SIGTERM:
        keeper = subprocess.Popen(kept, stdout=subprocess.PIPE, text=True, start_new_session=True)
        engine = keeper
    else:
        starter = "import os, subprocess, sys; a = sys.argv[1:]; a[6] = str(os.getpid()); subprocess.run(a)"
        engine = subprocess.Popen([sys.executable, "-c", starter, *kept], stdout=subprocess.PIPE, text=True)
    assert engine.stdout is not None
    with engine.stdout as output:
        assert output.readline() == "left\n"
    wait_for(lambda: len(named(name)) >= 3)
    engine.send_signal(end)
    engine.wait(30)
    wait_for(lambda: not named(name))


def test_a_keeper_that_is_killed_leaves_its_group_to_the_next_engine(tmp_path: Path) -> None:
    if not (base := delegation().base):
        pytest.skip("no control group can be made here")
    keeper = subprocess.Popen(command(base, str(tmp_path), "time.sleep(300)"), stdout=subprocess.PIPE, text=True)
    assert keeper.stdout is not None
    with keeper.stdout as output:
        assert output.readline() == "left\n"
    sigkill(keeper.pid)
    keeper.wait(30)
    remove_abandoned(base)  # or another engine of this machine has done it before
    wait_for(lambda: not named(str(tmp_path)))
