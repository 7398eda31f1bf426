"""Lifecycle of a session under one engine: running, paused, about to end, ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from core.engine.ending import Ending, SessionEnding
from core.engine.journal import Journal
from core.engine.runs.slots import Slots
from core.record import events as e
from core.record.errors import CommandRefused


class Lifecycle:
    """Takes requests to pause, resume and end from all parts of the engine; the loop carries out the end.

    `ending` is how the session is about to end. "finished": no further experiment begins, and the session ends once
    those that have begun are judged. "stopped": no further run starts, and the session ends once those that run have
    ended; this replaces "finished". `ended` is set when the session has ended.
    """

    def __init__(self, journal: Journal, slots: Slots) -> None:
        self._journal = journal
        self._slots = slots
        self.ending: SessionEnding | None = None
        self.ended: asyncio.Future[SessionEnding] = asyncio.get_running_loop().create_future()
        self._woken = asyncio.Event()
        self.resumed = 0  # how often a person has resumed the session

    @property
    def stopping(self) -> bool:
        return self.ending is not None and self.ending.kind != "finished"

    def refuse_when_stopping(self) -> None:
        """Raises CommandRefused when it is too late to change anything."""
        if self.stopping:
            raise CommandRefused("the session is stopping")

    async def resume(self) -> None:
        self.resumed += 1
        await self._journal.write(e.StateChanged("running"))
        self._slots.open()
        self.wake()

    async def pause(self, reason: str) -> None:
        """Start no further run until a person resumes."""
        self._slots.close()
        if self._journal.state.state not in ("paused", "stopping"):
            await self._journal.write(e.StateChanged("paused", reason))

    def finish(self, reason: str) -> None:
        """Begin no further experiment."""
        self.ending = self.ending or Ending("finished", reason)
        self.wake()

    def reopen(self) -> None:
        """Experiments may begin again: what stood against it has changed."""
        if not self.stopping:
            self.ending = None

    def stop(self, reason: str) -> None:
        """Start no further run."""
        self.ending = Ending("stopped", reason)
        self._slots.drain()

    def end(self, ending: SessionEnding) -> None:
        """End the session now. Of several calls the first counts."""
        if not self.ended.done():
            self._slots.drain()
            self.ended.set_result(ending)
            self.wake()

    def end_now(self, reason: str) -> None:
        """End the session as stopped, whatever is left to do."""
        if self.ending is None or not self.stopping:
            self.ending = Ending("stopped", reason)
        self.end(self.ending)

    def fail(self, error: BaseException) -> None:
        """End the engine with a fault of its own."""
        if not self.ended.done():
            self.ended.set_exception(error)
            self.wake()

    def wake(self) -> None:
        """Let the loop look again at whether to think, and at whether anything is left to do."""
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()

    def woken(self) -> Coroutine[Any, Any, bool]:
        """Wait for the first `wake` after this call (not after the first await of what it returns)."""
        return self._woken.wait()
