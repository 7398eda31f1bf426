"""Panes of experiments in rows with a cursor; only the rows in view are painted."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from rich.segment import Segment
from textual import events
from textual.message import Message
from textual.strip import Strip

from tui.paint.canvas import Pane
from tui.paint.cells import Part, strip_of
from tui.session_view import SessionView
from tui.widgets.leaderboard.rows import Listed, Rows

Make = Callable[[], list[int]]
Paint = Callable[[int, int], list[Part]]  # place in the list, width -> parts


class RowsPane(Pane):
    """A row for each experiment of `order`, below HEAD lines; a subclass keeps the cursor, an experiment."""

    HEAD = 0

    def __init__(self, view: SessionView, *, id: str | None = None) -> None:
        super().__init__(view, id=id)
        self.order: Rows = Listed()
        self._top = 0

    @property
    def cursor(self) -> int | None:
        raise NotImplementedError

    def foot(self) -> list[Part]:
        place = self._place
        return [] if place is None else [(f"{place + 1:,} of {len(self.order):,}", self.look["dim"])]

    @property
    def _place(self) -> int | None:
        """The cursor's row."""
        return None if self.cursor is None else self.order.place(self.cursor)

    def move(self, rows: int) -> None:
        if not self.order:
            return
        place = self._place
        place = self._top if place is None else place + rows
        self.choose(self.order[max(0, min(len(self.order) - 1, place))])

    def choose(self, experiment: int) -> None:
        """Put the cursor on an experiment."""
        raise NotImplementedError

    def reveal(self, place: int) -> None:
        """Scroll until a row is in view."""
        rows = max(1, self.body_rows - self.HEAD)
        self._top = min(self._top, place) if place < self._top + rows else place - rows + 1

    def place_at(self, y: int) -> int | None:
        """The row on line `y` of the pane, or None."""
        line = y - self.framed - self.HEAD
        inside = 0 <= line < self.body_rows - self.HEAD
        return self._top + line if inside and self._top + line < len(self.order) else None

    def under_cursor(self, row: Strip, width: int) -> Strip:
        over = self.look.overlay("cursor" if self.has_focus else "cursor_idle")
        return Strip(Segment.apply_style(row._segments, post_style=over), width)

    def page(self, pages: int) -> None:
        self.move(pages * max(1, self.size.height - 3 - self.HEAD))

    def home(self) -> None:
        if self.order:
            self.choose(self.order[0])

    def end(self) -> None:
        if self.order:
            self.choose(self.order[-1])

    def wheel(self, rows: int) -> None:
        """Scroll, and leave the cursor where it is."""
        self._top = max(0, self._top + rows)
        self.flush()


class Listing(RowsPane):
    """`make()` gives the experiments in order, `line(place, width)` a row; `of()` gives all that both depend on."""

    @dataclass
    class Moved(Message):
        experiment: int | None
        opened: bool = False

    cursor: int | None = None

    def __init__(
        self, view: SessionView, name: str, make: Make, line: Paint, of: Callable[[], Hashable], empty: str
    ) -> None:
        super().__init__(view)
        self.NAME = name
        self._make, self._paint_line, self._of, self._empty = make, line, of, empty
        self._made: Hashable = None

    def poll(self) -> None:
        of = self._of()
        if of == self._made:
            return
        self._made = of
        self.order = Listed(self._make())
        if self._place is None:
            self.cursor = self.order[0] if self.order else None

    def paint_key(self) -> Hashable:
        return self._made, self.cursor, self._top, tuple(self.view.marks)

    def body(self, width: int, height: int) -> list[Strip]:
        look = self.look
        if not self.order:
            return [strip_of([("  " + self._empty, look["dim"])], width, look["text"])]
        self._top = max(0, min(self._top, len(self.order) - height))
        lines = []
        for place in range(self._top, min(len(self.order), self._top + height)):
            number = self.order[place]
            mark: Part = (look.glyph("mark") if number in self.view.marks else " ", look["accent"])
            strip = strip_of([mark, *self._paint_line(place, width - 1)], width, look["text"])
            lines.append(self.under_cursor(strip, width) if number == self.cursor else strip)
        return lines

    def choose(self, experiment: int) -> None:
        place = self.order.place(experiment)
        if place is not None:
            self.cursor = experiment
            self.reveal(place)
            self.post_message(self.Moved(experiment))
            self.flush()

    def on_click(self, event: events.Click) -> None:
        place = self.place_at(event.y)
        if place is not None:
            self.choose(self.order[place])
            if event.chain == 2:
                self.post_message(self.Moved(self.order[place], opened=True))
