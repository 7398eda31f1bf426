"""The engine's side of the template: starts it, lends it to one scoring at a time, and does without where it fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.lab.harness_command import end, keep, keep_off
from core.lab.shim.clocks.off_clock import OffClock
from core.lab.shim.proctree import descendants

MODULES = ("torch", "safetensors.torch")  # slow to load, and used by each model
VARIABLE = "AUTORESEARCH_TEMPLATE"
START_SECONDS = 120.0
FREE_SECONDS = 20.0  # until nothing of a scoring is left
MAX_STARTS = 2
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONUSERBASE", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
# Threads that a library starts when it is loaded would not live on in a fork.
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_ROOT = Path(__file__).resolve().parents[3]
_CODE = """
import sys; sys.path.append(sys.argv.pop(1)); from core.lab.template.template import main; exec(main(), globals())
"""
_MAX_WORDS = 300
REFUSED = "forks cannot enter the sandbox here; score.log has the reason"


@dataclass(frozen=True, slots=True)
class Loan:
    """What a scorer gets: a descriptor of the socket for its orders, the variable that tells of it; and the processes
    that work for it beside its own.
    """

    descriptor: int
    variable: str
    tree: Callable[[], list[int]]


class TemplateLender:
    """One template, started when it is first wanted. It is lent to one scoring at a time; another does without.

    It ends with `close`, and with the engine.
    """

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._errors: asyncio.Future[bytes] | None = None
        self._link: socket.socket | None = None
        self._first = 0  # the template's own process, below its keeper
        self._starts, self.free_seconds = 0, FREE_SECONDS
        self._lent = self._given_up = False
        self._words: list[str] = []

    def told(self) -> list[str]:
        """What a person should know, once."""
        words, self._words = self._words, []
        return words

    @contextlib.asynccontextmanager
    async def lent(
        self, python: str, env: Mapping[str, str], sandbox: Mapping[str, Any], off_clock: OffClock
    ) -> AsyncIterator[Loan | None]:
        """The loan of one scoring; None where there is none. `sandbox`: `core.lab.sandbox.tiers.entry`. `off_clock`
        keeps the start of the template from the processors of runs on their clock.
        """
        if self._lent or self._given_up:
            yield None
            return
        self._lent = True
        try:
            link = await self._lend(python, env, off_clock)
            if link is None:
                yield None
                return
            with link:
                variable = json.dumps({"socket": link.fileno(), "sandbox": sandbox})
                yield Loan(link.fileno(), variable, self._tree)
        finally:
            try:
                await self._take_back()
            finally:
                self._lent = False

    async def close(self) -> None:
        """End the template."""
        self._given_up = True
        await self._end()

    def _tree(self) -> list[int]:
        """The template's forks. It computes nothing itself while it is lent."""
        if self._process is None or self._process.returncode is not None:
            return []
        return [pid for pid in descendants(self._process.pid) if pid != self._first]

    async def _lend(self, python: str, env: Mapping[str, str], off_clock: OffClock) -> socket.socket | None:
        if self._process is not None and self._process.returncode is not None:
            await self._failed("ended by itself")
        while self._process is None and not self._given_up:
            if trouble := await self._start(python, env, off_clock):
                await self._failed(trouble)
        if self._link is None:
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                socket.send_fds(self._link, [b"l"], [theirs.fileno()])
            except OSError as error:
                ours.close()
                await self._failed(f"takes no orders: {error.strerror}")
                return None
        return ours

    async def _take_back(self) -> None:
        """Wait until nothing of the scoring is left in it."""
        if self._link is None:
            return
        try:
            async with asyncio.timeout(self.free_seconds):
                answer = await asyncio.get_running_loop().sock_recv(self._link, 64)
        except TimeoutError:
            return await self._failed(f"was not free {self.free_seconds:g} s after a scoring")
        except OSError as error:
            return await self._failed(f"was lost: {error.strerror}")
        except BaseException:
            if self._process is not None and self._process.returncode is None:
                self._process.terminate()  # its keeper ends all of it
            raise
        if not answer:
            return await self._failed("ended by itself")
        if answer == b"refused":
            await self._give_up(REFUSED)
        return None

    async def _start(self, python: str, env: Mapping[str, str], off_clock: OffClock) -> str:
        """Start the template; returns why it does not start."""
        self._starts += 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        given = {name: env[name] for name in _PASSED if name in env}
        given |= {**_ONE_THREAD, "OMP_WAIT_POLICY": "PASSIVE"}
        with theirs:
            argv = [python, "-P", "-B", "-c", _CODE, str(_ROOT), str(theirs.fileno()), *MODULES]
            try:
                process = await asyncio.create_subprocess_exec(
                    *keep(argv), cwd="/", env=given, stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, start_new_session=True,
                    pass_fds=(theirs.fileno(),),
                )  # fmt: skip
            except OSError as error:
                ours.close()
                return f"cannot be started: {error.strerror}"
        assert process.stderr is not None
        ours.setblocking(False)
        self._process, self._link = process, ours
        self._errors = asyncio.ensure_future(process.stderr.read())
        keeping = asyncio.create_task(keep_off(off_clock, process, kept=True))
        try:
            async with asyncio.timeout(START_SECONDS):
                answer = await asyncio.get_running_loop().sock_recv(ours, 64)
        except TimeoutError:
            return f"was not ready after {START_SECONDS:g} s"
        except OSError as error:
            return f"was lost: {error.strerror}"
        except BaseException:
            process.terminate()
            raise
        finally:
            keeping.cancel()
            off_clock.release(lambda: descendants(process.pid))
            off_clock.group = None
        if not answer:
            return "ended while it was loaded"
        self._first = descendants(process.pid)[0]
        return ""

    async def _failed(self, what: str) -> None:
        """End it after a fault. It is started again once; then scorings do without it."""
        errors = await self._end()
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        what = f"{what}{': ' if last else ''}{''.join(last).strip()[:_MAX_WORDS]}"
        if self._starts >= MAX_STARTS:
            return await self._give_up(what)
        self._words.append(f"the process that models are forked from for scoring {what}: another is started")
        return None

    async def _give_up(self, what: str) -> None:
        await self._end()
        self._given_up = True
        self._words.append(f"the process that models are forked from for scoring is not used any more, it {what}"
                           if what != REFUSED else f"models are not forked for scoring: {what}")  # fmt: skip

    async def _end(self) -> bytes:
        """End the process with all that it started; returns the end of what it said."""
        process, errors, self._process = self._process, self._errors, None
        if self._link is not None:
            self._link.close()
            self._link = None
        if process is None or errors is None:
            return b""
        await end(process, errors, kept=True)
        return errors.result() if errors.done() and not errors.cancelled() and errors.exception() is None else b""


def orders(loan: Loan | None) -> tuple[dict[str, str], tuple[int, ...]]:
    """(variables, descriptors) that a scorer gets with a loan."""
    if loan is None:
        return {}, ()
    os.set_inheritable(loan.descriptor, True)
    return {VARIABLE: loan.variable}, (loan.descriptor,)
