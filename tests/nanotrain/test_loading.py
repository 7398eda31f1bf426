"""What a model's process may do until it is shown rows, and not from then on, tried in both tiers of the sandbox."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from core.lab.sandbox import tiers
from nanotrain import model_host
from nanotrain.isolation.asked_calls import SECCOMP, asking_program, refusing_program
from nanotrain.isolation.call_supervisor import CallSupervisor
from nanotrain.process_limits import ProcessMonitor, kill_tree, threads_of
from tests.nanotrain.worlds import REPOSITORY

ASKED = """
import json, os, select, shutil, signal, socket, struct, subprocess, sys, tempfile, threading
host = {"__name__": "host"}
exec(sys.argv[2], host)
print(os.getpid(), flush=True)
filters, install, busy = json.loads(sys.stdin.readline())
if busy: kept = host["set_filter"](struct.pack("HBBI", 6, 0, 0, 0x7FFF0000), install, 8)
link = socket.socket(fileno=os.dup(0))
print(host["ask_about_calls"](link, list(map(bytes.fromhex, filters)), install), flush=True)
os.environ["TMPDIR"] = next(folder for folder in (os.environ["AUTORESEARCH_SCRATCH"], "/tmp") if os.access(folder, 7))
def tried(do):
    try: return do()
    except OSError as error: return error.strerror
def forked(): # by a thread that has been there all the time
    found = []
    def fork():
        child = tried(os.fork)
        if child == 0: os._exit(0)
        if isinstance(child, int): os.waitpid(child, 0)
        found.append(isinstance(child, int))
    thread = threading.Thread(target=fork); thread.start(); thread.join()
    return found[0]
def killed():
    slow = subprocess.Popen(["sleep", "600"]); slow.kill()
    group = subprocess.Popen(["sleep", "600"], start_new_session=True); os.killpg(group.pid, 15)
    return [slow.wait(), group.wait()]
def heard():
    if one: one.send(b"x"); return other.recv(1).decode()
def disk(): return list(shutil.disk_usage("/"))
ways = {
    "process": lambda: subprocess.run(["true"]).returncode, "thread": forked, "killed": killed,
    "pipe": lambda: len(os.pipe()), "epoll": lambda: type(select.epoll()).__name__,
    "pair": lambda: len(socket.socketpair()), "session": lambda: os.getsid(0) > 0,
    "file": lambda: bool(tempfile.mkstemp()), "disk": disk, "heard": heard, "nice": lambda: os.nice(0),
    "engine": lambda: os.kill(int(sys.argv[1]), 0),
    "socket": lambda: bool(socket.socket(socket.AF_UNIX)), "memory": lambda: os.sysconf("SC_AVPHYS_PAGES") > 0,
}
one = other = left = None
if not busy: (one, other), left = socket.socketpair(), subprocess.Popen(["sleep", "600"])
while sys.stdin.readline():
    print(json.dumps({name: tried(do) for name, do in ways.items()}), flush=True)
"""
REFUSED = "Operation not permitted"


Ask = Callable[[], dict[str, Any]]


@contextlib.contextmanager
def started(
    tier: Literal["A", "B"], folder: Path, *, busy: bool = False
) -> Iterator[tuple[CallSupervisor | None, ProcessMonitor, Ask]]:
    """ASKED in the sandbox of a scored model. Yields its supervisor, its monitor, and what asks it for its tries.

    `busy`: it has a listener already, so that nobody can be asked.
    """
    if not {one: ok for one, ok, _ in tiers.probe(cuda=False).tiers}[tier]:
        pytest.skip(f"tier {tier} does not work here")
    (folder / "tree").mkdir()
    readable = (Path(sys.prefix), Path(sys.base_prefix))
    spec = tiers.SandboxSpec(worktree=folder / "tree", readable=readable, read_only=True, tier=tier)
    scratch, machine = tempfile.mkdtemp(dir=folder), os.uname().machine
    text = Path(model_host.__file__).read_text()
    argv = tiers.command(spec, [sys.executable, "-I", "-c", ASKED, str(os.getpid()), text])
    env = {"PATH": os.defpath, "AUTORESEARCH_SCRATCH": scratch}
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(argv, stdin=theirs.fileno(), stdout=subprocess.PIPE, env=env, start_new_session=True)
    monitor = ProcessMonitor(process.pid, lambda _: process.kill(), 1 << 30)
    calls = None
    assert process.stdout
    stdout = process.stdout

    def ask() -> dict[str, Any]:
        ours.send(b"\n")
        found: dict[str, Any] = json.loads(stdout.readline())
        return found

    try:
        number = int(stdout.readline())
        programs = [
            asking_program(machine, number),
            *(refusing_program(machine, number, asked=one) for one in (True, False)),
        ]
        ours.send(json.dumps([[one.hex() for one in programs], SECCOMP[machine], busy]).encode() + b"\n")
        if not busy:
            calls = CallSupervisor(socket.recv_fds(ours, 1, 1)[1][0], monitor.pids)
        assert stdout.readline().strip() == (b"Device or resource busy" if busy else b"asked")
        yield calls, monitor, ask
    finally:
        monitor.stopped.set()
        ours.close()
        kill_tree(process.pid)
        process.wait(30)
        if calls:
            calls.close()
        shutil.rmtree(scratch)
        stdout.close()


@pytest.mark.parametrize("tier", ["A", "B"])
def test_what_is_allowed_while_a_model_is_loaded_is_refused_afterwards(tier: Literal["A", "B"], tmp_path: Path) -> None:
    with started(tier, tmp_path) as (calls, monitor, ask):
        assert calls
        before = ask()
        disk = before.pop("disk")
        assert before == {
            "process": 0, "thread": True, "killed": [-9, -15], "pipe": 2, "epoll": "epoll", "pair": 2, "session": True,
            "file": True, "heard": "x", "nice": 0, "engine": "No such process", "memory": True,
            "socket": True if tier == "A" else REFUSED,
        }  # fmt: skip
        assert disk[0] == 2 * disk[2] > 0 and disk != list(shutil.disk_usage("/"))
        children = {pid for pid in monitor.pids() if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep")}
        assert len(children) == 1
        calls.refuse()
        monitor.keep_alone(set(monitor.pids()) - children)
        assert calls.settle([folder for pid in monitor.pids() for folder in threads_of(pid)])
        assert not children & set(monitor.pids())
        assert not monitor.violation(monitor.pids())
        after = ask()
        assert after.pop("disk") == disk
        assert after == {
            **dict.fromkeys(("process", "killed", "pipe", "epoll", "pair", "session", "socket"), REFUSED),
            "thread": False, "file": "No such file or directory", "heard": "x", "nice": 0,
            "engine": "No such process", "memory": True,
        }  # fmt: skip


@pytest.mark.parametrize("tier", ["A", "B"])
def test_where_nobody_can_be_asked_it_is_refused_from_the_start(tier: Literal["A", "B"], tmp_path: Path) -> None:
    with started(tier, tmp_path, busy=True) as (_, _, ask):
        found = ask()
        del found["memory"]  # what the C library makes up
        assert found == {
            **dict.fromkeys(("process", "killed", "pipe", "epoll", "pair", "session", "socket"), REFUSED),
            "thread": False, "file": True, "heard": None, "nice": 0, "engine": "No such process",
            "disk": "Function not implemented",
        }  # fmt: skip


def test_a_file_that_is_made_up_is_found_by_every_kind_of_path(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("made up")
    code = """
import pathlib, sys
from nanotrain.model_host import read_instead
read_instead(sys.argv[1])
print(open("/proc/meminfo").read(), pathlib.Path("/proc/meminfo").read_text(), open("/proc/self/comm").read())
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("made up made up ") and len(done.stdout) > 18


def test_a_process_that_appears_after_rows_were_shown_violates_the_limits() -> None:
    process = subprocess.Popen(["/bin/sh", "-c", "sleep 600 & read x; sleep 600 & read y"], stdin=subprocess.PIPE)
    said: list[str] = []
    monitor = ProcessMonitor(process.pid, said.append, 1 << 30)
    try:
        while len(monitor.pids()) < 2:
            assert process.poll() is None
        monitor.keep_alone({process.pid})
        assert monitor.pids() == [process.pid] and not monitor.violation([process.pid, 1 << 22])
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
        monitor.join(30)
        assert said == ["the model started a process after it was shown rows"]
    finally:
        monitor.stopped.set()
        kill_tree(process.pid)
        process.communicate()
