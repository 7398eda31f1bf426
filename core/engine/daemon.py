"""The engine process: takes the session, says it is ready, runs the loop, and leaves the log in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from pathlib import Path

import psutil

from core.clock import now
from core.engine.commands.dispatch import Control
from core.engine.journal import Journal
from core.engine.loop import Loop
from core.engine.server import Server
from core.engine.session_settings import SessionSettings
from core.engine.startup import recovery, setup
from core.engine.startup.setup import Start
from core.lab.device import Devices
from core.record import events as e
from core.record.errors import AutoresearchError, GitError, SessionError
from core.record.pulse import Pulse
from core.session.lock import hold
from core.session.log import Log, is_blank
from core.session.options import EngineOptions
from core.session.paths import SessionPaths

PULSE_SECONDS = 1.0
BRANCH_SECONDS = 3.0  # between two looks at whether the user has let go of the session's branch
LAST_WORD_SECONDS = 20.0  # that an ending engine waits for room on the disk
LOG_LIMIT = 5_000_000  # bytes of engine.log kept from earlier engines


def serve(project: Path, session: str, options: EngineOptions, ready: int) -> int:
    """Run one session's engine to its end. `ready` is the descriptor on which the starter waits for one JSON line."""
    paths = SessionPaths(project.resolve(), session)
    new = not paths.folder.exists()
    try:
        with hold(paths):
            try:
                _forget_blank(paths)
                found = setup.prepare(paths, options)
                log = setup.open_log(found)
            except BaseException:
                if new and not _begun(paths):
                    _leave_nothing(paths)
                raise
            _stdio_to(paths.engine_log)
            return asyncio.run(_Engine(found, log).run(ready))
    except OSError as fault:
        traceback.print_exc()
        error: AutoresearchError = SessionError(
            f"the session could not be opened ({str(fault.strerror or fault).lower()})",
            where=str(fault.filename or paths.folder),
            hint="look at the free space (df -h) and at who may write there",
        )
    except AutoresearchError as refusal:
        error = refusal
    return _refuse(ready, error)


def _forget_blank(paths: SessionPaths) -> None:
    """Remove a log in which nothing was ever written: an engine was killed while it made it."""
    if is_blank(paths.database):
        for end in ("", "-wal", "-shm"):
            paths.database.with_name(f"session.db{end}").unlink(missing_ok=True)


def _begun(paths: SessionPaths) -> bool:
    """Whether the session's log holds its beginning."""
    try:
        log = Log.read(paths.database)
    except SessionError:
        return False
    try:
        return log.last_seq() > 0
    except sqlite3.Error:
        return False
    finally:
        log.close()


def _leave_nothing(paths: SessionPaths) -> None:
    """Take away what a refused start has made."""
    shutil.rmtree(paths.folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        paths.folder.parent.rmdir()  # only when it is empty


def _refuse(ready: int, error: AutoresearchError) -> int:
    answer = {"ok": False, "kind": type(error).__name__, "what": error.what, "where": error.where}
    _answer(ready, {**answer, "hint": error.hint, "pid": getattr(error, "pid", None)})
    return error.exit_code


def _answer(ready: int, value: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        os.write(ready, json.dumps(value).encode())
        os.close(ready)


def _stdio_to(path: Path) -> None:
    """From here on what the engine prints goes to its log: nobody reads the starter's pipe any more."""
    if path.exists() and path.stat().st_size > LOG_LIMIT:
        path.replace(path.with_suffix(".log.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def say(text: str) -> None:
    """A line in engine.log."""
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, file=sys.stderr, flush=True)


class _Engine:
    def __init__(self, found: Start, log: Log) -> None:
        self.setup = found.setup
        self.journal = Journal(log)
        self.settings = SessionSettings(found.setup.paths, self.journal, found.program, found.options, found.researcher)
        self.devices = Devices()
        self.process = psutil.Process()

    async def run(self, ready: int) -> int:
        loop = Loop(self.setup, self.settings, self.journal)
        self.loop = loop
        self.server = Server(self.setup.paths.name, self.journal, Control(loop).handle, self.setup.paths.socket)
        await self.server.start()
        self._signals(loop)
        self.setup.repo.patient = True  # until now a full disk was a refusal
        _answer(ready, {"ok": True, "pid": os.getpid()})
        say(f"engine {os.getpid()} serves {self.setup.paths.name} with {self.settings.researcher.name}")
        ticker, follower = asyncio.create_task(self._tick()), None
        try:
            await recovery.recover(loop)
            follower = asyncio.create_task(self._follow_branch())
            state, reason = await loop.run()
        except AutoresearchError as error:
            state, reason = "crashed", str(error)
        except Exception as error:
            traceback.print_exc()
            state, reason = "crashed", f"a fault of the engine's own: {error!r}; see {self.setup.paths.engine_log}"
        finally:
            ticker.cancel()
            if follower is not None:
                follower.cancel()
        return await self._close(state, reason)

    async def _close(self, state: e.SessionState, reason: str) -> int:
        say(f"{state}: {reason}")
        self.setup.repo.patient = False
        try:
            async with asyncio.timeout(LAST_WORD_SECONDS):
                await self._catch_up()
                await self.journal.write(
                    e.StateChanged(state, reason), e.EngineStopped("" if state == "crashed" else reason)
                )
        except (TimeoutError, AutoresearchError) as error:
            # The next engine finds a session left in the middle, and goes on with it.
            say(f"the end could not be logged: {self.journal.trouble or error}")
        await self.server.close(reason)
        with contextlib.suppress(Exception):
            await self.settings.researcher.close()
        await asyncio.to_thread(self.setup.repo.prune, self.setup.paths.worktrees)
        self.journal.log.close()
        return 1 if state == "crashed" else 0

    def _signals(self, loop: Loop) -> None:
        """A hang-up is nothing to an engine; SIGTERM (a shutdown) ends it in order, killing what runs."""
        running = asyncio.get_running_loop()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

        def terminate() -> None:
            loop.stopping = loop.stopping or "the system asked the engine to end"
            loop.end("stopped", loop.stopping)

        running.add_signal_handler(signal.SIGTERM, terminate)
        running.add_signal_handler(signal.SIGINT, terminate)

    async def _tick(self) -> None:
        """Once a second: readings for whoever watches, and a look at the clock's budget."""
        while True:
            if self.server.watched:
                self.server.pulse(await self._pulse())
            await self.loop.budget_watch()
            await asyncio.sleep(PULSE_SECONDS)

    async def _follow_branch(self) -> None:
        while True:
            await asyncio.sleep(BRANCH_SECONDS)
            await self._catch_up()

    async def _catch_up(self) -> None:
        """Move a branch that the user had checked out, now or at a later try."""
        if self.journal.state.branch_held:
            with contextlib.suppress(GitError):
                await self.loop.judge.follow()

    async def _pulse(self) -> Pulse:
        thought = self.loop.thinker.now
        return Pulse(
            time=now(),
            slots=self.loop.runs.readings(),
            devices=await asyncio.to_thread(self.devices.read),
            thinking=thought.experiment if thought else None,
            thinking_seconds=now() - thought.started if thought else 0.0,
            waiting=thought.stream.waiting if thought else "",
            engine_memory=self.process.memory_info().rss,
            trouble=self.journal.trouble,
        )
