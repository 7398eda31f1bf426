"""Panes that scroll from the top, and a page of text made for each width."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from rich.style import Style
from textual.strip import Strip

from core.views import clean
from tui.paint.canvas import Pane
from tui.paint.cells import Part, strip_of, wrap
from tui.session_view import SessionView

Lines = list[list[Part]]


class ScrolledPane(Pane):
    """A pane of `_length` lines, shown from line `top` on; a subclass sets `_length` and limits `top` in its body."""

    top = 0
    _length = 0

    def foot(self) -> list[Part]:
        rest = self._length - self.top - max(0, self.size.height - 2 * self.framed)
        return [(f"{rest} more lines", self.look["dim"])] if rest > 0 else []

    def move(self, rows: int) -> None:
        self.top = max(0, self.top + rows)
        self.flush()

    def home(self) -> None:
        self.top = 0
        self.flush()

    def end(self) -> None:
        self.top = self._length
        self.flush()


class Page(ScrolledPane):
    """The lines of `make(width)`, made when `of()` or the width has changed; without `of`, for every painting."""

    def __init__(
        self, view: SessionView, name: str, make: Callable[[int], Lines], *, of: Callable[[], Hashable] | None = None
    ) -> None:
        super().__init__(view)
        self.NAME, self._make, self._of = name, make, of
        self._made: tuple[Hashable, Lines] | None = None

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
        self.top = max(0, min(self.top, len(lines) - height))
        fill = self.look["text"]
        return [strip_of(parts, width, fill) for parts in lines[self.top : self.top + height]]

    def show(self, line: int) -> None:
        """Scroll until `line` is in view."""
        rows = self.body_rows
        self.top = min(self.top, line) if line < self.top + rows else line - rows + 1
        self.flush()


def paragraphs(text: str, width: int, style: Style, indent: int = 0) -> Lines:
    """Untrusted text, cleaned and wrapped, with its own line ends."""
    out: Lines = []
    for line in clean(text.expandtabs(4)).strip("\n").split("\n"):
        out += [[(" " * indent + piece, style)] for piece in wrap(line, width - indent)]
    return out
