"""Keys in the order in which they were typed, to a screen's commands or to the line in which a person writes."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual import events
from textual.await_complete import AwaitComplete
from textual.binding import BindingType
from textual.screen import Screen, ScreenResultType
from textual.widgets import Input

from tui.paint.delta import TightCompositor

MOUNT_SECONDS = 5.0  # a screen that takes longer to appear loses the keys that were typed meanwhile


class Once(Screen[ScreenResultType]):
    """A screen that is left once: of two clicks, or a click and a key, the second would take the screen behind it."""

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        if self.app.screen is not self or len(self.app.screen_stack) == 1:
            return AwaitComplete()
        return super().dismiss(result)


class KeyScreen(Once[ScreenResultType]):
    """A screen that is handed every key and paste by the app, and is done with it when `take` returns."""

    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self) -> None:
        super().__init__()
        self._compositor = TightCompositor()

    async def take(self, event: events.Key | events.Paste) -> None:
        """Do what the key means here, now."""
        if not self.is_mounted:  # typed while the screen was being built
            try:
                await asyncio.wait_for(self._mounted_event.wait(), MOUNT_SECONDS)
            except TimeoutError:
                return
        line = self.line()
        if isinstance(event, events.Paste):
            if line is not None:
                line._on_paste(event)
        elif await self.app._check_bindings(event.key, priority=True):
            return
        elif line is not None:
            await self.write(line, event)
        else:
            await self.command(event)

    def line(self) -> Input | None:
        """Where a person writes just now, if anywhere."""
        raise NotImplementedError

    async def command(self, event: events.Key) -> None:
        """A key while nobody writes."""
        raise NotImplementedError

    async def write(self, line: Input, event: events.Key) -> None:
        """A key for the line: a sign to insert, or one of the keys that edit (left, backspace, …)."""
        if event.is_printable:
            await line._on_key(event)
        else:
            await self.app._check_bindings(event.key)
