"""Commands that the harness runs to their end: preparation, checks and the scorer.

Each runs in a process group of its own; its output is cleaned and bounded. At its time limit, or when it is cancelled,
its whole process tree is killed. Of a command that is kept (`core/lab/shim/group/keeper.py`) nothing survives, whatever
it did to its parents and its session; it also ends with the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.lab.sandbox.delegation import delegation
from core.lab.shim.clocks.off_clock import OffClock
from core.lab.shim.daemonize import bare_python
from core.lab.shim.group.cgroup import ControlGroup
from core.lab.shim.output import Cleaner, OutputLog
from core.lab.shim.proctree import descendants, sigkill
from core.program.printed_fault import with_fault

DRAIN_SECONDS = 0.5  # for output after the command's own end
_LOOK_SECONDS = 0.05  # between two looks at the clocks of other runs, on average
_MAX_TAIL_LINES = 40
MAX_TAIL = 4096  # characters
_MAX_LINE_BYTES = 1 << 20
_KEEPER_SECONDS = 15.0  # for a keeper to end all that is left of its command


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """End of a command. `last`: the last non-empty line of standard output, whole; `tail`: the end of both streams."""

    exit_code: int
    seconds: float
    last: str
    tail: str
    timed_out: bool

    @property
    def failure(self) -> str:
        """How it ended, with the reason that it printed."""
        code = self.exit_code
        end = f"ended with code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
        return with_fault(end, self.tail, by_signal=code < 0)

    def excerpt(self, lines: int) -> str:
        """The last lines of the tail, each after a line break, for an error message."""
        return "".join(f"\n{line}" for line in self.tail.splitlines()[-lines:])


async def run_command(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    seconds: float | None = None,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    off_clock: OffClock | None = None,
    kept: bool = False,
    pass_fds: Sequence[int] = (),
    beside: Callable[[], list[int]] = list,
    look: Callable[[list[int]], object] | None = None,
) -> CommandResult:
    """Run `argv` to its end, within `seconds` (None: no limit). Cancelling kills its whole tree. `off_clock` keeps it
    from the processors of runs on their clock.

    Both streams go to `log` as they come; `on_line` receives each line. `kept`: it has a keeper, and may make control
    groups. `beside`: other processes that work for it. `look` is shown its processes some times a second, in another
    thread. Raises OSError when it cannot be started.
    """
    begun = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(keep(argv, inner=True) if kept else argv),
        cwd=cwd, env=dict(env), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, start_new_session=True, pass_fds=tuple(pass_fds),
    )  # fmt: skip
    assert process.stdout and process.stderr
    sink = OutputLog(str(log)) if log else None
    out, both = _Lines(sink, on_line), _Lines(None, None)
    timed_out = False
    keeping = asyncio.create_task(keep_off(off_clock, process, kept=kept, beside=beside, look=look))
    pumps = asyncio.gather(_pump(process.stdout, out, both), _pump(process.stderr, _Lines(sink, on_line), both))
    try:
        async with asyncio.timeout(seconds):
            await _finish(process, pumps)
    except TimeoutError:
        timed_out = True
    finally:
        keeping.cancel()
        exit_code = await end(process, pumps, kept=kept)
        if sink:
            sink.close()
    taken, last, tail = time.monotonic() - begun, "".join(out.kept[-1:]), "\n".join(both.kept)[-MAX_TAIL:]
    return CommandResult(exit_code=exit_code, seconds=taken, last=last, tail=tail, timed_out=timed_out)


class _Lines:
    """Splits a stream into clean lines; keeps the last few."""

    def __init__(self, sink: OutputLog | None, on_line: Callable[[str], None] | None) -> None:
        self._cleaner, self._carry = Cleaner(), b""
        self._sink, self._on_line = sink, on_line
        self.kept: list[str] = []

    def feed(self, data: bytes, *, final: bool = False) -> None:
        text = self._cleaner.feed(data, final=final)
        if self._sink:
            self._sink.write(text)
        *lines, self._carry = (self._carry + text).split(b"\n")
        if final or len(self._carry) > _MAX_LINE_BYTES:
            lines.append(self._carry)
            self._carry = b""
        for raw in lines:
            if line := raw.decode("utf-8", "replace").rstrip():
                self.kept.append(line)
                if self._on_line:
                    self._on_line(line)
        del self.kept[:-_MAX_TAIL_LINES]


async def _pump(stream: asyncio.StreamReader, *sinks: _Lines) -> None:
    while data := await stream.read(65536):
        for sink in sinks:
            sink.feed(data)
    for sink in sinks:
        sink.feed(b"", final=True)


async def _finish(process: asyncio.subprocess.Process, pumps: asyncio.Future[Any]) -> None:
    """Wait for the end of the output, but not for a child left behind that holds the pipe open."""
    while not pumps.done():
        await asyncio.wait({pumps}, timeout=DRAIN_SECONDS)
        if process.returncode is not None and not pumps.done():
            await asyncio.wait({pumps}, timeout=DRAIN_SECONDS)
            return
    await process.wait()


async def keep_off(
    off_clock: OffClock | None,
    process: asyncio.subprocess.Process,
    *,
    kept: bool = False,
    beside: Callable[[], list[int]] = list,
    look: Callable[[list[int]], object] | None = None,
) -> None:
    """Keep a command's tree, and what is `beside` it, from the processors of runs on their clock, until cancelled."""
    own = [] if kept else [process.pid]  # a keeper is never stopped: it ends the rest when the engine dies

    def tree() -> list[int]:
        return [*own, *descendants(process.pid), *beside()]

    while off_clock is not None and process.returncode is None:
        if kept and off_clock.group is None:
            groups = (ControlGroup.of(delegation().base, pid) for pid in descendants(process.pid))
            off_clock.group = next(filter(None, groups), None)
        await asyncio.to_thread(off_clock.tick, tree)
        if look is not None:
            await asyncio.to_thread(look, tree())
        if off_clock.trouble:
            process.terminate() if kept else _kill(process)
            return
        await asyncio.sleep(_LOOK_SECONDS * (0.5 + random.random()))


def keep(argv: Sequence[str], *, inner: bool = False) -> list[str]:
    """The command that runs `argv` with a keeper. `inner`: it may make control groups of its own.

    Raises OSError when its program is not there, as a start without a keeper does.
    """
    if shutil.which(argv[0]) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
    start = [*bare_python("core.lab.shim.group.keeper"), str(os.getpid()), delegation().base, "inner" if inner else ""]
    return [*start, *argv]


async def end(process: asyncio.subprocess.Process, pumps: asyncio.Future[Any], *, kept: bool = False) -> int:
    """Kill a command with all that it started, and read its last output for a short time. Returns the exit code."""
    if kept and process.returncode is None:
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            process.terminate()
            await asyncio.wait_for(process.wait(), _KEEPER_SECONDS)
    _kill(process)
    return await _collect(process, pumps)


def _kill(process: asyncio.subprocess.Process) -> None:
    """SIGKILL a command's process group and all its descendants, whatever group or session they are in."""
    family = descendants(process.pid) if process.returncode is None else []
    for pid in (-process.pid, *family):
        sigkill(pid)


async def _collect(process: asyncio.subprocess.Process, pumps: asyncio.Future[Any]) -> int:
    await asyncio.wait({pumps}, timeout=DRAIN_SECONDS)
    pumps.cancel()
    with contextlib.suppress(asyncio.CancelledError, OSError):
        await pumps
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), 5)
    return process.returncode if process.returncode is not None else -signal.SIGKILL
