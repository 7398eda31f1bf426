"""The journal: each event goes to the log first, and then to the listeners."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from core.record.errors import LogCorrupt, SessionError
from core.record.events import Body, Event
from core.record.state import State
from core.session.chain import TRAILER
from core.session.disk import disk_trouble
from core.session.log import Log

RETRY_SECONDS = 2.0


class Journal:
    """The only writer of the log. A write that the disk refuses is repeated until it succeeds.

    A write also waits while the disk is nearly full. As every step is logged before it is taken, no step begins that
    would leave git or a run's log without space.
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.trouble = ""  # why nothing can be written at present, or ""
        self.listeners: list[Callable[[Event], None]] = []
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def state(self) -> State:
        """The State as of the last write. Not to be changed by the reader."""
        return self.log.state

    async def write(self, *bodies: Body) -> None:
        """Append facts as one transaction; returns when they are on disk and were handed to the listeners.

        Raises LogCorrupt when the log's file is broken, which waiting does not repair.
        """
        async with self._lock:
            while trouble := disk_trouble(self.log.path.parent):
                self.trouble = trouble
                await asyncio.sleep(RETRY_SECONDS)
            while True:
                try:
                    events = self.log.append(bodies)
                    break
                except LogCorrupt:
                    raise
                except SessionError as error:
                    self.trouble = error.what
                    await asyncio.sleep(RETRY_SECONDS)
            self.trouble = ""
            for event in events:
                for listener in self.listeners:
                    listener(event)
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def trailer(self) -> str:
        """The line of a commit's message that names the log's head: the log's past cannot be changed without it."""
        return f"{TRAILER}: {self.log.chain_head()}"

    def held_up(self) -> str:
        """Why a write would have to wait at present, or ""."""
        return self.trouble or disk_trouble(self.log.path.parent)

    def changed(self) -> Coroutine[Any, Any, bool]:
        """Wait for the first write after this call."""
        return self._changed.wait()
