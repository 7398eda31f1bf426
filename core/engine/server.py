"""The engine's Unix socket: events out, commands in. The loop never waits for a client."""

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

OUTBOX_LIMIT = 2000  # events a slow client may lag behind before it is told to read the log
TAIL_LIMIT = 5000  # events sent on connecting; a client further behind reads the log
LINE_LIMIT = 32 * 1024 * 1024  # a request may carry a person's edits of whole files

Handler = Callable[[Command], Awaitable[Reply]]


def bind(path: Path) -> socket.socket:
    """A listening socket at `path`. Only the holder of the session's lock may call this: it replaces what is there.

    Bound by hand, since asyncio would silently steal the socket of a living engine. Raises EngineError.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        listener.close()
        raise EngineError(f"the engine's socket could not be made ({error})", where=str(path)) from error
    listener.setblocking(False)
    return listener


class Server:
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
        self._server = await asyncio.start_unix_server(self._serve, sock=self._listener, limit=LINE_LIMIT)

    def _event(self, event: Event) -> None:
        for client in self._clients:
            client.event(event)

    def pulse(self, pulse: Pulse) -> None:
        """Hand the newest readings to every client; one that has not been sent yet is replaced."""
        for client in self._clients:
            client.pulse(pulse)

    @property
    def watched(self) -> bool:
        return bool(self._clients)

    async def close(self, reason: str) -> None:
        """Say goodbye, give clients a moment to hear it, and leave no socket behind."""
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
            pass  # a client that left, or that speaks something else: its own affair
        except asyncio.CancelledError:
            pass  # the engine ends; of a handler that is cancelled asyncio would print a traceback into its log
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
        except Exception as fault:  # never a client left without an answer
            traceback.print_exc()
            return Reply(False, f"a fault of the engine's own: {fault!r}; see its engine.log")

    def _greet(self, outbox: _Outbox, hello: wire.Hello) -> None:
        state = self._journal.state
        outbox.message(wire.Welcome(protocol=wire.PROTOCOL, session=self._session, pid=os.getpid(), seq=state.seq))
        if state.seq - hello.since > TAIL_LIMIT:
            outbox.message(wire.Resync(hello.since))
        elif state.seq > hello.since:
            for event in self._journal.log.events(hello.since):
                outbox.message(event)
        outbox.message(wire.CaughtUp(state.seq))


class _Outbox:
    """What one client has yet to be sent. Bounded: overflow drops the events and says from where to read on."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._queue: deque[tuple[bytes, bool]] = deque()  # with: is it an event?
        self._pulse: bytes | None = None
        self._lagging = False  # a Resync waits to be sent: what happens until then is in the log
        self._wake = asyncio.Event()
        self.closing = False

    def message(self, message: wire.Message) -> None:
        self._queue.append((wire.encode_message(message), isinstance(message, Event)))
        self._wake.set()

    def event(self, event: Event) -> None:
        if len(self._queue) < OUTBOX_LIMIT and not self._lagging:
            self.message(event)
        elif not self._lagging:
            self._lagging = True
            self._queue = deque(item for item in self._queue if not item[1])  # answers are never dropped
            self.message(wire.Resync(event.seq))

    def pulse(self, pulse: Pulse) -> None:
        self._pulse = wire.encode_message(pulse)
        self._wake.set()

    def goodbye(self, reason: str) -> None:
        self.message(wire.Goodbye(reason))
        self.closing = True

    async def pump(self) -> None:
        """Send until the client leaves; a slow one is waited for here and nowhere else."""
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
