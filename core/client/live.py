"""Asynchronous client of the app: State, readings and connection, kept current"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

from core.record import commands, wire
from core.record.errors import AutoresearchError, EngineError, SessionError
from core.record.events import Event
from core.record.fold import fold
from core.record.pulse import Pulse
from core.record.state import State
from core.session.lock import engine_alive
from core.session.log import Log
from core.session.paths import SessionPaths

HEARTBEAT_TIMEOUT = 15.0  # seconds without a message from the engine
ANSWER_TIMEOUT = 10.0  # seconds
BACKOFF = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds between attempts to connect
MAX_EVENTS = 1000  # kept for `take_events`
MAX_LINE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Connection:
    """`connecting`, `live`, `lost` (an engine is there but silent: retrying) or `dead` (no engine)."""

    status: Literal["connecting", "live", "lost", "dead"]
    since: float
    retry_at: float | None = None
    message: str = ""


class Client:
    """A session as seen from outside. Use it on the event loop's thread only.

    `state` is folded in place; `version` grows with each change. `run()` reads the log, connects, follows, and
    reconnects with back-off until it is cancelled; a session without an engine stays readable.
    """

    def __init__(self, paths: SessionPaths) -> None:
        self.paths = paths
        self.state = State()
        self.pulse: Pulse | None = None
        self.connection = Connection("connecting", time.time())
        self.version = 0
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._log: Log | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._replies: dict[int, asyncio.Future[commands.Reply]] = {}
        self._next_request = 1

    def load(self) -> None:
        """Read the State from the log. Raises SessionError (no log yet, corrupt, too new)."""
        if self._log is None:
            self._log = Log.read(self.paths.database)
        self.state = self._log.load()
        self.version += 1

    async def run(self) -> None:
        """Follow the session until cancelled. Raises LogCorrupt or LogTooNew."""
        attempt = 0
        try:
            while True:
                if self._log is None and not self.paths.database.exists():
                    await self._wait("connecting", "waiting for the session to begin", 0.1)
                    continue
                if self._log is None:
                    self.load()
                self._catch_up()
                if not engine_alive(self.paths):
                    attempt = 0
                    self.pulse = None
                    await self._wait("dead", "no engine runs this session", 0.5)
                    continue
                message = await self._converse()
                attempt = attempt + 1 if self.connection.status != "live" else 0
                if engine_alive(self.paths):
                    await self._wait("lost", message, BACKOFF[min(attempt, len(BACKOFF) - 1)])
        finally:
            if self._log:
                self._log.close()
                self._log = None

    async def _wait(self, status: Literal["connecting", "lost", "dead"], message: str, seconds: float) -> None:
        if self.connection.status != status or self.connection.message != message or status == "lost":
            since = self.connection.since if self.connection.status == status else time.time()
            retry = time.time() + seconds if status == "lost" else None
            self._connection(Connection(status, since, retry, message))
        await asyncio.sleep(seconds)

    def _connection(self, connection: Connection) -> None:
        self.connection = connection
        self.version += 1

    def _catch_up(self) -> None:
        """Apply the events of the log that State does not have; very many are read as a projection instead."""
        assert self._log is not None
        try:
            if self._log.last_seq() - self.state.seq > 20_000:
                self.load()
                return
            self._read_on()
        except SessionError:
            raise
        except Exception as error:  # sqlite's: the file was replaced, or the disk has a fault
            raise SessionError(f"the log could not be read ({error})", where=str(self.paths.database)) from error

    def _apply(self, event: Event) -> None:
        if event.seq <= self.state.seq:
            return
        if event.seq != self.state.seq + 1:
            self._read_on()
            return
        self._fold(event)

    def _read_on(self) -> None:
        assert self._log is not None
        for event in self._log.events(self.state.seq):
            self._fold(event)

    def _fold(self, event: Event) -> None:
        fold(self.state, event)
        self._events.append(event)
        self.version += 1

    async def _converse(self) -> str:
        """One connection, until it ends. Returns the reason."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.paths.socket), limit=MAX_LINE_BYTES)
        except OSError as error:
            return f"the engine does not answer ({error.strerror or error})"
        self._writer = writer
        try:
            writer.write(wire.encode_message(wire.Hello(wire.PROTOCOL, self.state.seq, "screen")))
            while True:
                line = await asyncio.wait_for(reader.readline(), HEARTBEAT_TIMEOUT)
                if not line:
                    return "the engine closed the connection"
                ended = self._receive(wire.decode_message(line))
                if ended is not None:
                    return ended
        except TimeoutError:
            return f"no message from the engine for {HEARTBEAT_TIMEOUT:g} s"
        except (OSError, ValueError) as error:
            return f"the connection broke ({error})"
        finally:
            self._writer = None
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()
            for future in self._replies.values():
                if not future.done():
                    future.set_exception(EngineError("the connection to the engine broke before it answered"))
            self._replies.clear()

    def _receive(self, message: wire.Message) -> str | None:
        if isinstance(message, Event):
            self._apply(message)
        elif isinstance(message, Pulse):
            self.pulse = message
            self.version += 1
        elif isinstance(message, wire.Response):
            future = self._replies.pop(message.id, None)
            if future and not future.done():
                future.set_result(message.reply)
        elif isinstance(message, wire.Resync):
            self._catch_up()
        elif isinstance(message, wire.CaughtUp):
            self._connection(Connection("live", time.time()))
        elif isinstance(message, wire.Goodbye):
            self._connection(replace(self.connection, message=message.reason))
            return message.reason
        return None

    async def send(self, command: commands.Command) -> commands.Reply:
        """Send a request. Raises EngineError when there is no engine, or none answers in time."""
        if self._writer is None:
            raise EngineError("no engine runs this session", hint="resume it first")
        number = self._next_request
        self._next_request += 1
        future: asyncio.Future[commands.Reply] = asyncio.get_running_loop().create_future()
        self._replies[number] = future
        try:
            self._writer.write(wire.encode_message(wire.Request(number, command)))
            return await asyncio.wait_for(future, ANSWER_TIMEOUT)
        except TimeoutError as error:
            raise EngineError(f"the engine did not answer within {ANSWER_TIMEOUT:g} s") from error
        finally:
            self._replies.pop(number, None)

    def take_events(self) -> list[Event]:
        """New events since the last call, oldest first; at most the last MAX_EVENTS."""
        events = list(self._events)
        self._events.clear()
        return events

    def events_of(self, experiment: int) -> list[Event]:
        """One experiment's events from the log; empty before there is a log."""
        try:
            log = self._log or Log.read(self.paths.database)
        except AutoresearchError:
            return []
        try:
            return list(log.events_of(experiment))
        finally:
            if log is not self._log:
                log.close()
