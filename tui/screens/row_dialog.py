"""Base of the cards with rows: guidance, changes, settings, sessions"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.widgets import Input

from tui.host import host_of
from tui.paint.cells import Part, brief, cut_parts, fit, left, width_of
from tui.screens.dialogs import Answer, Card
from tui.session_view import SessionView
from tui.widgets.page import Lines, Page, paragraphs
from tui.widgets.prompt import UnsentText


@dataclass(frozen=True, slots=True)
class DialogRow:
    """`label` and `value` are columns; `hint` explains the value; `group` is the title of a new block."""

    name: str
    label: str
    value: str = ""
    hint: str = ""
    role: str = "text"
    group: str = ""
    sign: Part | None = None


class _FootedPage(Page):
    """A page with the last message, or the keys, in its lower frame, where scrolling does not move it."""

    def __init__(self, view: SessionView, name: str, make: Callable[[int], Lines], foot: Callable[[], Part]) -> None:
        super().__init__(view, name, make)
        self._foot = foot

    def foot(self) -> list[Part]:
        text, style = self._foot()
        return [(fit(text, max(0, self.size.width - 8), self.look.glyph("ellipsis")), style)]


class RowsCard(Card[Answer]):
    """Up and down move, enter does `chosen`; other keys go to `key`. `ask` takes a line of text at the foot."""

    WIDTH = 96
    SCROLLS = False  # up and down move the cursor
    HAS_LINE = True
    HELP: ClassVar[str] = "enter changes   esc closes"
    EMPTY: ClassVar[str] = "nothing here"

    def __init__(self, view: SessionView) -> None:
        self.at = 0
        self.said: tuple[str, str] = ("", "dim")
        self._then: Callable[[str], None] | None = None
        self._draft, self._before = "", ""  # what the line is for, when its text is kept, and what stood there first
        self._shown: list[DialogRow] = []
        self._places: list[int] = []  # the line of each row
        super().__init__(view)
        self._page = _FootedPage(view, self.TITLE_TEXT, self.lines, self._foot)

    # -- for subclasses ------------------------------------------------------------------------------------------

    def rows(self) -> list[DialogRow]:
        raise NotImplementedError

    def chosen(self, row: DialogRow) -> None:
        """Enter, or a double click."""

    def key(self, row: DialogRow | None, character: str, key: str) -> None:
        """Any other key."""

    # -- shown ----------------------------------------------------------------------------------------------------

    def lines(self, width: int) -> Lines:
        look = self.view.look
        self._shown = rows = self.rows()
        self.at = max(0, min(self.at, len(rows) - 1))
        labels = min(24, max([0, *(width_of(r.label) for r in rows)])) + 2
        values = min(38, max([0, *(width_of(brief(r.value)) for r in rows)])) + 2
        self._places = []
        text, role = self.said
        long = width_of(text) > width - 4  # the frame's foot has no room for it
        out: Lines = [*paragraphs(" ".join(text.split()), width, look[role]), []] if long else []
        for index, row in enumerate(rows):
            if row.group:
                out += [*([[]] if index else []), [(row.group, look["title_focus"])]]
            here = index == self.at
            self._places.append(len(out))
            mark = f"{look.glyph('think')} " if here else "  "
            parts: list[Part] = [(mark, look["key"])]
            if row.sign:
                parts += [row.sign, (" ", look["text"])]
            parts.append((left(brief(row.label), labels), look["title_focus" if here else "text"]))
            parts.append((left(brief(row.value), values), look["bright" if here else row.role]))
            parts.append((brief(row.hint), look["dim"]))
            out.append(cut_parts(parts, width, look.glyph("ellipsis")))
        if not rows:
            out.append([(f"  {self.EMPTY}", look["dim"])])
        return out

    def _foot(self) -> Part:
        text, role = self.said
        return (" ".join(text.split()), self.view.look[role]) if text else (self.HELP, self.view.look["dim"])

    def again(self) -> None:
        """Repaint, and fit the card to its content."""
        if self.is_mounted:
            self._fit()
            self._page.flush()

    def say(self, text: str, role: str = "dim") -> None:
        self.said = text, role
        self.again()

    @property
    def row(self) -> DialogRow | None:
        return self._shown[self.at] if 0 <= self.at < len(self._shown) else None

    # -- keys -----------------------------------------------------------------------------------------------------

    def pressed(self, character: str, key: str) -> None:
        if self._then is not None:
            self._leave_line()
            return
        last = len(self._shown) - 1
        steps = {"down": 1, "j": 1, "tab": 1, "up": -1, "k": -1, "shift+tab": -1, "pagedown": 10, "pageup": -10}
        if (step := steps.get(key)) is not None:
            self.move_to(self.at + step)
        elif key in ("home", "g", "end", "G"):
            self.move_to(0 if key in ("home", "g") else last)
        elif key in ("escape", "q"):
            self.dismiss(None)
        elif key == "enter" and self.row is not None:
            self.chosen(self.row)
        else:
            self.key(self.row, character, key)

    def move_to(self, at: int) -> None:
        self.at = max(0, min(at, len(self._shown) - 1))
        self._page.flush()
        if self._shown:
            self._page.show(0 if self.at == 0 else self._places[self.at])

    def ask(self, label: str, text: str, then: Callable[[str], None], draft: str = "") -> None:
        """Take a line of text at the foot of the card; esc closes it. Under the name `draft` its text is then kept."""
        self._then, self._draft, self._before = then, draft, text
        kept = host_of(self).drafts.pop(draft, None)
        self.open_line(label, kept.text if kept else text)

    def close_line(self) -> None:
        self._then = None
        super().close_line()

    def _leave_line(self) -> None:
        text = self.query_one(Input).value
        if self._draft and text.strip() and text != self._before:
            host_of(self).drafts[self._draft] = UnsentText(text)
            self.say("the text is kept for the next time")
        self.close_line()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        then, text = self._then, event.value.strip()
        self.close_line()
        if then is not None:
            then(text)

    def on_click(self, event: events.Click) -> None:
        line = event.screen_y - self._page.region.y - 1 + self._page.top
        if self._page.region.contains(event.screen_x, event.screen_y) and line in self._places:
            self.move_to(self._places.index(line))
            if event.chain == 2 and self.row is not None:
                self.chosen(self.row)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.move_to(self.at + 3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.move_to(self.at - 3)
