"""Where the engine says what happened: into the log first, then to whoever is listening."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core.log import Log
from core.record.errors import SessionError
from core.record.events import Body, Event
from core.record.state import State

RETRY_SECONDS = 2.0


class Journal:
    """The only writer of the log. A write that the disk refuses is tried again for as long as it takes."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.trouble = ""  # why nothing can be written just now, "" when all is well
        self.listeners: list[Callable[[Event], None]] = []
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def state(self) -> State:
        """The State as of the last write. Not to be changed by the reader."""
        return self.log.state

    async def write(self, *bodies: Body) -> None:
        """Append facts as one transaction; returns when they are on disk and were handed to the listeners."""
        async with self._lock:
            while True:
                try:
                    events = self.log.append(bodies)
                    break
                except SessionError as error:
                    self.trouble = error.what
                    await asyncio.sleep(RETRY_SECONDS)
            self.trouble = ""
            for event in events:
                for listener in self.listeners:
                    listener(event)
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def changed(self) -> None:
        """Wait for the next write."""
        await self._changed.wait()
