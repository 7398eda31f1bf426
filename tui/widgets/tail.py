"""Panes that follow growing text: wrapped once, bounded, anchored to the end until scrolled away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from textual.strip import Strip

from core.client import FileTail
from core.views import plural
from tui.paint.canvas import Pane
from tui.paint.cells import Part, fit, flat, strip_of, wrap
from tui.session_view import SessionView

MAX_LINE_CHARACTERS = 8000  # a longer line of a file is broken
MAX_TOOL_NAMES = 6  # of a folded group
Entry = tuple[str, str, str]  # mark (one-cell characters), text, role
ScreenRow = tuple[str, str, str, int]  # the same for one line of the screen, and the number of its entry


class Tail(Pane):
    """Entries of (mark, text, role). Adjacent entries of a role in `folded` take one line together."""

    MAX_ENTRIES = 3000  # kept

    def __init__(self, view: SessionView, *, id: str | None = None) -> None:
        super().__init__(view, id=id)
        self._entries: list[Entry] = []
        self._dropped = 0  # number of the first entry that is kept
        self._rows: list[ScreenRow] = []
        self._last_rows = 0  # rows of the last entry
        self._group: list[str] = []  # texts of the folded group at the end
        self._wrapped_for = 0  # width
        self._away = 0  # rows below the view; 0 follows the end
        self._unseen = 0
        self._revision = 0
        self.filter = ""
        self.wraps = True
        self.folded: frozenset[str] = frozenset()
        self.query_text = ""
        self._found: int | None = None  # number of the entry at which the search is

    def revision(self) -> int:
        return self._revision

    def clear(self) -> None:
        self._revision += 1
        self._dropped += len(self._entries)
        self._entries, self._rows, self._group = [], [], []
        self._last_rows = self._away = self._unseen = 0
        self._found = None

    def add(self, text: str, role: str = "text", mark: str = "  ") -> None:
        self._revision += 1
        self._entries.append((mark, text, role))
        self._put(len(self._entries) - 1)
        self._bound()

    def grow(self, text: str) -> None:
        """Append `text` to the last line."""
        self._revision += 1
        mark, old, role = self._entries[-1]
        self._entries[-1] = (mark, old + text, role)
        if role in self.folded and self._group:
            return  # the folded line shows counts only
        if self._passes(old):
            self._remove_last_rows()
        self._put(len(self._entries) - 1)

    def _put(self, index: int) -> None:
        """Append the rows of an entry, or of its folded group."""
        mark, text, role = self._entries[index]
        if not self._passes(text):
            return
        if role in self.folded:
            if self._group and self._rows and self._rows[-1][2] == role:
                self._remove_last_rows()
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

    def _remove_last_rows(self) -> None:
        """Remove the rows of the last entry, before it is put again."""
        if self._last_rows:
            del self._rows[-self._last_rows :]
            if self._away:
                self._away = max(1, self._away - self._last_rows)
                self._unseen = max(0, self._unseen - self._last_rows)
            self._last_rows = 0

    def _passes(self, text: str) -> bool:
        return not self.filter or self.filter.lower() in text.lower()

    def _bound(self) -> None:
        if len(self._entries) > self.MAX_ENTRIES * 2:
            gone = len(self._entries) - self.MAX_ENTRIES
            del self._entries[:gone]
            self._dropped += gone
        if len(self._rows) > self.MAX_ENTRIES * 6:
            del self._rows[: -self.MAX_ENTRIES * 3]

    def _wrap(self, entry: Entry, number: int) -> list[ScreenRow]:
        mark, text, role = entry
        width = self._wrapped_for - len(mark)
        if width <= 4:
            return []
        lines = wrap(text, width) if self.wraps else [fit(text, width, self.look.glyph("ellipsis"))]
        return [(mark if i == 0 else " " * len(mark), line, role, number) for i, line in enumerate(lines)]

    def _rewrap(self, width: int) -> None:
        """Wrap all entries for another width; the entry at the lower edge stays there."""
        edge = self._rows[-self._away - 1][3] if self._away and self._away < len(self._rows) else None
        unseen = self._unseen
        self._wrapped_for = width
        self._rows, self._group = [], []
        self._last_rows = self._away = self._unseen = 0
        for index in range(max(0, len(self._entries) - self.MAX_ENTRIES), len(self._entries)):
            self._put(index)
        if edge is not None:
            self._away = sum(row[3] > edge for row in self._rows)
            self._unseen = min(unseen, self._away)

    def set_filter(self, text: str) -> None:
        self.filter = text
        self._away = 0
        self._wrap_again()

    def set_wraps(self, wraps: bool) -> None:
        self.wraps = wraps
        self._wrap_again()

    def set_folded(self, roles: frozenset[str]) -> None:
        self.folded = roles
        self._wrap_again()

    def _wrap_again(self) -> None:
        self._rewrap(self._wrapped_for)
        self.flush()

    def set_query(self, text: str) -> None:
        """Search for `text`, and show the newest match."""
        self.query_text = text
        self._found = None
        self.next_match(-1)

    def matches(self) -> list[int]:
        """Numbers of the entries that contain the searched text."""
        wanted = self.query_text.lower()
        if not wanted:
            return []
        return [self._dropped + i for i, (_, text, _) in enumerate(self._entries) if wanted in text.lower()]

    def next_match(self, step: int) -> bool:
        """Show the next (1) or the previous (-1) match, wrapping round; False: there is none."""
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
        """Scroll an entry to the middle."""
        height, rows = self.body_rows, len(self._rows)
        place = next((i for i, row in enumerate(self._rows) if row[3] == number), None)
        if place is not None:
            self._away = max(0, min(rows - height, rows - place - 1 - height // 2))
        self.flush()

    def empty(self) -> str:
        """Message of the empty pane."""
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

    def _line(self, row: ScreenRow, width: int) -> Strip:
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
            words = f"{place} of {len(found):,}" if found else "not found"
            parts.append((f"/{self.query_text} {words} ", self.look["warn"]))
        if self._away:
            words = f"{self._unseen} new " if self._unseen else "scrolled "
            parts += [(words, self.look["warn"]), (" G ", self.look["key"])]
        return parts

    def move(self, rows: int) -> None:
        self._away = max(0, self._away - rows)
        self.flush()

    def home(self) -> None:
        self._away = len(self._rows)
        self.flush()

    def end(self) -> None:
        self._away = self._unseen = 0
        self.flush()


class LogPane(Tail):
    """The lines of the file `path()`; when that names another file, the lines of the other."""

    MAX_ENTRIES = 20_000
    MAX_BYTES = 4_000_000  # read from the end of the file
    MAX_POLL_LINES = 20_000  # of more new lines, the last ones are shown

    def __init__(
        self, view: SessionView, name: str, path: Callable[[], Path | None], empty: str, *, id: str | None = None
    ) -> None:
        super().__init__(view, id=id)
        self.NAME, self._path, self._empty = name, path, empty
        self._file: FileTail | None = None

    def poll(self) -> None:
        path = self._path()
        if path != (self._file.path if self._file else None):
            self.clear()
            self._file = FileTail(path, limit=self.MAX_BYTES) if path else None
        lines = self._file.lines(MAX_LINE_CHARACTERS) if self._file else []
        if len(lines) > self.MAX_POLL_LINES:
            self.add(f"{len(lines) - self.MAX_POLL_LINES:,} lines skipped", "faint")
            lines = lines[-self.MAX_POLL_LINES :]
        for line in lines:
            shown = line.rstrip("\r").rpartition("\r")[2]  # a progress bar overwrites itself
            self.add(flat(shown, 8), self.role_of(shown), "")

    def role_of(self, line: str) -> str:
        low = line[:200].lower()
        if "error" in low or "traceback" in low:
            return "bad"
        if "warning" in low:
            return "warn"
        return "dim" if low.startswith("step ") else "text"

    def heading(self) -> list[Part]:
        return [(f" · {len(self._entries):,} lines", self.look["dim"])]

    def empty(self) -> str:
        return self._empty


def _folded(role: str, texts: list[str]) -> str:
    if role == "tool":
        names = list(dict.fromkeys(text.split(" ", 1)[0] for text in texts))
        more = f" and {len(names) - MAX_TOOL_NAMES} more" if len(names) > MAX_TOOL_NAMES else ""
        return f"{plural(len(texts), 'tool')}: {', '.join(names[:MAX_TOOL_NAMES])}{more}"
    lines = sum(bool(text.strip()) for text in texts)
    return f"… {plural(lines, 'line')} of thinking"
