"""The engine process: takes the session, connects its parts, runs the loop, and logs the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from functools import partial
from pathlib import Path

from core import invocation
from core.clock import now
from core.engine.commands.certification import CertificationCommands
from core.engine.commands.dispatch import dispatch
from core.engine.commands.guidance import GuidanceCommands
from core.engine.commands.lifecycle_commands import LifecycleCommands
from core.engine.commands.queue_commands import QueueCommands
from core.engine.commands.setting_changes import SettingChanges
from core.engine.ending import Ending, SessionEnding
from core.engine.experiment import Experiments
from core.engine.journal import Journal
from core.engine.lifecycle import Lifecycle
from core.engine.loop import Loop
from core.engine.proposing.brief import Briefing
from core.engine.proposing.lookahead import Lookahead
from core.engine.proposing.proposer import Proposer
from core.engine.proposing.reapplication import Reapplication
from core.engine.runs.card_watch import CardWatch
from core.engine.runs.run import Runs
from core.engine.runs.slots import Slots
from core.engine.runs.workplace import Workplace
from core.engine.server import SocketServer
from core.engine.session_settings import SessionSettings
from core.engine.startup.failed_start import clear_earlier, clear_failed_start
from core.engine.startup.preparation import prepare_session
from core.engine.startup.program_file import ProgramFile
from core.engine.startup.recovery import recover
from core.engine.startup.setup import Start, open_log, prepare
from core.engine.verdict import Judge
from core.lab.device import Devices
from core.record import events as e
from core.record.errors import AutoresearchError, GitError, SessionError
from core.record.pulse import Pulse
from core.session.chain import HEAD_REF
from core.session.lock import hold
from core.session.log import Log, is_blank
from core.session.options import EngineOptions
from core.session.paths import SessionPaths

PULSE_SECONDS = 1.0
BRANCH_SECONDS = 3.0  # between two tries to move a branch that the user has checked out
MAX_CLOSE_SECONDS = 20.0  # that an ending engine waits for space on the disk
MAX_LOG_BYTES = 5_000_000  # of engine.log, before it is moved to engine.log.1


def serve(project: Path, session: str, options: EngineOptions, ready: int) -> int:
    """Run one session's engine to its end. The starter waits for one JSON line on the descriptor `ready`."""
    gc.set_threshold(50_000, 10, 10)  # ten thousand experiments stay: to go through them again and again is in vain
    paths = SessionPaths(project.resolve(), session)
    new = not paths.folder.exists()
    try:
        with hold(paths):
            try:
                _forget_blank(paths)
                found = prepare(paths, options)
                log = open_log(found)
            except BaseException:
                if new and not _begun(paths):
                    _leave_nothing(paths)
                raise
            _stdio_to(paths.engine_log)
            return asyncio.run(_serve(found, log, ready))
    except OSError as fault:
        traceback.print_exc()
        error: AutoresearchError = SessionError(
            f"the session could not be opened ({str(fault.strerror or fault).lower()})",
            where=str(fault.filename or paths.folder),
            hint="check the free space (df -h) and the permissions there",
        )
    except AutoresearchError as refusal:
        error = refusal
    return _refuse(ready, error)


def _forget_blank(paths: SessionPaths) -> None:
    """Remove a log without events: an engine was killed while it created it."""
    if is_blank(paths.database):
        for end in ("", "-wal", "-shm"):
            paths.database.with_name(f"session.db{end}").unlink(missing_ok=True)


def _begun(paths: SessionPaths) -> bool:
    """Whether the session's log holds its beginning."""
    try:
        with contextlib.closing(Log.read(paths.database)) as log:
            return log.last_seq() > 0
    except (SessionError, sqlite3.Error):
        return False


def _leave_nothing(paths: SessionPaths) -> None:
    """Remove what a refused start has created."""
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
    """Redirect output to the engine's log: the starter's pipe is no longer read."""
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def say(text: str) -> None:
    """A line in engine.log."""
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, file=sys.stderr, flush=True)


async def _serve(found: Start, log: Log, ready: int) -> int:
    return await _Engine(found, log).run(ready)


def _resume_call(paths: SessionPaths) -> str:
    return invocation.call("resume", "--session", paths.name, project=paths.project)


class _Engine:
    """The parts of one engine, made and connected. To be made within a running event loop."""

    def __init__(self, found: Start, log: Log) -> None:
        setup = self.setup = found.setup
        journal = self.journal = Journal(log)
        settings = self.settings = SessionSettings(setup.paths, journal, found.program, found.options, found.researcher)
        common = (setup, settings, journal)  # to all parts
        slots = Slots(settings.slots)
        lifecycle = self.lifecycle = Lifecycle(journal, slots)
        self.place = Workplace(setup, settings, lifecycle.pause)
        slots.queue = lambda: journal.state.queue
        slots.on_left = lambda: setup.locks.keep_only((*slots.names, *slots.held))
        watch = self.cards = CardWatch(setup.sandbox.tier, journal, slots, lifecycle.pause, _resume_call(setup.paths))
        watch.resume = lifecycle.resume
        runs = self.runs = Runs(*common, slots, self.place, watch)
        judge = self.judge = Judge(*common)
        program_file = ProgramFile(*common)
        proposer = self.proposer = Proposer(*common, Briefing(*common, self.place))
        experiments = Experiments(*common, lifecycle, runs, judge, Reapplication(*common, judge, proposer))
        lookahead = Lookahead(*common, lifecycle, judge, proposer, program_file, slots)
        loop = self.loop = Loop(*common, lifecycle, runs, judge, experiments, lookahead)
        self.certification = CertificationCommands(*common, lifecycle, runs, loop)
        changes = SettingChanges(*common, lifecycle, slots, lookahead)
        guidance = GuidanceCommands(*common, lifecycle, judge, experiments, proposer, lookahead, program_file, loop)
        control = LifecycleCommands(*common, lifecycle, runs, lookahead, changes, loop)
        queue = QueueCommands(*common, lifecycle, loop)
        handlers = {**control.handlers, **guidance.handlers, **changes.handlers, **queue.handlers}
        handlers |= self.certification.handlers
        answer = partial(dispatch, journal, handlers)
        self.server = SocketServer(setup.paths.name, journal, answer, setup.paths.socket)
        self.devices = Devices()
        self._noted = 0  # verdicts in the log when its head was written down in git

    async def run(self, ready: int) -> int:
        await self.server.start()
        self._signals()
        self.setup.repo.retry_when_full = True  # until now a full disk was a refusal
        self.setup.repo.reuse_worktrees(self.setup.paths.worktrees)
        _answer(ready, {"ok": True, "pid": os.getpid()})
        say(f"engine {os.getpid()} serves {self.setup.paths.name} with {self.settings.researcher.name}")
        tasks = [asyncio.create_task(self._tick())]
        try:
            await recover(self.setup, self.journal, self.judge)
            await asyncio.to_thread(clear_earlier, self.setup.repo, self.setup.paths)
            if await asyncio.to_thread(self.setup.repo.has_text, self.setup.paths.name, HEAD_REF):
                await self._note_head(always=True)  # it may be that of an earlier session of this name
            tasks.append(asyncio.create_task(self._follow_branch()))
            ending = await self.loop.run(self._prepare)
        except AutoresearchError as error:
            ending = Ending("crashed", str(error))
        except Exception as error:
            traceback.print_exc()
            ending = Ending("crashed", f"a fault of the engine's own: {error!r}; see {self.setup.paths.engine_log}")
        finally:
            for task in tasks:
                task.cancel()
            self.cards.close()
        return await self._close(ending)

    async def _prepare(self) -> bool:
        """Everything before the first task. False when the session has ended meanwhile."""
        ended = self.lifecycle.ended.done
        if not await prepare_session(self.setup, self.settings, self.journal, self.place, ended):
            return False
        await self.lifecycle.resume()
        await self.certification.begin_only_task()
        return True

    async def _close(self, ending: SessionEnding) -> int:
        state, reason = ending.kind, ending.reason
        say(f"{state}: {reason}")
        self.setup.repo.retry_when_full = False
        try:
            async with asyncio.timeout(MAX_CLOSE_SECONDS):
                await self._catch_up()
                stopped = e.EngineStopped("" if state == "crashed" else reason)
                await self.journal.write(e.StateChanged(state, reason), stopped)
        except (TimeoutError, AutoresearchError) as error:
            # The next engine finds the session unfinished, and continues it.
            say(f"the end could not be logged: {self.journal.trouble or error}")
        await self.server.close(reason)
        with contextlib.suppress(Exception):
            await self.settings.researcher.close()
        await self.place.template.close()
        await self._note_head(always=not self.journal.state.failed_start)
        await asyncio.to_thread(self.setup.repo.reuse_worktrees, None)
        await asyncio.to_thread(self.setup.repo.prune, self.setup.paths.worktrees)
        with contextlib.suppress(AutoresearchError, OSError):  # else the next engine does it
            await asyncio.to_thread(clear_failed_start, self.setup.repo, self.setup.paths, self.journal.state)
        self.journal.log.close()
        return 1 if state == "crashed" else 0

    def _signals(self) -> None:
        """A hang-up does not end an engine; SIGTERM (a shutdown) and SIGINT end the session, and kill what runs."""
        running = asyncio.get_running_loop()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for ending in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(ending, self.lifecycle.end_now, "the system asked the engine to end")

    async def _tick(self) -> None:
        """Once a second: readings for the clients, and a check of the budget."""
        while True:
            if self.server.watched:
                self.server.pulse(await self._pulse())
            await self.loop.watch_budget()
            await asyncio.sleep(PULSE_SECONDS)

    async def _follow_branch(self) -> None:
        while True:
            await asyncio.sleep(BRANCH_SECONDS)
            await self._catch_up()
            await self._note_head()

    async def _catch_up(self) -> None:
        """Move a branch that the user had checked out, now or at a later try."""
        if self.journal.state.branch_held:
            with contextlib.suppress(GitError):
                await self.judge.follow()

    async def _note_head(self, *, always: bool = False) -> None:
        """Write the log's head down in git after new verdicts, or `always`: a log that is cut off afterwards shows."""
        judged = sum(self.journal.state.verdicts.values())
        head = self.journal.log.chain_head()
        if head and (always or judged != self._noted):
            self._noted = judged
            with contextlib.suppress(AutoresearchError):
                await asyncio.to_thread(self.setup.repo.keep_text, self.setup.paths.name, HEAD_REF, f"{head}\n")

    async def _pulse(self) -> Pulse:
        thoughts = list(self.proposer.thoughts.values())
        thought = thoughts[0] if thoughts else None
        return Pulse(
            time=now(),
            slots=self.runs.readings(),
            devices=await asyncio.to_thread(self.devices.read, self.settings.slots),
            thinking=thought.experiment if thought else None,
            thinking_seconds=now() - thought.started if thought else 0.0,
            waiting=thought.stream.waiting if thought else "",
            thoughts=tuple(thought.experiment for thought in thoughts),
            thought_seconds=tuple(now() - thought.started for thought in thoughts),
            trouble=self.journal.trouble or self.setup.repo.waits_for_space,
        )
