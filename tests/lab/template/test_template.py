"""Forks of the template: the rights of a started command, and nothing of one fork in the next."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from core.lab.environment import readable_roots, run_environment
from core.lab.sandbox.tiers import SandboxSpec, Tier, command, entry
from core.lab.shim.clocks.clock_register import ClockRegister
from core.lab.shim.clocks.off_clock import OffClock
from core.lab.template.lender import Loan, TemplateLender
from nanotrain.isolation.forked_process import ForkedProcess, Template, TemplateLost
from tests.lab.conftest import needs, until

pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="no torch for a template to load")

TIERS: list[Tier] = ["A", "B", "C"]


@dataclass
class Room:
    """A worktree, a hidden file and a lender; scratch folders of models as the scorer makes them."""

    base: Path
    tier: Tier
    lender: TemplateLender = field(default_factory=TemplateLender)

    def __post_init__(self) -> None:
        for name in ("tree", "outside", "data", "scratch", "clocks"):
            (self.base / name).mkdir()
        (self.base / "data" / "hidden").write_text("HIDDEN")
        self.given = run_environment(self.base)
        self.env = {"PATH": self.given["PATH"], "HOME": str(self.base), "LANG": "C.UTF-8"}

    @property
    def spec(self) -> SandboxSpec:
        readable = (*readable_roots(self.given), Path(sys.prefix), self.base / "data")
        hidden = (self.base / "data" / "hidden",)
        return SandboxSpec(
            worktree=self.base / "tree", readable=readable, hidden=hidden, read_only=True, tier=self.tier
        )

    @contextlib.asynccontextmanager
    async def lent(self, sandbox: dict[str, Any] | None = None) -> AsyncIterator[tuple[Loan, Template]]:
        """A loan, and the scorer's side of it."""
        off_clock = OffClock(ClockRegister(str(self.base / "clocks"), "1"), os.cpu_count() or 1, scored=True)
        rules = entry(self.spec) if sandbox is None else sandbox
        async with self.lender.lent(sys.executable, self.given, rules, off_clock) as loan:
            assert loan is not None
            # A scorer has a copy of its own.
            template = Template(os.dup(loan.descriptor), json.loads(loan.variable)["sandbox"])
            try:
                yield loan, template
            finally:
                template.close()

    def start(self, template: Template, code: str, **env: str) -> ForkedProcess:
        """A fork that runs `code`; its stdin is empty."""
        with Path(os.devnull).open() as nothing:
            scratch = {"AUTORESEARCH_SCRATCH": str(self.base / "scratch")}
            return template.start(textwrap.dedent(code), {**self.env, **scratch, **env}, None, nothing.fileno())

    def said(self, template: Template, code: str, **env: str) -> str:
        """What a fork prints."""
        forked = self.start(template, code, **env)
        out = forked.stdout.read()
        assert forked.wait(60) == 0, forked.stderr.read()
        forked.close()
        return out.decode().strip()


@pytest.fixture
def base() -> Iterator[Path]:
    # Not under /tmp, which tier A has of its own.
    with tempfile.TemporaryDirectory(prefix="autoresearch-test-", dir="/var/tmp") as name:
        yield Path(name).resolve()


@pytest.fixture(params=TIERS)
async def room(base: Path, request: pytest.FixtureRequest) -> AsyncIterator[Room]:
    needs(request.param)
    found = Room(base, request.param)
    yield found
    await found.lender.close()


@pytest.fixture
async def plain(base: Path) -> AsyncIterator[Room]:
    """Without a sandbox."""
    found = Room(base, "C")
    yield found
    await found.lender.close()


RIGHTS = """
import ctypes, errno, json, os, resource, signal, socket, sys, time
base, port = sys.stdin.read() or os.environ["BASE"], int(os.environ["PORT"])
libc, found = ctypes.CDLL(None, use_errno=True), {}
def attempt(name, do):
    try: found[name] = repr(do())
    except (OSError, ValueError) as error: found[name] = errno.errorcode.get(getattr(error, "errno", 0), str(error))
def call(number, *args):
    got = libc.syscall(number, *map(ctypes.c_long, args))
    return got if got >= 0 else errno.errorcode.get(ctypes.get_errno())
def connect():
    with socket.socket() as s:
        s.settimeout(5)
        s.connect(("127.0.0.1", port))
attempt("hidden", lambda: open(base + "/data/hidden").read())
attempt("outside", lambda: open(base + "/outside/x", "w").close())
attempt("worktree", lambda: open(base + "/tree/x", "w").close())
attempt("others", lambda: os.listdir(base))
attempt("root", lambda: sorted(os.listdir("/")))
attempt("shadow", lambda: bool(open("/etc/shadow").read()))
attempt("processes", lambda: len(os.listdir("/proc")) > 0)
attempt("environ", lambda: bool(open("/proc/1/environ", "rb").read() or 1))
attempt("own maps", lambda: len(open("/proc/self/maps").read()) > 100)
attempt("connect", connect)
attempt("shm", lambda: open("/dev/shm/left-by-a-test", "w").close() or os.unlink("/dev/shm/left-by-a-test"))
attempt("signal", lambda: os.kill(os.getppid() or 1, 0))
attempt("host", lambda: open("/proc/sys/kernel/core_pattern", "a").close())
attempt("uid", lambda: (os.getuid(), os.geteuid(), os.getgid(), os.uname().nodename))
attempt("session", lambda: os.getsid(0) == os.getpid())
attempt("chroot", lambda: os.chroot("/"))
attempt("limits", lambda: [resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n.startswith("RLIMIT_")])
attempt("descriptors", lambda: [n for n in range(200) if libc.fcntl(n, 1, 0) >= 0])
attempt("handled", lambda: [n for n in range(1, 32) if n not in (1, 9, 19) and signal.getsignal(n) == signal.SIG_IGN])
attempt("masked", lambda: sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))))
attempt("bounding", lambda: [call(157, 23, n) for n in range(41)])
attempt("privileges", lambda: [call(157, n, 0, 0, 0, 0) for n in (39, 3, 2, 21)])
attempt("unshare", lambda: call(272, 0x10000000))
attempt("ptrace", lambda: call(101, 16, os.getppid() or 1, 0, 0))
attempt("key", lambda: call(250, 0, -3, 0) != 0)
attempt("bpf", lambda: call(321, 0, 0, 0))
hidden = ("PWD", "LC_CTYPE", "OLDPWD", "SHLVL", "_")
attempt("environment", lambda: sorted((k, v) for k, v in os.environ.items() if k not in hidden))
attempt("arguments", lambda: (sys.argv, sys.path, sys.flags.safe_path))
attempt("main", lambda: (__name__, sorted(name for name in sys.modules["__main__"].__dict__ if name.startswith("__"))))
print(json.dumps(found))
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="it calls by number")
async def test_a_fork_has_the_rights_of_a_started_command(room: Room) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        env = {"BASE": str(room.base), "PORT": str(server.getsockname()[1])}
        scratch = {"AUTORESEARCH_SCRATCH": str(room.base / "scratch")}
        argv = command(room.spec, [sys.executable, "-P", "-B", "-c", RIGHTS])
        done = await asyncio.to_thread(
            subprocess.run, argv, cwd="/", env={**room.env, **scratch, **env}, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=120, start_new_session=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        async with room.lent() as (_, template):
            forked = json.loads(room.said(template, RIGHTS, **env))
    started = json.loads(done.stdout)
    started.pop("session")  # that of bubblewrap in tier A
    assert forked.pop("session") == "True"
    assert forked == started
    if room.tier != "C":
        assert "HIDDEN" not in forked["hidden"] and forked["outside"] != "None" and forked["connect"] != "None"


LEAVE = """
import mmap, os, resource, signal, sys, tempfile, threading, time
import torch
torch.left = sys.left = 1
torch.manual_seed(77)
os.environ["LEFT"] = "1"
made = []
for place in ("/tmp", "/dev/shm", "/var/tmp", os.environ["AUTORESEARCH_SCRATCH"]):
    try:
        open(place + "/left-by-a-fork", "w").close()
        made.append(place)
    except OSError: pass
for do in (lambda: os.umask(0o777), lambda: os.nice(3), lambda: os.sched_setaffinity(0, {0}),
           lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50)), lambda: os.chdir("/usr"),
           lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
           lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]),
           lambda: signal.setitimer(signal.ITIMER_REAL, 1000), lambda: os.kill(os.getppid(), 0)):
    try: do()
    except OSError: pass
for number in range(3, 200):
    try: os.write(number, b"left")
    except OSError: pass
threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
for _ in range(3):
    try:
        if os.fork() == 0:
            if os.fork() == 0: os.setsid()
            time.sleep(1000)
    except OSError: pass
if os.environ.get("REMOVE"):
    for place in made: os.unlink(place + "/left-by-a-fork")
os.write(1, b"left")
os._exit(0)
"""
LOOK = """
import os, resource, signal, sys
import torch
found = [name for name in ("left",) if hasattr(torch, name) or hasattr(sys, name)]
found += ["environment"] * ("LEFT" in os.environ) + ["seed"] * (torch.initial_seed() == 77)
found += ["limit"] * (resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 50) + ["folder"] * (os.getcwd() != "/")
found += ["umask"] * (os.umask(0o22) == 0o777) + ["nice"] * (os.nice(0) != 0)
found += ["ignored"] * (signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN)
found += ["masked"] * bool(signal.pthread_sigmask(signal.SIG_BLOCK, []))
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
found += ["children"] * bool(usage.ru_utime + usage.ru_stime + usage.ru_maxrss)
for place in ("/tmp", "/dev/shm", "/var/tmp", "/usr"):
    if os.access(place + "/left-by-a-fork", os.F_OK): found.append(place)
print(found, flush=True)
"""


async def test_nothing_of_one_fork_reaches_the_next(room: Room) -> None:
    async with room.lent() as (loan, template):
        processes = []
        for _ in range(2):
            first = room.start(template, LEAVE, **({"REMOVE": "1"} if room.tier == "C" else {}))
            assert first.stdout.read(4) == b"left", first.stderr.read()
            first.close()
            look = room.start(template, LOOK + "\nsys.stdin.read()\nimport time; time.sleep(1000)")
            assert look.stdout.readline() == b"[]\n"
            processes.append(len(loan.tree()))
            look.close()
        assert processes == [5 if room.tier == "A" else 2] * 2, "only the fork, its attendant, and the sandbox's own"
    async with room.lent() as (loan, template):
        assert room.said(template, LOOK) == "[]"
    assert not loan.tree()


SAME = """
import gc, json, os, random, sys
import numpy, torch
print(json.dumps({
    "same": [len(gc.get_objects()) // 100, sorted(sys.modules), sys.path, hash("word"), torch.initial_seed(),
             len(os.listdir("/proc/self/task")), sorted(name for name in globals() if not name.startswith("__"))],
    "other": [random.random(), numpy.random.rand(), str(torch.empty(0).dtype)[:0] + os.urandom(4).hex()]}))
"""
SEARCH = """
import os
head, tail = os.environ["HEAD"].encode(), os.environ["TAIL"].encode()  # never joined here
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
    for line in list(maps):
        where, rights, *_ = line.split()
        if rights[0] != "r" or "[v" in line: continue
        start, end = (int(part, 16) for part in where.split("-"))
        memory.seek(start)
        data = memory.read(end - start)
        place = data.find(head)
        while place >= 0:
            if data[place + len(head):].startswith(tail): print("FOUND", line)
            place = data.find(head, place + 1)
print("searched")
"""


async def test_forks_begin_alike_and_with_numbers_of_their_own(plain: Room) -> None:
    """What a fork holds does not depend on the ones before: neither their number nor their orders."""
    async with plain.lent() as (_, template):
        found = [json.loads(plain.said(template, SAME, MARK="a-mark-of-the-first-" + "x" * n)) for n in (0, 900)]
    async with plain.lent() as (_, template):
        found.append(json.loads(plain.said(template, SAME)))
        parts = {"HEAD": "a-mark-of-", "TAIL": "the-first-"}
        assert plain.said(template, SEARCH, **parts) == "searched"
        assert plain.said(template, SEARCH, **parts, MARK="a-mark-of-the-first-").startswith("FOUND")
    assert found[0]["same"] == found[1]["same"] == found[2]["same"]
    _, modules, _, _, _, threads, names = found[0]["same"]
    assert not [name for name in modules if name.partition(".")[0] in ("core", "nanotrain", "tests")]
    assert threads == 1
    assert set(names) == {"gc", "json", "os", "random", "sys", "numpy", "torch"}
    for place in range(3):
        assert len({one["other"][place] for one in found}) == 3


async def test_a_template_that_dies_is_started_again_once(plain: Room) -> None:
    async with plain.lent() as (_, template):
        assert plain.said(template, "print('a')") == "a"
    assert not plain.lender.told()
    os.kill(plain.lender._first, signal.SIGKILL)
    process = plain.lender._process
    assert process is not None
    await process.wait()
    async with plain.lent() as (_, template):  # another has been started
        model = plain.start(template, "print('b', flush=True)\nimport time; time.sleep(1000)")
        assert model.stdout.readline() == b"b\n"
        (words,) = plain.lender.told()
        assert "ended by itself" in words and "another is started" in words
        os.kill(plain.lender._first, signal.SIGKILL)
        assert model.stdout.read() == b"" and model.wait(60) == -signal.SIGKILL
        await until(template.has_ended)
        model.close()
        with pytest.raises(TemplateLost):
            plain.start(template, "print('c')")
        assert template.lost
    assert "not used any more" in plain.lender.told()[0]
    off_clock = OffClock(ClockRegister(str(plain.base / "clocks"), "1"), 1, scored=True)
    async with plain.lender.lent(sys.executable, plain.given, {}, off_clock) as loan:
        assert loan is None


async def test_a_template_that_hangs_is_replaced(plain: Room) -> None:
    async with plain.lent() as (_, template):
        os.kill(plain.lender._first, signal.SIGSTOP)
        template.seconds = plain.lender.free_seconds = 0.5
        with pytest.raises(TemplateLost, match="no answer"):
            plain.start(template, "print('a')")
    assert "was not free" in plain.lender.told()[0]
    plain.lender.free_seconds = 60.0
    async with plain.lent() as (_, template):
        assert plain.said(template, "print('a')") == "a"


async def test_a_fork_ends_with_its_scorer_and_its_loan(room: Room) -> None:
    async with room.lent() as (loan, template):
        one = room.start(template, "import os\nos.fork()\nprint('up', flush=True)\nimport time; time.sleep(1000)")
        assert one.stdout.readline() == b"up\n"
        one._life.close()  # as when the scorer is killed
        await until(lambda: not loan.tree())
        two = room.start(template, "print('up', flush=True)\nimport time; time.sleep(1000)")
        assert two.stdout.readline() == b"up\n"
        template.close()
    await until(lambda: not loan.tree())
    assert two.wait(60) == -signal.SIGKILL and not room.lender.told()


async def test_where_forks_cannot_enter_the_sandbox_it_is_said_once(plain: Room) -> None:
    async with plain.lent({"prefix": ["/bin/false"], "filter": ""}) as (_, template):
        with pytest.raises(TemplateLost, match="did not start"):
            plain.start(template, "print('a')")
    (words,) = plain.lender.told()
    assert words.startswith("models are not forked") and not plain.lender.told()
    assert plain.lender._process is None


@pytest.fixture
def no_torch(tmp_path: Path) -> Iterator[str]:
    """A Python without torch."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -I -S "$@"\n')
    python.chmod(0o755)
    yield str(python)


async def test_a_python_without_the_libraries_is_said(plain: Room, no_torch: str) -> None:
    off_clock = OffClock(ClockRegister(str(plain.base / "clocks"), "1"), 1, scored=True)
    async with plain.lender.lent(no_torch, plain.given, {}, off_clock) as loan:
        assert loan is None
    words = plain.lender.told()
    assert len(words) == 2 and "No module named 'torch'" in words[1] and "not used any more" in words[1]


LENDS = """
import asyncio, os, sys
from core.lab.shim.clocks.clock_register import ClockRegister
from core.lab.shim.clocks.off_clock import OffClock
from core.lab.template.lender import TemplateLender
from nanotrain.isolation.forked_process import Template
async def main():
    lender, off_clock = TemplateLender(), OffClock(ClockRegister(sys.argv[1], "1"), 1, scored=True)
    async with lender.lent(sys.executable, dict(os.environ), {}, off_clock) as loan:
        template = Template(os.dup(loan.descriptor), {})
        template.start("import os, time\\nif os.fork() == 0: os.setsid()\\ntime.sleep(1000)", {}, None, 0)
        print(lender._first, *loan.tree(), flush=True)
        await asyncio.sleep(1000)
asyncio.run(main())
"""


async def test_the_template_and_its_forks_end_with_an_engine_that_is_killed(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", LENDS, str(tmp_path / "clocks")]
    root = Path(__file__).parents[3]
    engine = await asyncio.create_subprocess_exec(*argv, cwd=root, stdout=asyncio.subprocess.PIPE,
                                                  stdin=asyncio.subprocess.DEVNULL)  # fmt: skip
    assert engine.stdout is not None
    pids = [int(word) for word in (await engine.stdout.readline()).split()]
    watched = [os.pidfd_open(pid) for pid in pids]
    assert len(pids) >= 3
    engine.kill()
    await engine.wait()
    await until(lambda: len(select.select(watched, [], [], 0)[0]) == len(watched))
    for one in watched:
        os.close(one)
