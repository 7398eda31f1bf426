"""Every attack on the sandbox, through a run, in every tier that this machine has."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import re
import socket
import subprocess
import tempfile
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.clock import now
from core.lab.environment import readable_roots, resolve_command, run_environment
from core.lab.git.restore import restore_worktree
from core.lab.gpu import nodes
from core.lab.runner import RunProcess, RunSpec, start
from core.lab.sandbox.tiers import SandboxSpec, Tier
from core.lab.shim.clocks.clock_register import ClockRegister
from core.lab.shim.rmtree import remove_tree
from tests.lab.conftest import marked, needs, until
from tests.redteam.arena import STOLEN
from tests.redteam.escape import PRELUDE, Escape
from tests.redteam.variants import ESCAPES

_ADD_KEY = {"x86_64": 248, "aarch64": 217}
_SESSION_KEYRING = -3


class Host:
    """Surroundings of a run: a session with its log, a repository, another live run, the engine's sockets."""

    def __init__(self, base: Path, tier: Tier) -> None:
        self.base, self.tier = base, tier
        self.name = f"autoresearch-red-{os.getpid()}"  # of sockets: other tests may run at the same time
        self.session, self.tree = base / "session", base / "tree"
        for path in ("session.db", "settings.json", "engine.log", "runs/2/out/weights", "worktrees/2/notes"):
            (self.session / path).parent.mkdir(parents=True, exist_ok=True)
            (self.session / path).write_text(path)
        (base / "repo").mkdir()
        (base / "repo" / "model.py").write_text("x = 1\n")
        self.git("init", "-q")
        self.git("add", "-A")
        self.git("-c", "user.name=r", "-c", "user.email=r@r", "commit", "-qm", "first")
        self.git("worktree", "add", "-q", "--detach", str(self.tree))
        self.sockets = [self.listen(str(base / "engine.sock")), self.listen(f"\0{self.name}")]
        libc = ctypes.CDLL(None)
        number = ctypes.c_long(_ADD_KEY[os.uname().machine])
        libc.syscall(
            number, b"user", b"autoresearch-red", b"sk-red", ctypes.c_size_t(6), ctypes.c_long(_SESSION_KEYRING)
        )
        self.marks = self.look_at_marks()
        self.neighbour: RunProcess | None = None
        self.spec: RunSpec | None = None

    def git(self, *args: str) -> None:
        subprocess.run(["git", *args], cwd=self.base / "repo", check=True, capture_output=True)

    def listen(self, address: str) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.bind(address)
        server.listen()
        return server

    def job(self, program: str, **limits: object) -> RunSpec:
        number = len(list(self.base.glob("run *")))
        env = {**run_environment(self.base), "RED_BASE": str(self.base), "RED_TIER": self.tier, "RED_NAME": self.name}
        if self.neighbour is not None:
            env["RED_VICTIM"] = str(self.neighbour.status["job"][1])
        (self.tree / f"job{number}.py").write_text(PRELUDE + textwrap.dedent(program))
        argv = tuple(resolve_command(f"python -S job{number}.py", env, self.tree))
        sandbox = SandboxSpec(worktree=self.tree, readable=readable_roots(env, argv[:1]), tier=self.tier)
        known: dict[str, Any] = {"seconds": 30.0, "plain": True, **limits}
        known["train_files"] = {name: str(self.session / path) for name, path in known.get("train_files", {}).items()}
        return RunSpec(
            run=1, folder=self.base / f"run {number}", argv=argv, cwd=self.tree, env=env, sandbox=sandbox, **known
        )

    # --- what must be unchanged ---

    def intact(self) -> bool:
        files = [path for path in self.session.rglob("*") if path.is_file()]
        return len(files) == 5 and all(path.read_text() == str(path.relative_to(self.session)) for path in files)

    def look_at_marks(self) -> list[tuple[object, ...]]:
        """Mode, owner, time and attributes of files that do not belong to the run."""
        paths = [self.session, self.session / "session.db", self.base / "repo" / "model.py", Path(os.__file__),
                 Path("/usr/bin/env")]  # fmt: skip
        infos = [(path, path.stat()) for path in paths]
        return [(str(p), i.st_mode, i.st_uid, i.st_gid, i.st_mtime, i.st_size, *os.listxattr(p)) for p, i in infos]

    def unmarked(self) -> str:
        now = self.look_at_marks()
        return "" if now == self.marks and self.intact() else f"it was {self.marks} and is {now}"

    def look_with_git(self) -> str:
        restore_worktree(self.tree)
        left = sorted(path.name for path in self.tree.iterdir())
        return "" if left == [".git", "model.py"] and not (self.base / "pwned").exists() else f"it left {left}"

    def tidy(self) -> str:
        assert self.spec is not None
        remove_tree(self.spec.out)
        restore_worktree(self.tree)
        places = [self.spec.folder / "home", self.spec.folder / "tmp", self.spec.out]
        until = time.monotonic() + 30.0
        while (left := [path for path in places if path.exists()]) and time.monotonic() < until:
            time.sleep(0.05)  # the shim removes files after it has reported the end
        return "" if self.intact() and not left else f"left: {left}, session intact: {self.intact()}"

    def nobody_left(self) -> str:
        assert self.spec is not None
        return f"processes were left: {marked(self.spec)}" if marked(self.spec) else ""

    def nobody_named(self, end: str) -> str:
        """No process has a name of the attack's, whatever it did to its parents and its environment."""
        name, found = f"{self.name}{end}".encode(), []
        for path in Path("/proc").glob("[0-9]*/task/*/cmdline"):
            with contextlib.suppress(OSError):
                found += [str(path)] if name in path.read_bytes() else []
        return f"processes were left: {found}" if found else ""

    def no_segments(self) -> str:
        found = [line for line in Path("/proc/sysvipc/shm").read_text().splitlines() if str(0x52454400) in line]
        return f"segments were left: {found}" if found else ""

    def small_log(self) -> str:
        assert self.spec is not None
        data = (self.spec.folder / "output.log").read_bytes()
        return "" if len(data) < 24 << 20 and b"\x1b" not in data else f"{len(data)} bytes of output were kept"

    def sound_reports(self) -> str:
        """What the shim reports is JSON, and its numbers are no longer than a number of steps is."""
        assert self.spec is not None
        for path in self.spec.folder.glob("*.json"):
            numbers = [value for value in json.loads(path.read_text()).values() if isinstance(value, int)]
            if wrong := [value for value in numbers if value > 1 << 62]:
                return f"{path.name} holds {wrong[0]:.3e}"
        return ""

    async def start_beside(self, program: str) -> None:
        spec = self.job(program)
        self.neighbour = beside = await start(spec)
        await until(lambda: beside.phase == "training")
        if "listens" in program:
            await until(lambda: "listens" in (spec.folder / "output.log").read_text())

    async def clock_of_another(self, kind: str) -> None:
        """For two seconds, or seven, another run is on its clock, or its model is scored."""
        assert self.spec is not None
        output = self.spec.folder / "output.log"
        await until(lambda: output.exists() and "up" in output.read_text())
        other = ClockRegister(str(self.base / "clocks"), "other")
        other.scoring() if kind == "scored" else other.clock(1.0)
        await asyncio.sleep(7.0 if kind == "taken for long" else 2.5)
        other.leave()

    async def give_turn(self, run: RunProcess) -> float:
        """Let a run that started ahead wait, then give it its slot and its data. Returns when."""
        output = run.folder / "output.log"
        await until(lambda: run.phase == "ended" or (output.exists() and "up" in output.read_text()))
        await asyncio.sleep(4.0)
        run.take_turn()
        at = now()
        run.release()
        return at

    def nobody_listens(self) -> str:
        """The name that the run has used is free, and nothing has reached the run beside it."""
        self.sockets.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self.sockets[-1].bind(f"\0{self.name}-next")
        return (self.base / "run 0/output.log").read_text().replace("listens\n", "")

    def neighbour_alive(self) -> str:
        return "" if self.neighbour is not None and self.neighbour.phase == "training" else "the other run was ended"


@pytest.fixture
async def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-red")
    monkeypatch.setenv("RED_HERRING", "sk-red")
    tier = needs(request.param)
    with tempfile.TemporaryDirectory(prefix="autoresearch-host-", dir="/var/tmp") as base:
        host = Host(Path(base), tier)
        yield host
        for server in host.sockets:
            server.close()
        if host.neighbour is not None:
            await host.neighbour.kill("the test is over")
        for lock in host.base.glob("run */lock"):  # held by the shim, which tidies up after it has told the end
            with lock.open() as file:
                await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_SH)


MARKED = [
    pytest.param(escape, marks=[pytest.mark.redteam] if escape.slow else [], id=escape.name) for escape in ESCAPES
]


@pytest.mark.parametrize("host", ["A", "B"], indirect=True)
@pytest.mark.parametrize("escape", MARKED)
async def test_an_escape_fails(host: Host, escape: Escape, monkeypatch: pytest.MonkeyPatch) -> None:
    if escape.card:
        monkeypatch.setattr(nodes, "starts_cuda", lambda devices: True)
    if escape.beside:
        await host.start_beside(escape.beside)
    own: dict[str, object] = {"clocks": host.base / "clocks"} if escape.clock or escape.turn else {}
    if escape.turn:
        own |= {"ahead": "idle", "hold": True, "plain": False, "train_files": {"data": "session.db"}}
    spec = host.spec = host.job(escape.program, **escape.limits, **own)
    run = await start(spec)
    turn = await host.give_turn(run) if escape.turn else 0.0
    if escape.clock:
        await host.clock_of_another(escape.clock)
    result = await run.wait()
    output = (spec.folder / "output.log").read_text(errors="replace")
    assert result.clock_started is None or result.clock_started >= turn - 0.05, "its clock began before its turn"
    assert STOLEN not in output, output
    assert result.ended in escape.ended, (result, output[-2000:])
    if result.ended != "done":
        assert re.search(escape.because, result.reason), result
    if escape.check is not None:
        assert escape.check(host) == ""
