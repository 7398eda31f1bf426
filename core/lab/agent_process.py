"""A command that works for minutes and is listened to meanwhile: a coding agent in its sandbox.

It has no terminal and nobody to ask: what waits for an answer gets none, and is ended when it has been silent too long.
However it ends, everything it has started ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.lab.harness_command import LEFT_BEHIND_SECONDS, collect, kill
from core.lab.shim.proctree import hunt

CHUNK = 65536
LOOK_SECONDS = 0.25  # between two looks at the clock
MARK = "AUTORESEARCH_BENCH"  # by which the environment of its processes is known


@dataclass(frozen=True, slots=True)
class Attended:
    """How it ended: by itself (`done`), silent for too long, or longer than it may. Seconds by the clock."""

    exit_code: int
    ended: Literal["done", "silent", "slow"]
    seconds: float


async def attend(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: Path | None,
    hear: Callable[[bytes], None],
    silence: float,
    limit: float,
    mark: str,
) -> Attended:
    """Run `argv` and hand on what it prints. Cancelling kills its whole tree. Raises OSError when it cannot be started.

    `silence` and `limit`: seconds without output, and at all. `mark`: a word that no other command's is; see `sweep`.
    """
    begun = time.monotonic()
    source = stdin.open("rb") if stdin else None
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=cwd, env={**env, MARK: mark}, stdin=source or asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    finally:
        if source:
            source.close()
    assert process.stdout
    heard = [begun]
    pump = asyncio.create_task(_pump(process.stdout, hear, heard))
    ended: Literal["done", "silent", "slow"] = "done"
    try:
        while process.returncode is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), LOOK_SECONDS)
            now = time.monotonic()
            if process.returncode is None and now - heard[0] > silence:
                ended = "silent"
                break
            if process.returncode is None and now - begun > limit:
                ended = "slow"
                break
        if ended == "done":
            await asyncio.wait({pump}, timeout=LEFT_BEHIND_SECONDS)
    finally:
        kill(process)
        await asyncio.shield(asyncio.to_thread(sweep, mark))  # what has left its tree
        await collect(process, pump)
    code = process.returncode
    return Attended(code if code is not None else -signal.SIGKILL, ended, time.monotonic() - begun)


def sweep(mark: str) -> None:
    """Kill whatever a command with this mark has left behind, an engine that was killed meanwhile included."""
    hunt(f"{MARK}={mark}\0", [], None, seconds=5.0)


async def _pump(stream: asyncio.StreamReader, hear: Callable[[bytes], None], heard: list[float]) -> None:
    while data := await stream.read(CHUNK):
        heard[0] = time.monotonic()
        hear(data)
        await asyncio.sleep(0)  # a flood of output must not starve the loop
