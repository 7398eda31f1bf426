"""The process of a coding agent: started in its sandbox, read for minutes, ended when silent or too slow.

It has no terminal, so a question gets no answer: such an agent is silent and is ended. All processes that it has
started end with it (`core/lab/shim/group/keeper.py`), also when the engine is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from core.lab.harness_command import DRAIN_SECONDS, end, keep, keep_off
from core.lab.sandbox.delegation import delegation
from core.lab.shim.clocks.off_clock import OffClock
from core.lab.shim.group.cgroup import remove_abandoned
from core.lab.shim.proctree import kill_leftovers

_CHUNK_BYTES = 65536
_POLL_SECONDS = 0.25
RESULT_SECONDS = 10.0  # after an agent's result, in which it may end by itself
_MARK = "AUTORESEARCH_BENCH"  # environment variable that identifies its processes


@dataclass(frozen=True, slots=True)
class AgentProcessExit:
    """End of an agent's process: by itself (`done`), silent for too long, or past its time limit."""

    exit_code: int
    ended: Literal["done", "silent", "slow"]
    seconds: float


async def run_agent(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: Path | None,
    hear: Callable[[bytes], int | None],
    silence: float,
    limit: float,
    mark: str,
    off_clock: OffClock | None = None,
) -> AgentProcessExit:
    """Run `argv`; `hear` receives its output. Cancelling kills its whole tree. Raises OSError when it cannot start.

    Once `hear` has returned an exit code, the agent has given its result: it is not waited for any longer than
    RESULT_SECONDS, whatever a part of it still prints, and that is then its exit code.

    `silence` and `limit`: most seconds without output, and in all. `mark`: a text that is unique to this command.
    `off_clock` keeps it from the processors of runs on their clock; what it loses by that counts against no limit.
    """
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        source: IO[bytes] | int = stack.enter_context(stdin.open("rb")) if stdin else asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *keep(argv), cwd=cwd, env={**env, _MARK: mark}, stdin=source,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    assert process.stdout
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, 19)
    keeping = asyncio.create_task(keep_off(off_clock, process, kept=True))
    heard = _Heard(begun)
    pump = asyncio.create_task(_pump(process.stdout, hear, heard))
    ended: Literal["done", "silent", "slow"] = "done"
    try:
        while process.returncode is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _POLL_SECONDS)
            now = time.monotonic()
            if heard.result is not None and now - heard.done > min(RESULT_SECONDS, silence):
                break
            lost = off_clock.lost if off_clock else 0.0
            silent, slow = now - heard.at > silence + lost, now - begun > limit + lost
            if process.returncode is None and (silent or slow):
                ended = "silent" if silent else "slow"
                break
        if ended == "done":
            await asyncio.wait({pump}, timeout=DRAIN_SECONDS)
    finally:
        keeping.cancel()
        waits = process.returncode is None and ended == "done"  # it has given its result, or is cancelled
        exit_code = await asyncio.shield(end(process, pump, kept=True))
    if waits and heard.result is not None:
        exit_code = heard.result
    return AgentProcessExit(exit_code, ended, time.monotonic() - begun)


@dataclass(slots=True)
class _Heard:
    """When the last output came; the exit code that goes with the agent's result, once it is given, and since when."""

    at: float
    result: int | None = None
    done: float = 0.0


def kill_agent(mark: str) -> None:
    """Kill what is left of the agent with this mark that an earlier engine started, when its keeper was killed, too."""
    remove_abandoned(delegation().base)
    kill_leftovers(f"{_MARK}={mark}\0", [], None, seconds=5.0)


async def _pump(stream: asyncio.StreamReader, hear: Callable[[bytes], int | None], heard: _Heard) -> None:
    while data := await stream.read(_CHUNK_BYTES):
        heard.at = time.monotonic()
        before, heard.result = heard.result, hear(data)
        if before is None:
            heard.done = heard.at
        await asyncio.sleep(0)  # continuous output must not starve the loop
