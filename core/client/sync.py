"""Blocking access to a session for the command line: State, events, one request"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from core import invocation
from core.record import commands, wire
from core.record.errors import EngineError, NoSuchSession
from core.record.events import Event
from core.record.state import State
from core.session.chain import ChainHead
from core.session.disk import read_json
from core.session.lock import engine_alive, lock_holder
from core.session.log import Log
from core.session.paths import SessionPaths

POLL_SECONDS = 0.1


def _open(paths: SessionPaths) -> Log:
    if not paths.database.exists():
        raise NoSuchSession(f"there is no session {paths.name!r}", where=str(paths.project))
    return Log.read(paths.database)


def read_state(paths: SessionPaths) -> State:
    """The session's State from its log; needs no engine. Raises NoSuchSession, LogCorrupt or LogTooNew."""
    log = _open(paths)
    try:
        return log.load()
    finally:
        log.close()


def read_outline(paths: SessionPaths) -> State:
    """The same with those experiments alone that a status shows (`Log.outline`)."""
    log = _open(paths)
    try:
        return log.outline()
    finally:
        log.close()


def read_head(paths: SessionPaths) -> ChainHead | None:
    """The head of the log's chain; None where no version that chains events has appended yet."""
    log = _open(paths)
    try:
        return log.chain_head()
    finally:
        log.close()


def read_events(paths: SessionPaths, *, since: int = 0, experiment: int | None = None) -> list[Event]:
    """Events from the log: those after `since`, or those of one experiment."""
    log = _open(paths)
    try:
        return list(log.events(since) if experiment is None else log.events_of(experiment))
    finally:
        log.close()


def used_budgets(paths: SessionPaths, state: State) -> dict[int, float]:
    """Of each live run with a budget in processor seconds the share that it has used, 0..1, as the process beside it
    wrote it last: about a second ago.
    """
    found: dict[int, float] = {}
    for run in state.live_runs():
        told: dict[str, Any] = read_json(paths.run(run.run) / "status.json")
        seconds, budget = told.get("processor_seconds"), told.get("budget_seconds")
        if seconds is not None and budget:
            found[run.run] = min(1.0, seconds / budget)
    return found


def request(paths: SessionPaths, command: commands.Command, timeout: float = 10.0) -> commands.Reply:
    """Send a request to the engine and wait for its answer. Raises EngineError when no engine answers."""
    if not engine_alive(paths):
        raise EngineError(
            f"session {paths.name!r} has no running engine",
            hint="there is nothing to stop"
            if isinstance(command, commands.Stop)
            else "start it again with: " + invocation.call("run", "--session", paths.name, project=paths.project),
        )
    deadline = time.monotonic() + timeout
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(timeout)
            link.connect(str(paths.socket))
            # With the highest seq the engine sends no history, only the answer.
            link.sendall(wire.encode_message(wire.Hello(wire.PROTOCOL, 2**53, "command")))
            link.sendall(wire.encode_message(wire.Request(1, command)))
            for line in _lines(link):
                message = wire.decode_message(line)
                if isinstance(message, wire.Response) and message.id == 1:
                    return message.reply
                if isinstance(message, wire.Goodbye):
                    raise EngineError(f"the engine refused: {message.reason}")
                if time.monotonic() > deadline:
                    break
    except (OSError, ValueError) as error:
        raise EngineError(
            f"could not connect to the engine ({error})",
            where=str(paths.socket),
            hint="if it was started with another HOME or AUTORESEARCH_HOME, set the same; "
            f"else end it with: kill {lock_holder(paths)}, and resume with: "
            + invocation.call("run", project=paths.project),
        ) from error
    raise EngineError("the engine did not answer", hint=f"read {paths.engine_log}")


def _lines(link: socket.socket) -> Iterator[bytes]:
    data = b""
    while True:
        piece = link.recv(65536)
        if not piece:
            return
        *lines, data = (data + piece).split(b"\n")
        yield from lines


def follow(paths: SessionPaths, since: int = 0, idle: Callable[[], None] | None = None) -> Iterator[Event]:
    """Every event after `since`, waiting for new ones while an engine lives; ends when it is gone.

    Reads the log every POLL_SECONDS, so that all of it is on disk. `idle` is called at each wait.
    """
    log = _open(paths)
    try:
        while True:
            alive = engine_alive(paths)  # before the read, so that the engine's last events are read
            for event in log.events(since):
                since = event.seq
                yield event
            if not alive:
                return
            if idle is not None:
                idle()
            time.sleep(POLL_SECONDS)
    finally:
        log.close()
