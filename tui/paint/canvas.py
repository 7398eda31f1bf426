"""Base widgets: a canvas that sends only changed cells, and a framed pane on it.

Textual repaints the whole region of a dirty widget. A Canvas compares each line with the one painted last and marks
only the changed spans dirty, so that streaming text fits a slow link.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import groupby
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui.paint.cells import Part, cut_parts, filled, parts_width, strip_of
from tui.paint.theme import Look

if TYPE_CHECKING:
    from tui.session_view import SessionView

WHEEL_ROWS = 3  # for each notch of the mouse wheel


class Canvas(Widget):
    """A widget that shows the lines of `paint(width, height)`. Call `flush()` when they may have changed."""

    ALLOW_SELECT = False
    DIMS_WHEN_LOST = True  # its content is out of date while the engine does not answer
    DEFAULT_CSS = "Canvas { height: 1fr; width: 1fr; }"
    view: SessionView

    def __init__(self, view: SessionView, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.view = view
        self._lines: list[Strip] = []
        self._last_key: Hashable = None

    @property
    def look(self) -> Look:
        return self.view.look

    def paint(self, width: int, height: int) -> list[Strip]:
        """The lines to show, each `width` cells wide; missing lines are blank."""
        raise NotImplementedError

    def paint_key(self) -> Hashable:
        """All that the lines depend on beside size, focus and connection: equal keys, equal lines. None: unknown."""
        return None

    def flush_if_changed(self) -> None:
        """`flush`, unless `paint_key`, size, focus and connection are those of the last time."""
        key = self.paint_key()
        if key is None:
            self.flush()
            return
        full_key = (key, self.size, self.has_focus, self.view.connection.status)
        if full_key != self._last_key:
            self.flush()
            self._last_key = full_key

    def flush(self) -> None:
        """Paint again and mark the changed spans. Sends nothing when nothing changed."""
        width, height = self.size
        if not (width and height) or not self.is_attached:
            return
        lines = self._painted(width, height)
        old, self._lines = self._lines, lines
        if len(old) != len(lines):
            self.refresh()
            return
        regions = [
            Region(span[0], y, span[1] - span[0], 1)
            for y, (before, after) in enumerate(zip(old, lines, strict=True))
            if (span := changed_span(before, after))
        ]
        if regions:
            self.refresh(*regions)

    def repaint(self) -> None:
        """Paint everything again, after a change of the look."""
        self._lines, self._last_key = [], None
        self.refresh()

    def _painted(self, width: int, height: int) -> list[Strip]:
        lines = self.paint(width, height)[:height]
        if self.DIMS_WHEN_LOST and self.view.connection.status == "lost":
            lines = [line.apply_style(Style(dim=True)) for line in lines]
        return filled(lines, width, height, self.look["text"])

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        if len(self._lines) != height or (self._lines and self._lines[0].cell_length != width):
            self._lines = self._painted(width, height)
        return self._lines[y] if y < len(self._lines) else Strip.blank(width)

    def on_resize(self, event: events.Resize) -> None:
        self._lines = []
        self.refresh()


def changed_span(before: Strip, after: Strip) -> tuple[int, int] | None:
    """The cells [x1, x2) in which two lines of one width differ; None: they are equal."""
    if before is after:
        return None
    width = after.cell_length
    if before.cell_length != width:
        return 0, width
    start = _common(before._segments, after._segments)
    if start >= width:
        return None
    end = _common(before._segments[::-1], after._segments[::-1])
    return (start, max(start + 1, width - end))


def _common(a: list[Segment], b: list[Segment]) -> int:
    """Number of cells in the equal segments at the start of both lists."""
    cells = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        cells += one.cell_length
    return cells


def joined(cells: list[Part]) -> list[Part]:
    """Adjacent cells of one style as one part: fewer escape sequences."""
    groups = (list(group) for _, group in groupby(cells, key=lambda cell: id(cell[1])))
    return [("".join(text for text, _ in group), group[0][1]) for group in groups]


class Pane(Canvas, can_focus=True):
    """A focusable Canvas with a frame: number, name and titles in the upper edge, a note in the lower edge."""

    NUMBER = 0
    NAME = ""
    framed = True  # False on a small screen: the body takes the whole area

    def poll(self) -> None:
        """Read new data, without painting."""

    def revision(self) -> int:
        """Counter of the changes that `poll` found outside the session's State."""
        return 0

    @property
    def body_rows(self) -> int:
        return max(1, self.size.height - 2 * self.framed)

    def move(self, rows: int) -> None:
        """Scroll by `rows`, positive downwards. A pane that does not scroll ignores it."""

    def wheel(self, rows: int) -> None:
        self.move(rows)

    def page(self, pages: int) -> None:
        self.move(pages * max(1, self.size.height - 3))

    def home(self) -> None:
        """Scroll to the first line."""

    def end(self) -> None:
        """Scroll to the last line."""

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.wheel(-WHEEL_ROWS)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.wheel(WHEEL_ROWS)

    def heading(self) -> list[Part]:
        """Text in the upper edge on the left, after the pane's number and name."""
        return []

    def aside(self) -> list[Part]:
        """Text in the upper edge on the right."""
        return []

    def foot(self) -> list[Part]:
        """Text in the lower edge on the right: "37 new  G"."""
        return []

    def body(self, width: int, height: int) -> list[Strip]:
        raise NotImplementedError

    def paint(self, width: int, height: int) -> list[Strip]:
        look = self.look
        if not self.framed:
            foot = self.foot()
            lines = self.body(width, height)[:height]
            if foot and lines:
                lines = filled(lines, width, height, look["text"])
                lines[-1] = self._with_foot(lines[-1], foot, width)
            return lines
        if width < 8 or height < 3:
            return []
        frame = look["frame_focus"] if self.has_focus else look["frame"]
        top = self._edge(self._titles(), self.aside(), width, frame, look.glyph("tl"), look.glyph("tr"))
        inner = width - 4
        body = filled(self.body(inner, height - 2)[: height - 2], inner, height - 2, look["text"])
        left, right = Segment(look.glyph("v") + " ", frame), Segment(" " + look.glyph("v"), frame)
        middle = [Strip([left, *line._segments, right], width) for line in body]
        return [top, *middle, self._edge([], self.foot(), width, frame, look.glyph("bl"), look.glyph("br"))]

    def _with_foot(self, line: Strip, foot: list[Part], width: int) -> Strip:
        size = parts_width(foot) + 1
        kept = line.crop(0, max(0, width - size))
        return Strip([*kept._segments, Segment(" ", self.look["text"]), *(Segment(t, s) for t, s in foot)], width)

    def _titles(self) -> list[Part]:
        style = self.look["title_focus" if self.has_focus else "title"]
        number: list[Part] = [(f"{self.NUMBER} ", self.look["key" if self.has_focus else "dim"])] if self.NUMBER else []
        return [*number, (self.NAME, style), *self.heading()]

    def _edge(self, titles: list[Part], aside: list[Part], width: int, frame: Style, start: str, end: str) -> Strip:
        """A horizontal edge of the frame with titles in it; the left title is cut when both do not fit."""
        rule = self.look.glyph("h")
        room = width - 4
        if aside and parts_width(aside) + 3 > room:
            aside = []
        tail: list[Part] = [(" ", frame), *aside, (" ", frame)] if aside else []
        head = cut_parts(titles, room - parts_width(tail) - 2, self.look.glyph("ellipsis"))
        head = [(" ", frame), *head, (" ", frame)] if head else []
        gap = room - parts_width(head) - parts_width(tail)
        parts: list[Part] = [(start + rule, frame), *head, (rule * gap, frame), *tail, (rule + end, frame)]
        return strip_of(parts, width, frame)

    def watch_has_focus(self, has_focus: bool) -> None:
        """Paint the frame in its focus style at once: a session at rest is not painted every second."""
        super().watch_has_focus(has_focus)
        self.flush()
