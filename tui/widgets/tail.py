"""A pane that follows text which grows at its end: wrapped once, bounded, anchored to the end until scrolled away."""

from __future__ import annotations

from textual import events
from textual.strip import Strip

from tui.model import Model
from tui.text import Part, fit, strip_of, wrap
from tui.widgets.canvas import Pane

KEPT_ENTRIES = 3000
KEPT_ROWS = 9000
Row = tuple[str, str, str]  # mark (of one-cell signs), text, role


class Tail(Pane):
    """Entries of (mark, text, role). `open_end` entries grow: the next text of their kind goes on in the same line."""

    def __init__(self, model: Model, *, id: str | None = None) -> None:
        super().__init__(model, id=id)
        self._entries: list[Row] = []
        self._rows: list[Row] = []
        self._last_rows = 0  # rows that the last entry takes
        self._wrapped_for = 0
        self._away = 0  # rows below the view; 0 follows the end
        self._unseen = 0
        self._revision = 0
        self.filter = ""
        self.wraps = True

    # -- content ------------------------------------------------------------------------------------------------

    def revision(self) -> int:
        return self._revision

    def clear(self) -> None:
        self._revision += 1
        self._entries, self._rows = [], []
        self._last_rows = self._away = self._unseen = 0

    def add(self, text: str, role: str = "text", mark: str = "  ") -> None:
        """One more line, complete."""
        self._revision += 1
        self._entries.append((mark, text, role))
        if self._passes(text):
            rows = self._wrap(self._entries[-1])
            self._rows += rows
            self._last_rows = len(rows)
            if self._away:
                self._away += len(rows)
                self._unseen += len(rows)
        self._bound()

    def grow(self, text: str) -> None:
        """Put `text` at the end of the last line."""
        mark, old, role = self._entries.pop()
        if self._passes(old) and self._last_rows:
            del self._rows[-self._last_rows :]
            if self._away:
                self._away = max(1, self._away - self._last_rows)
                self._unseen = max(0, self._unseen - self._last_rows)
        self.add(old + text, role, mark)

    def _passes(self, text: str) -> bool:
        return not self.filter or self.filter.lower() in text.lower()

    def _bound(self) -> None:
        if len(self._entries) > KEPT_ENTRIES * 2:
            del self._entries[:-KEPT_ENTRIES]
        if len(self._rows) > KEPT_ROWS * 2:
            del self._rows[:-KEPT_ROWS]

    def _wrap(self, entry: Row) -> list[Row]:
        mark, text, role = entry
        width = self._wrapped_for - len(mark)
        if width <= 4:
            return []
        lines = wrap(text, width) if self.wraps else [fit(text, width, self.look.glyph("ellipsis"))]
        return [(mark if i == 0 else " " * len(mark), line, role) for i, line in enumerate(lines)]

    def _rewrap(self, width: int) -> None:
        self._wrapped_for = width
        self._rows = []
        self._last_rows = 0
        for entry in self._entries[-KEPT_ENTRIES:]:
            if self._passes(entry[1]):
                rows = self._wrap(entry)
                self._rows += rows
                self._last_rows = len(rows)
        self._away = self._unseen = 0

    def set_filter(self, text: str) -> None:
        self.filter = text
        self._rewrap(self._wrapped_for)
        self.flush()

    # -- view ---------------------------------------------------------------------------------------------------

    def empty(self) -> str:
        """What to say while there is nothing."""
        return "nothing yet"

    def body(self, width: int, height: int) -> list[Strip]:
        if width != self._wrapped_for:
            self._rewrap(width)
        fill = self.look["text"]
        if not self._rows:
            words = f"nothing matches “{self.filter}”" if self.filter else self.empty()
            return [strip_of([("  " + words, self.look["dim"])], width, fill)]
        self._away = max(0, min(self._away, len(self._rows) - height))
        if not self._away:
            self._unseen = 0
        end = len(self._rows) - self._away
        shown = self._rows[max(0, end - height) : end]
        mark_style = self.look["tool"]
        return [strip_of([(mark, mark_style), (text, self.look[role])], width, fill) for mark, text, role in shown]

    def foot(self) -> list[Part]:
        parts: list[Part] = []
        if self.filter:
            parts.append((f"/{self.filter} ", self.look["warn"]))
        if self._away:
            words = f"{self._unseen} new " if self._unseen else "scrolled "
            parts += [(words, self.look["warn"]), (" G ", self.look["key"])]
        return parts

    # -- movement -----------------------------------------------------------------------------------------------

    def move(self, rows: int) -> None:
        """Scroll by `rows`; positive is towards the end."""
        self._away = max(0, self._away - rows)
        self.flush()

    def home(self) -> None:
        self._away = len(self._rows)
        self.flush()

    def end(self) -> None:
        self._away = self._unseen = 0
        self.flush()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.move(-3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.move(3)
