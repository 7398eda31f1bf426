"""The base of every pane: it paints lines, and only the cells that changed travel to the terminal.

Textual repaints the whole region of a dirty widget. A Canvas keeps the lines it showed last, compares, and marks
only the changed spans dirty; that is what keeps a screen of streams inside a slow link.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui.paint.cells import Part, cut_parts, parts_width, strip_of
from tui.paint.theme import Look

if TYPE_CHECKING:
    from tui.session_view import SessionView


STALE = Style(dim=True)


class Canvas(Widget):
    """Paints `paint(width, height)`. Call `flush()` when what it shows may have changed."""

    ALLOW_SELECT = False
    DIMS = True  # what it shows grows stale when the engine is lost
    DEFAULT_CSS = "Canvas { height: 1fr; width: 1fr; }"
    model: SessionView

    def __init__(self, model: SessionView, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.model = model
        self._lines: list[Strip] = []
        self._told_last: Hashable = None

    @property
    def look(self) -> Look:
        return self.model.look

    def paint(self, width: int, height: int) -> list[Strip]:
        """The lines to show, each `width` cells; missing ones are blank."""
        raise NotImplementedError

    def tells(self) -> Hashable:
        """What it shows depends on beside size and focus; when equal, painting again gives the same. None: unknown.

        Chart, board and diff change with the log and not with the second: without this, half of an idle app's time.
        """
        return None

    def flush_if_told(self) -> None:
        """`flush`, unless nothing that is shown here has changed since the last time."""
        told = self.tells()
        if told is None:
            self.flush()
            return
        seen = (told, self.size, self.has_focus, self.model.connection.status)
        if seen != self._told_last:
            self.flush()
            self._told_last = seen

    def flush(self) -> None:
        """Paint again and mark the spans that differ. Costs no bytes when nothing changed."""
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

    def forget(self) -> None:
        """What is shown was painted with another look: paint all of it again."""
        self._lines, self._told_last = [], None
        self.refresh()

    def _painted(self, width: int, height: int) -> list[Strip]:
        lines = self.paint(width, height)[:height]
        if self.DIMS and self.model.connection.status == "lost":
            lines = [line.apply_style(STALE) for line in lines]
        blank = Strip([Segment(" " * width, self.look["text"])], width)
        return lines + [blank] * (height - len(lines))

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        if len(self._lines) != height or (self._lines and self._lines[0].cell_length != width):
            self._lines = self._painted(width, height)
        return self._lines[y] if y < len(self._lines) else Strip.blank(width)

    def on_resize(self, event: events.Resize) -> None:
        self._lines = []
        self.refresh()


def changed_span(before: Strip, after: Strip) -> tuple[int, int] | None:
    """The cells [x1, x2) in which two lines of equal width differ, or None."""
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
    """Cells that two lists of segments share from their beginning, counted in whole segments."""
    cells = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        cells += one.cell_length
    return cells


def joined(cells: list[Part]) -> list[Part]:
    """Neighbouring cells of one style as one part: fewer escape sequences on the wire."""
    out: list[Part] = []
    run: list[str] = []
    style: Style | None = None
    for text, own in cells:
        if own is not style and run and style is not None:
            out.append(("".join(run), style))
            run = []
        run.append(text)
        style = own
    if run and style is not None:
        out.append(("".join(run), style))
    return out


class Pane(Canvas, can_focus=True):
    """A Canvas with a frame of its own, a number to jump to it, titles on both sides, and a note at its foot.

    Without a frame (`framed` False: one pane fills a small screen) the whole area is the body.
    """

    NUMBER = 0
    NAME = ""

    def __init__(self, model: SessionView, *, id: str | None = None) -> None:
        super().__init__(model, id=id)
        self.framed = True

    def poll(self) -> None:
        """Take in what is new; painting comes after."""

    def revision(self) -> int:
        """Grows when `poll` took something in that the session's State does not tell."""
        return 0

    def move(self, rows: int) -> None:
        """Scroll by lines, positive downwards. A pane that shows all it has stays where it is."""

    def page(self, pages: int) -> None:
        self.move(pages * max(1, self.size.height - 3))

    def home(self) -> None:
        """To the first line."""

    def end(self) -> None:
        """To the last line."""

    def heading(self) -> list[Part]:
        """What stands in the frame on the left, after the pane's number and name."""
        return []

    def aside(self) -> list[Part]:
        """What stands in the frame on the right."""
        return []

    def foot(self) -> list[Part]:
        """What stands in the lower frame on the right: "37 new  G"."""
        return []

    def body(self, width: int, height: int) -> list[Strip]:
        raise NotImplementedError

    def paint(self, width: int, height: int) -> list[Strip]:
        look = self.look
        if not self.framed:
            foot = self.foot()
            lines = self.body(width, height)[:height]
            if foot and lines:
                blank = Strip([Segment(" " * width, look["text"])], width)
                lines += [blank] * (height - len(lines))
                lines[-1] = self._with_foot(lines[-1], foot, width)
            return lines
        if width < 8 or height < 3:
            return []
        frame = look["frame_focus"] if self.has_focus else look["frame"]
        top = self._edge(self._titles(), self.aside(), width, frame, look.glyph("tl"), look.glyph("tr"))
        inner = width - 4
        body = self.body(inner, height - 2)[: height - 2]
        blank = Strip([Segment(" " * inner, look["text"])], inner)
        body += [blank] * (height - 2 - len(body))
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
        """A horizontal frame line with titles in it; the left title gives way when both do not fit."""
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
        """The frame tells where the focus is: at once, since a session at rest is not painted again of itself."""
        super().watch_has_focus(has_focus)
        self.flush()
