"""A pane of finished text: made anew for each width, scrolled from the top."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from rich.style import Style
from textual import events
from textual.strip import Strip

from core.views import clean
from tui.paint.canvas import Pane
from tui.paint.cells import Part, strip_of, wrap
from tui.session_view import SessionView

Lines = list[list[Part]]


class Page(Pane):
    """Shows what `make(width)` gives: lines of parts.

    `of`, when given, says what the lines depend on beside the width: they are made again when that has changed. A page
    without it is made for every painting.
    """

    def __init__(
        self,
        model: SessionView,
        name: str,
        make: Callable[[int], Lines],
        *,
        of: Callable[[], Hashable] | None = None,
        id: str | None = None,
    ) -> None:
        super().__init__(model, id=id)
        self.NAME = name
        self._make = make
        self._of = of
        self._made: tuple[Hashable, Lines] | None = None
        self._top = 0
        self._length = 0

    @property
    def top(self) -> int:
        """The first line that is seen."""
        return self._top

    def _lines_for(self, width: int) -> Lines:
        if self._of is None:
            return self._make(width)
        key = (width, self._of())
        if self._made is None or self._made[0] != key:
            self._made = key, self._make(width)
        return self._made[1]

    def body(self, width: int, height: int) -> list[Strip]:
        lines = self._lines_for(width)
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

    def show(self, line: int) -> None:
        """Scroll no further than it takes to see `line`."""
        rows = max(1, self.size.height - 2 * self.framed)
        self._top = min(self._top, line) if line < self._top + rows else line - rows + 1
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
