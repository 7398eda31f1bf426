"""Choice of the leaderboard's columns"""

from __future__ import annotations

from collections.abc import Callable

from textual import events

from tui.paint.cells import left
from tui.screens.dialogs import Card
from tui.session_view import SessionView
from tui.widgets.leaderboard.columns import COLUMNS, DEFAULT_NAMES, NAMES
from tui.widgets.page import Lines


class ColumnsCard(Card[None]):
    """Ticks take effect at once, and stay however the card is closed."""

    TITLE_TEXT = "columns of the leaderboard"
    WIDTH = 72
    SCROLLS = False  # up and down move the cursor

    def __init__(self, view: SessionView, chosen: tuple[str, ...], changed: Callable[[tuple[str, ...]], None]) -> None:
        self.chosen = set(chosen)
        self.at = 0
        self._changed = changed
        super().__init__(view)

    def lines(self, width: int) -> Lines:
        look = self.view.look
        out: Lines = []
        for place, column in enumerate(COLUMNS):
            here, on = place == self.at, column.name in self.chosen
            cursor = (f"{look.glyph('think') if here else ' '} ", look["key"])
            tick = (f"{look.glyph('ok') if on else ' '} ", look["good"])
            name = (left(column.name, 13), look["title_focus" if here else "text" if on else "dim"])
            out.append([cursor, tick, name, (column.about, look["dim"])])
        return [*out, [], [("space ticks   r the default ones   enter done", look["dim"])]]

    def pressed(self, character: str, key: str) -> None:
        step = {"down": 1, "j": 1, "tab": 1, "up": -1, "k": -1, "shift+tab": -1}.get(key)
        if step is not None:
            self.at = (self.at + step) % len(COLUMNS)
            self._page.show(self.at)
        elif key in ("space", "x"):
            self._turn(self.at)
        elif key == "r":
            self.chosen = set(DEFAULT_NAMES)
            self._tell()
        elif key in ("enter", "escape", "q", "w"):
            self.dismiss(None)

    def on_click(self, event: events.Click) -> None:
        row = event.screen_y - self._page.region.y - 1 + self._page.top
        if event.widget is self._page and 0 <= row < len(COLUMNS):
            self.at = row
            self._turn(row)

    def _turn(self, place: int) -> None:
        self.chosen ^= {COLUMNS[place].name}
        self._tell()

    def _tell(self) -> None:
        self._changed(tuple(name for name in NAMES if name in self.chosen))
        self._page.flush()
