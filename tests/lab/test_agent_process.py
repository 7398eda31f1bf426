"""The process of a coding agent: how long it is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import pytest

from core.lab.agent_process import AgentProcessExit, run_agent
from core.lab.shim.clocks.clock_register import ClockRegister
from core.lab.shim.clocks.off_clock import OffClock

RESULT = b'{"type": "result"}\n'


async def run(
    script: str, folder: Path, *, silence: float = 60.0, off_clock: OffClock | None = None
) -> tuple[AgentProcessExit, bytes]:
    said = bytearray()

    def hear(data: bytes) -> int | None:
        said.extend(data)
        return 0 if RESULT in said else None

    argv = ("sh", "-c", script)
    done = await run_agent(
        argv, cwd=folder, env=dict(os.environ), stdin=None, hear=hear, silence=silence, limit=60.0, mark=str(folder),
        off_clock=off_clock,
    )  # fmt: skip
    return done, bytes(said)


@pytest.mark.parametrize("after", ["sleep 60", "while sleep 0.1; do echo waiting; done"])
async def test_an_agent_that_has_given_its_result_is_not_waited_for(after: str, tmp_path: Path) -> None:
    """Also when a part of it goes on printing."""
    begun = time.monotonic()
    done, said = await run(f"echo '{RESULT.decode().strip()}'; {after}", tmp_path, silence=0.5)
    assert (done.exit_code, done.ended) == (0, "done") and said.startswith(RESULT) and time.monotonic() - begun < 20


async def test_a_child_that_keeps_the_pipe_open_is_ended_with_its_agent(tmp_path: Path) -> None:
    begun = time.monotonic()
    done, said = await run("sleep 60 & echo edited; exit 3", tmp_path)
    assert (done.exit_code, done.ended, said) == (3, "done", b"edited\n") and time.monotonic() - begun < 30


async def test_an_agent_is_stopped_while_a_model_is_scored_and_loses_no_time(tmp_path: Path) -> None:
    other = ClockRegister(str(tmp_path / "clocks"), "other")
    off_clock = OffClock(ClockRegister(str(tmp_path / "clocks"), "agent"), 1)
    other.scoring()
    agent = asyncio.create_task(run("echo up; sleep 0.1; echo on", tmp_path, silence=1.0, off_clock=off_clock))
    await asyncio.sleep(2.0)
    assert not agent.done()
    other.leave()
    done, said = await agent
    assert (done.exit_code, done.ended) == (0, "done") and said.endswith(b"on\n") and off_clock.lost > 1.0


async def test_a_busy_agent_takes_little_from_a_run_on_its_clock(tmp_path: Path) -> None:
    other = ClockRegister(str(tmp_path / "clocks"), "other")
    off_clock = OffClock(ClockRegister(str(tmp_path / "clocks"), "agent"), 1)
    other.clock(1.0)
    crowd = "for i in 1 2 3 4 5 6 7 8; do setsid timeout 2 sh -c 'while :; do :; done' & done; wait; times"
    done, said = await run(crowd, tmp_path, off_clock=off_clock)
    minutes, seconds = said.split()[2].removesuffix(b"s").split(b"m")
    assert done.ended == "done" and 60 * float(minutes) + float(seconds) < 1.2


async def test_a_daemon_without_environment_and_session_ends_with_its_agent(tmp_path: Path) -> None:
    word = f"300.{os.getpid()}"
    done, said = await run(f"(env -i setsid sleep {word} &) >/dev/null 2>&1; echo left", tmp_path)
    assert (done.exit_code, said) == (0, b"left\n")
    assert commands(f"sleep\0{word}\0") == []


def commands(line: str) -> list[str]:
    """The processes with this command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [str(path)] if path.read_text(errors="replace") == line else []
    return found
