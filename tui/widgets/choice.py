"""Selection widgets: one of several values on a line, and a menu."""

from __future__ import annotations

from dataclasses import dataclass

from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui.paint.cells import Part, left, strip_of, width_of
from tui.paint.theme import Look


class Choice(Widget, can_focus=True):
    """One of several values, changed with left and right."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "Choice { height: 1; width: 1fr; }"

    class Changed(Message):
        pass

    def __init__(self, look: Look, label: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.look, self.label = look, label
        self._offered: list[tuple[str, str]] = []
        self._at = 0

    @property
    def value(self) -> str:
        return self._offered[self._at][0] if self._offered else ""

    def offer(self, offered: list[tuple[str, str]], chosen: str) -> None:
        """Offer (value, note) pairs, with the value `chosen` selected."""
        self._offered = offered
        self._at = next((i for i, (word, _) in enumerate(offered) if word == chosen), 0)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        look, width = self.look, self.size.width
        parts: list[Part] = [(left(self.label, 14), look["dim"])]
        if not self._offered:
            return strip_of([*parts, ("…", look["dim"])], width, look["text"])
        word, note = self._offered[self._at]
        arrow = look["key" if self.has_focus else "faint"]
        name = look["title_focus" if self.has_focus else "bright"]
        parts += [("◂ ", arrow), (word, name), (" ▸", arrow), ("   " + note, look["dim"])]
        return strip_of(parts, width, look["text"])

    def _select(self, step: int) -> None:
        if self._offered:
            self._at = (self._at + step) % len(self._offered)
            self.refresh()
            self.post_message(self.Changed())

    async def on_key(self, event: events.Key) -> None:
        step = {"left": -1, "right": 1, "space": 1, "enter": 1}.get(event.key)
        if step is not None:
            event.stop()
            self._select(step)

    def on_click(self) -> None:
        self._select(1)


class Menu(Widget, can_focus=True):
    """Rows of (name, note) to choose one of; up and down at the ends move the focus on."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "Menu { height: auto; width: 1fr; margin: 1 0; }"

    @dataclass
    class Chosen(Message):
        index: int

    def __init__(self, look: Look, rows: list[tuple[str, str]], *, at: int = 0, id: str | None = None) -> None:
        super().__init__(id=id)
        self.look, self.rows, self._at = look, rows, at
        self._disabled: set[int] = set()

    def disable(self, index: int, note: str) -> None:
        """Disable row `index`, with the reason as its note."""
        self.rows[index] = (self.rows[index][0], note)
        self._disabled.add(index)
        if self._at == index:
            self._at = self._next(1)
        self.refresh()

    def insert(self, after: str, name: str, note: str) -> None:
        """Add a row below the one named `after`; the cursor stays on its row."""
        at = next((at for at, (row, _) in enumerate(self.rows) if row == after), 0) + 1
        self.rows.insert(at, (name, note))
        self._disabled = {index + (index >= at) for index in self._disabled}
        self._at += self._at >= at
        self.refresh(layout=True)

    def choose(self, name: str) -> None:
        """Put the cursor on the row of that name."""
        self._at = next((at for at, (row, _) in enumerate(self.rows) if row == name), self._at)
        self.refresh()

    def set_notes(self, notes: dict[str, str]) -> None:
        """Replace the notes of rows, by their names."""
        new = [(name, notes.get(name, note)) for name, note in self.rows]
        if new != self.rows:
            self.rows = new
            self.refresh()

    def _next(self, step: int) -> int:
        """The next row in a direction that is not disabled; the present one when there is none."""
        at = self._at + step
        while at in self._disabled:
            at += step
        return at if 0 <= at < len(self.rows) else self._at

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        return len(self.rows)

    def render_line(self, y: int) -> Strip:
        look, width = self.look, self.size.width
        if y >= len(self.rows):
            return Strip.blank(width)
        name, note = self.rows[y]
        on = self.has_focus and y == self._at
        longest = max(width_of(n) for n, _ in self.rows) + 3
        sign = look.glyph("think") if on else " "
        parts: list[Part] = [
            (f"{sign} ", look["key"]),
            (left(name, longest), look["title_focus" if on else "faint" if y in self._disabled else "text"]),
            (note, look["dim"]),
        ]
        return strip_of(parts, width, look["text"])

    async def on_key(self, event: events.Key) -> None:
        step = {"up": -1, "k": -1, "down": 1, "j": 1}.get(event.key, 0)
        if event.key == "enter":
            event.stop()
            if self._at not in self._disabled:
                self.post_message(self.Chosen(self._at))
        elif step and self._next(step) != self._at:
            event.stop()
            event.prevent_default()
            self._at = self._next(step)
            self.refresh()

    def on_click(self, event: events.Click) -> None:
        if event.y < len(self.rows) and event.y not in self._disabled:
            self._at = event.y
            self.post_message(self.Chosen(self._at))
