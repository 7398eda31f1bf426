"""A list of experiments to move in: only the lines in view are painted; enter opens the one under the cursor."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from rich.segment import Segment
from textual import events
from textual.message import Message
from textual.strip import Strip

from tui.model import Model
from tui.text import Part, strip_of
from tui.widgets.canvas import Pane

Make = Callable[[], list[int]]
Paint = Callable[[int, int], list[Part]]  # place in the list, width -> parts


class Listing(Pane):
    """`make()` gives the experiments in order; `line(place, width)` paints one; `of()` says what both depend on."""

    class Moved(Message):
        def __init__(self, experiment: int | None, opened: bool = False) -> None:
            super().__init__()
            self.experiment, self.opened = experiment, opened

    def __init__(
        self, model: Model, name: str, make: Make, line: Paint, of: Callable[[], Hashable], empty: str
    ) -> None:
        super().__init__(model)
        self.NAME = name
        self._make, self._paint_line, self._of, self._empty = make, line, of, empty
        self._made: Hashable = None
        self.order: list[int] = []
        self.cursor: int | None = None
        self._top = 0

    def poll(self) -> None:
        of = self._of()
        if of == self._made:
            return
        self._made = of
        self.order = self._make()
        if self.cursor not in self.order:
            self.cursor = self.order[0] if self.order else None

    def tells(self) -> Hashable:
        return self._made, self.cursor, self._top, tuple(self.model.marks)

    def foot(self) -> list[Part]:
        if self.cursor is None:
            return []
        return [(f"{self.order.index(self.cursor) + 1:,} of {len(self.order):,}", self.look["dim"])]

    def body(self, width: int, height: int) -> list[Strip]:
        look = self.look
        if not self.order:
            return [strip_of([("  " + self._empty, look["dim"])], width, look["text"])]
        self._top = max(0, min(self._top, len(self.order) - height))
        lines = []
        for place in range(self._top, min(len(self.order), self._top + height)):
            number = self.order[place]
            mark: Part = (look.glyph("mark") if number in self.model.marks else " ", look["accent"])
            strip = strip_of([mark, *self._paint_line(place, width - 1)], width, look["text"])
            if number == self.cursor:
                over = look.overlay("cursor" if self.has_focus else "cursor_idle")
                strip = Strip(Segment.apply_style(strip._segments, post_style=over), width)
            lines.append(strip)
        return lines

    def choose(self, experiment: int) -> None:
        if experiment not in self.order:
            return
        self.cursor = experiment
        place = self.order.index(experiment)
        rows = max(1, self.size.height - 2 * self.framed)
        self._top = min(self._top, place) if place < self._top + rows else place - rows + 1
        self.post_message(self.Moved(experiment))
        self.flush()

    def move(self, rows: int) -> None:
        if self.order:
            at = self.order.index(self.cursor) if self.cursor in self.order else 0
            self.choose(self.order[max(0, min(len(self.order) - 1, at + rows))])

    def home(self) -> None:
        if self.order:
            self.choose(self.order[0])

    def end(self) -> None:
        if self.order:
            self.choose(self.order[-1])

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self._top = max(0, self._top - 3)
        self.flush()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self._top += 3
        self.flush()

    def on_click(self, event: events.Click) -> None:
        place = event.y - self.framed + self._top
        if 0 <= event.y - self.framed < self.size.height - 2 * self.framed and place < len(self.order):
            self.choose(self.order[place])
            if event.chain == 2:
                self.post_message(self.Moved(self.order[place], opened=True))
