"""A trial, a device check or a preparation from outside: started, its messages read; leaving it ends its process"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.record.errors import EngineError
from core.session.options import EngineOptions

MAX_LINE_BYTES = 16 << 20
REMOVAL_SECONDS = 60.0  # until an ended trial has removed its worktree


def follow_trial(
    project: Path, options: EngineOptions, *, seconds: float | None = None, full: bool = False
) -> AsyncGenerator[dict[str, Any]]:
    """The progress of a trial as it comes, `{"progress": …}`, and at last its report, `{"report": …}`.

    Closing the iterator, or cancelling it, ends the trial; it returns when everything of it is removed.
    Raises EngineError when the process gives no report.
    """
    words = [*_about(options, seconds), *(("--full",) if full else ()), str(project)]
    return _follow("the trial", "try", *words)


def follow_device_check(
    project: Path, options: EngineOptions, *, seconds: float | None = None
) -> AsyncGenerator[dict[str, Any]]:
    """The same for a device check; `{"step": …}` is the result of one of its steps."""
    words = ["--device", *_about(options, seconds), str(project)]
    return _follow("the device check", "doctor", *words)


def follow_preparation(
    project: Path, options: EngineOptions, chosen: str | None = None
) -> AsyncGenerator[dict[str, Any]]:
    """The same of the preparation of the data, by program.md's `prepare` or the command that was `chosen`."""
    more = ["--chosen", chosen] if chosen else []
    return _follow("the preparation", "prepare", *_about(options, None), *more, str(project))


def _about(options: EngineOptions, seconds: float | None) -> list[str]:
    return ["--options", json.dumps(asdict(options)), *(("--seconds", str(seconds)) if seconds is not None else ())]


async def _follow(what: str, *words: str) -> AsyncGenerator[dict[str, Any]]:
    command = [sys.executable, "-P", "-m", "core.engine", *words]
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise EngineError(f"{what} could not be started ({error.strerror})", where=command[0]) from None
    assert process.stdin and process.stdout and process.stderr
    errors = asyncio.ensure_future(process.stderr.read())
    reported = False
    try:
        async for line in process.stdout:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                reported = reported or "report" in message
                yield message
        if not reported:
            said = (await errors).decode(errors="replace").strip().splitlines()
            raise EngineError(f"{what} failed: {said[-1] if said else 'it gave no report'}")
    finally:
        await _end(process, errors)


async def _end(process: asyncio.subprocess.Process, errors: asyncio.Future[bytes]) -> None:
    """Let the process go, and wait until it has removed what it made."""
    assert process.stdin
    process.stdin.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REMOVAL_SECONDS):
            await asyncio.gather(errors, process.wait(), return_exceptions=True)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()  # its guard removes what is left
        await process.wait()
