"""The engine's Unix socket: events out, commands in; no client delays the engine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

from core.engine.journal import Journal
from core.record import wire
from core.record.commands import Command, Reply
from core.record.errors import AutoresearchError, EngineError
from core.record.events import Event
from core.record.pulse import Pulse

MAX_OUTBOX_EVENTS = 2000  # a client that lags further behind reads the log
MAX_TAIL_EVENTS = 5000  # sent on connecting; a client that is further behind reads the log
MAX_LINE_BYTES = 32 * 1024 * 1024  # a request may carry a person's edits of whole files

Handler = Callable[[Command], Awaitable[Reply]]


def bind(path: Path) -> socket.socket:
    """A listening socket at `path`. Only the holder of the session's lock may call this: it replaces what is there.

    asyncio would silently take over the socket of a running engine. Raises EngineError.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        listener.close()
        raise EngineError(f"could not create the engine's socket ({error})", where=str(path)) from error
    listener.setblocking(False)
    return listener


class SocketServer:
    """Serves any number of clients from one journal."""

    def __init__(self, session: str, journal: Journal, handler: Handler, path: Path) -> None:
        self._session = session
        self._journal = journal
        self._handler = handler
        self._path = path
        self._clients: set[_Outbox] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._listener = bind(path)
        self._identity = path.stat().st_ino
        self._server: asyncio.Server | None = None
        journal.listeners.append(self._event)

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, sock=self._listener, limit=MAX_LINE_BYTES)

    def _event(self, event: Event) -> None:
        for client in self._clients:
            client.event(event)

    def pulse(self, pulse: Pulse) -> None:
        """Queue the newest readings for every client; older ones that were not sent are replaced."""
        for client in self._clients:
            client.pulse(pulse)

    @property
    def watched(self) -> bool:
        return bool(self._clients)

    async def close(self, reason: str) -> None:
        """Send the reason to all clients, wait for them up to a second, and remove the socket."""
        for client in list(self._clients):
            client.goodbye(reason)
        if self._pumps:
            await asyncio.wait(self._pumps, timeout=1.0)
        if self._server:
            self._server.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._identity:  # never a successor's
                self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        outbox = _Outbox(writer)
        pump: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(10):
                hello = wire.decode_message(await reader.readline())
            if not isinstance(hello, wire.Hello) or hello.protocol != wire.PROTOCOL:
                outbox.goodbye(f"this engine speaks protocol {wire.PROTOCOL}: use the same version on both sides")
                await outbox.pump()
                return
            self._greet(outbox, hello)
            self._clients.add(outbox)
            pump = asyncio.create_task(outbox.pump())
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)
            while line := await reader.readline():
                request = wire.decode_message(line)
                if isinstance(request, wire.Request):
                    outbox.message(wire.Response(request.id, await self._answer(request.command)))
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError):
            pass  # a client that left, or that does not speak the protocol
        except asyncio.CancelledError:
            pass  # the engine ends: asyncio would log a traceback for a cancelled handler
        finally:
            self._clients.discard(outbox)
            if pump:
                if not outbox.closing:
                    pump.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await pump
            writer.close()

    async def _answer(self, command: Command) -> Reply:
        try:
            return await self._handler(command)
        except AutoresearchError as refusal:
            return Reply(False, str(refusal))
        except Exception as fault:  # every request is answered
            traceback.print_exc()
            return Reply(False, f"a fault of the engine's own: {fault!r}; see its engine.log")

    def _greet(self, outbox: _Outbox, hello: wire.Hello) -> None:
        state = self._journal.state
        outbox.message(wire.Welcome(protocol=wire.PROTOCOL, session=self._session, pid=os.getpid(), seq=state.seq))
        if state.seq - hello.since > MAX_TAIL_EVENTS:
            outbox.message(wire.Resync(hello.since))
        elif state.seq > hello.since:
            for event in self._journal.log.events(hello.since):
                outbox.message(event)
        outbox.message(wire.CaughtUp(state.seq))


class _Outbox:
    """Messages that one client has not been sent. Bounded: on overflow events are replaced by a Resync to the log."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._queue: deque[tuple[bytes, bool]] = deque()  # and whether it is an event
        self._pulse: bytes | None = None
        self._lagging = False  # a Resync is queued: events until it is sent are in the log
        self._wake = asyncio.Event()
        self.closing = False

    def message(self, message: wire.Message) -> None:
        self._queue.append((wire.encode_message(message), isinstance(message, Event)))
        self._wake.set()

    def event(self, event: Event) -> None:
        if len(self._queue) < MAX_OUTBOX_EVENTS and not self._lagging:
            self.message(event)
        elif not self._lagging:
            self._lagging = True
            self._queue = deque(item for item in self._queue if not item[1])  # responses are never dropped
            self.message(wire.Resync(event.seq))

    def pulse(self, pulse: Pulse) -> None:
        self._pulse = wire.encode_message(pulse)
        self._wake.set()

    def goodbye(self, reason: str) -> None:
        self.message(wire.Goodbye(reason))
        self.closing = True

    async def pump(self) -> None:
        """Send until the client leaves. A slow client is waited for here only."""
        while True:
            while self._queue:
                data, _ = self._queue.popleft()
                if not self._queue:
                    self._lagging = False
                self._writer.write(data)
                await self._writer.drain()
            if self._pulse is not None:
                self._writer.write(self._pulse)
                self._pulse = None
                await self._writer.drain()
            if self.closing and not self._queue:
                return
            if not self._queue and self._pulse is None:
                self._wake.clear()
                await self._wake.wait()
