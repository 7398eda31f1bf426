"""Real jobs for the runner: a worktree, a run folder and a Python program to run."""

from __future__ import annotations

import asyncio
import json
import os
import select
import shutil
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.lab.environment import readable_roots, resolve_command, run_environment
from core.lab.runner import RunResult, RunSpec, start
from core.lab.sandbox.landlock import landlock_abi
from core.lab.sandbox.tiers import SandboxSpec, Tier

Make = Callable[..., RunSpec]

# The job's side of the control channel of docs/run-protocol.md.
CHANNEL = """
import array, json, os, socket, sys, time
channel = socket.socket(fileno=int(os.environ["AUTORESEARCH_CONTROL_FD"]))
def ready():
    channel.send(json.dumps({"type": "ready", "params": 123}).encode())
    data, fds, _, _ = socket.recv_fds(channel, 65536, 16)
    return json.loads(data), fds
def done(**more):
    channel.send(json.dumps({"type": "done", **more}).encode())
"""


def marked(spec: RunSpec) -> list[int]:
    """The live processes of this job, found by a path that only their environment contains."""
    needle, found = os.fsencode(str(spec.folder / "home")), []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and needle in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass in time"
        await asyncio.sleep(0.01)


async def run(spec: RunSpec) -> RunResult:
    """Run a job to its end and check that it leaves no process."""
    result = await (await start(spec)).wait()
    assert marked(spec) == []
    return result


def log(spec: RunSpec) -> str:
    """The output of the job."""
    return (spec.folder / "output.log").read_text()


@contextmanager
def answering(command: Sequence[str], env: Mapping[str, str]) -> Iterator[Callable[[Any], Any]]:
    """A process that answers each line of JSON with another, for the duration of the block."""
    with subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        questions, answers = process.stdin, process.stdout

        def answer(question: Any) -> Any:
            print(json.dumps(question), file=questions, flush=True)
            assert select.select([answers], [], [], 60)[0], "no answer"
            return json.loads(answers.readline())

        yield answer


def needs(tier: Tier) -> Tier:
    if tier == "A" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    if tier == "B" and landlock_abi() == 0:
        pytest.skip("this kernel has no Landlock")
    return tier


@pytest.fixture(params=["A", "B"])
def tier(request: pytest.FixtureRequest) -> Tier:
    """Each real tier of this machine; B on every Linux with Landlock."""
    return needs(request.param)


@pytest.fixture
def job(tmp_path: Path) -> Make:
    """Make a job spec of a program's text, by default plain and without a sandbox."""

    def build(program: str, *, sandbox: Tier | None = None, channel: bool = False, **more: Any) -> RunSpec:
        worktree = tmp_path / "work tree 🚀"
        worktree.mkdir(exist_ok=True)
        text = (CHANNEL if channel else "import os, sys, time\n") + textwrap.dedent(program)
        (worktree / "job.py").write_text(text)
        env = run_environment(worktree)
        argv = tuple(resolve_command("python -S job.py", env, worktree))
        defaults: dict[str, Any] = {"seconds": 20.0, "plain": not channel}
        if sandbox:
            hidden = more.pop("hidden", ())
            readable = (*readable_roots(env, argv[:1]), *more.pop("readable", ()))
            network = more.pop("network", False)
            defaults["sandbox"] = SandboxSpec(
                worktree=worktree, readable=readable, hidden=hidden, tier=sandbox, network=network
            )
        if channel and "train_files" not in more:
            train = tmp_path / "train.bin"
            train.write_text("training data")
            defaults["train_files"] = {"train.bin": str(train)}
        number = len(list(tmp_path.glob("run *")))
        return RunSpec(
            run=1, folder=tmp_path / f"run {number}", argv=argv, cwd=worktree, env=env, **{**defaults, **more}
        )

    return build
