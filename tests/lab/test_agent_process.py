"""The process of a coding agent: how long it is waited for."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from core.lab.agent_process import AgentProcessExit, run_agent

RESULT = b'{"type": "result"}\n'


async def run(script: str, folder: Path, *, silence: float = 60.0) -> tuple[AgentProcessExit, bytes]:
    said = bytearray()

    def hear(data: bytes) -> int | None:
        said.extend(data)
        return 0 if RESULT in said else None

    argv = ("sh", "-c", script)
    done = await run_agent(
        argv, cwd=folder, env=dict(os.environ), stdin=None, hear=hear, silence=silence, limit=60.0, mark=str(folder)
    )
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
