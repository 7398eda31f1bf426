"""A pane that follows text which grows at its end: wrapped once, bounded, anchored to the end until scrolled away."""

from __future__ import annotations

from textual import events
from textual.strip import Strip

from core.views import plural
from tui.paint.canvas import Pane
from tui.paint.cells import Part, fit, strip_of, wrap
from tui.session_view import SessionView

KEPT_ENTRIES = 3000
LONGEST = 8000  # characters of a line in a file that does not end
Entry = tuple[str, str, str]  # mark (of one-cell signs), text, role
Row = tuple[str, str, str, int]  # the same for one line of the screen, and the number of its entry
GROUPED = 6  # names of folded tools that are told


class Tail(Pane):
    """Entries of (mark, text, role). Entries whose role is in `folded` take one line for each group of neighbours."""

    def __init__(self, model: SessionView, *, id: str | None = None, kept: int = KEPT_ENTRIES) -> None:
        super().__init__(model, id=id)
        self.kept = kept
        self._entries: list[Entry] = []
        self._dropped = 0  # entries that are no longer kept: the number of the first one
        self._rows: list[Row] = []
        self._last_rows = 0  # rows that the last entry takes
        self._group: list[str] = []  # texts of the folded group at the end
        self._wrapped_for = 0
        self._away = 0  # rows below the view; 0 follows the end
        self._unseen = 0
        self._revision = 0
        self.filter = ""
        self.wraps = True
        self.folded: frozenset[str] = frozenset()
        self.query_text = ""
        self._found: int | None = None  # the entry that the search stands on

    # -- content ------------------------------------------------------------------------------------------------

    def revision(self) -> int:
        return self._revision

    def clear(self) -> None:
        self._revision += 1
        self._dropped += len(self._entries)
        self._entries, self._rows, self._group = [], [], []
        self._last_rows = self._away = self._unseen = 0
        self._found = None

    def add(self, text: str, role: str = "text", mark: str = "  ") -> None:
        """One more line, complete."""
        self._revision += 1
        self._entries.append((mark, text, role))
        self._put(len(self._entries) - 1)
        self._bound()

    def grow(self, text: str) -> None:
        """Put `text` at the end of the last line."""
        self._revision += 1
        mark, old, role = self._entries[-1]
        self._entries[-1] = (mark, old + text, role)
        if role in self.folded and self._group:
            return  # counted, not shown
        if self._passes(old):
            self._take_back()
        self._put(len(self._entries) - 1)

    def _put(self, index: int) -> None:
        """Append the rows of an entry, or of the folded group that it belongs to."""
        mark, text, role = self._entries[index]
        if not self._passes(text):
            return
        if role in self.folded:
            if self._group and self._rows and self._rows[-1][2] == role:
                self._take_back()
            else:
                self._group = []
            self._group.append(text)
            text = _folded(role, self._group)
        else:
            self._group = []
        rows = self._wrap((mark, text, role), self._dropped + index)
        self._rows += rows
        self._last_rows = len(rows)
        if self._away:
            self._away += len(rows)
            self._unseen += len(rows)

    def _take_back(self) -> None:
        """Remove the rows of the last entry, which is put again."""
        if self._last_rows:
            del self._rows[-self._last_rows :]
            if self._away:
                self._away = max(1, self._away - self._last_rows)
                self._unseen = max(0, self._unseen - self._last_rows)
            self._last_rows = 0

    def _passes(self, text: str) -> bool:
        return not self.filter or self.filter.lower() in text.lower()

    def _bound(self) -> None:
        if len(self._entries) > self.kept * 2:
            gone = len(self._entries) - self.kept
            del self._entries[:gone]
            self._dropped += gone
        if len(self._rows) > self.kept * 6:
            del self._rows[: -self.kept * 3]

    def _wrap(self, entry: Entry, number: int) -> list[Row]:
        mark, text, role = entry
        width = self._wrapped_for - len(mark)
        if width <= 4:
            return []
        lines = wrap(text, width) if self.wraps else [fit(text, width, self.look.glyph("ellipsis"))]
        return [(mark if i == 0 else " " * len(mark), line, role, number) for i, line in enumerate(lines)]

    def _rewrap(self, width: int) -> None:
        """All of it for another width, with the same line at the lower edge."""
        edge = self._rows[-self._away - 1][3] if self._away and self._away < len(self._rows) else None
        unseen = self._unseen
        self._wrapped_for = width
        self._rows, self._group = [], []
        self._last_rows = self._away = self._unseen = 0
        for index in range(max(0, len(self._entries) - self.kept), len(self._entries)):
            self._put(index)
        if edge is not None:
            self._away = sum(row[3] > edge for row in self._rows)
            self._unseen = min(unseen, self._away)

    def set_filter(self, text: str) -> None:
        self.filter = text
        self._away = 0
        self._rewrap(self._wrapped_for)
        self.flush()

    def set_wraps(self, wraps: bool) -> None:
        self.wraps = wraps
        self._rewrap(self._wrapped_for)
        self.flush()

    def set_folded(self, roles: frozenset[str]) -> None:
        self.folded = roles
        self._rewrap(self._wrapped_for)
        self.flush()

    # -- search -------------------------------------------------------------------------------------------------

    def set_query(self, text: str) -> None:
        """Look for `text`, and show the newest line that has it."""
        self.query_text = text
        self._found = None
        self.next_match(-1)

    def matches(self) -> list[int]:
        """Numbers of the entries that have what is looked for."""
        wanted = self.query_text.lower()
        if not wanted:
            return []
        return [self._dropped + i for i, (_, text, _) in enumerate(self._entries) if wanted in text.lower()]

    def next_match(self, step: int) -> bool:
        """Show the next (1) or the one before (-1), round the end; whether there is one."""
        found = self.matches()
        if not found:
            self._found = None
            self.flush()
            return False
        if self._found is None:
            self._found = found[-1] if step < 0 else found[0]
        else:
            later = [n for n in found if n > self._found]
            earlier = [n for n in found if n < self._found]
            self._found = (later or found)[0] if step > 0 else (earlier or found)[-1]
        self._reveal(self._found)
        return True

    def _reveal(self, number: int) -> None:
        """Scroll so that an entry stands in the middle."""
        height = max(1, self.size.height - 2 * self.framed)
        place = next((i for i, row in enumerate(self._rows) if row[3] == number), None)
        if place is not None:
            self._away = max(0, min(len(self._rows) - height, len(self._rows) - place - 1 - height // 2))
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
        return [self._line(row, width) for row in self._rows[max(0, end - height) : end]]

    def _line(self, row: Row, width: int) -> Strip:
        mark, text, role, number = row
        look = self.look
        parts: list[Part] = [(mark, look["tool"])]
        wanted = self.query_text.lower()
        if not wanted or wanted not in text.lower():
            return strip_of([*parts, (text, look[role])], width, look["text"])
        hit = look[role] + look.overlay("cursor") + look.overlay("warn")
        here = hit + look.overlay("bright") if number == self._found else hit
        at, low = 0, text.lower()
        while (place := low.find(wanted, at)) >= 0 and len(low) == len(text):
            parts += [(text[at:place], look[role]), (text[place : place + len(wanted)], here)]
            at = place + len(wanted)
        return strip_of([*parts, (text[at:], look[role])], width, look["text"])

    def foot(self) -> list[Part]:
        parts: list[Part] = []
        if self.filter:
            parts.append((f"/{self.filter} ", self.look["warn"]))
        if self.query_text:
            found = self.matches()
            place = found.index(self._found) + 1 if self._found in found else 0
            words = f"{place} of {len(found):,}" if found else "nowhere"
            parts.append((f"/{self.query_text} {words} ", self.look["warn"]))
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


def last_state(line: str) -> str:
    """What a terminal would show of a line at last: a progress bar overwrites itself."""
    return line.rstrip("\r").rpartition("\r")[2]


def _folded(role: str, texts: list[str]) -> str:
    """A group of neighbours in one line."""
    if role == "tool":
        names = list(dict.fromkeys(text.split(" ", 1)[0] for text in texts))
        more = f" and {len(names) - GROUPED} more" if len(names) > GROUPED else ""
        return f"{plural(len(texts), 'tool')}: {', '.join(names[:GROUPED])}{more}"
    lines = sum(bool(text.strip()) for text in texts)
    return f"… {plural(lines, 'line')} of thinking"
