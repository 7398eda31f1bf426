"""Screens that handle keys in the order typed, as commands or as text of an input line."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual import events
from textual.await_complete import AwaitComplete
from textual.binding import BindingType
from textual.screen import Screen, ScreenResultType
from textual.widgets import Input

from tui.paint.compositor import TightCompositor

MAX_MOUNT_SECONDS = 5.0  # a screen that takes longer to appear loses the keys typed meanwhile


class OnceScreen(Screen[ScreenResultType]):
    """A screen that is dismissed once: a second click or key would otherwise dismiss the screen behind it."""

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        if self.app.screen is not self or len(self.app.screen_stack) == 1:
            return AwaitComplete()
        return super().dismiss(result)


class KeyScreen(OnceScreen[ScreenResultType]):
    """A screen that gets every key and paste from the app; `take` returns when the event has been handled."""

    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self) -> None:
        super().__init__()
        self._compositor = TightCompositor()

    async def take(self, event: events.Key | events.Paste) -> None:
        if not self.is_mounted:  # typed while Textual builds the screen
            try:
                await asyncio.wait_for(self._mounted_event.wait(), MAX_MOUNT_SECONDS)
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
        """The input line that is open, or None."""
        raise NotImplementedError

    async def command(self, event: events.Key) -> None:
        """Handle a key while no input line is open."""
        raise NotImplementedError

    async def write(self, line: Input, event: events.Key) -> None:
        """Handle a key for the line: insert a character, or edit (left, backspace, …)."""
        if event.is_printable:
            await line._on_key(event)
        else:
            await self.app._check_bindings(event.key)
