"""A pane of finished text: made anew for each width, scrolled from the top."""

from __future__ import annotations

from collections.abc import Callable

from rich.style import Style
from textual import events
from textual.strip import Strip

from core.views import clean
from tui.model import Model
from tui.text import Part, strip_of, wrap
from tui.widgets.canvas import Pane

Lines = list[list[Part]]


class Page(Pane):
    """Shows what `make(width)` gives: lines of parts."""

    def __init__(self, model: Model, name: str, make: Callable[[int], Lines], *, id: str | None = None) -> None:
        super().__init__(model, id=id)
        self.NAME = name
        self._make = make
        self._top = 0
        self._length = 0

    def body(self, width: int, height: int) -> list[Strip]:
        lines = self._make(width)
        self._length = len(lines)
        self._top = max(0, min(self._top, len(lines) - height))
        fill = self.look["text"]
        return [strip_of(parts, width, fill) for parts in lines[self._top : self._top + height]]

    def foot(self) -> list[Part]:
        rest = self._length - self._top - max(0, self.size.height - 2 * self.framed)
        return [(f"{rest} more lines", self.look["dim"])] if rest > 0 else []

    def move(self, rows: int) -> None:
        self._top = max(0, self._top + rows)
        self.flush()

    def home(self) -> None:
        self._top = 0
        self.flush()

    def end(self) -> None:
        self._top = self._length
        self.flush()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.move(-3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.move(3)


def paragraphs(text: str, width: int, style: Style, indent: int = 0) -> Lines:
    """Text of any origin, cleaned and wrapped, its own line ends kept."""
    out: Lines = []
    for line in clean(text.expandtabs(4)).strip("\n").split("\n"):
        out += [[(" " * indent + piece, style)] for piece in wrap(line, width - indent)]
    return out
