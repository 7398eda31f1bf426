"""Input line in the footer's place: guidance, an idea, a number, a filter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from tui.paint.canvas import Pane
from tui.widgets.status import Footer

How = Literal["queue", "now", "standing", "cancel"]
Written = Callable[[str, str, How, Pane | None], None]  # purpose, text, how, pane
HELP = {  # by purpose
    "steer": "enter queue   ctrl+s now   ctrl+t standing   ↑ earlier   esc close",
    "edit": "enter change   empty withdraws   ↑ earlier   esc close",
    "filter": "enter keep   esc clear",
    "search": "enter keep   esc clear   then n, N",
}
DEFAULT_HELP = "enter send   esc close"
DRAFTED = ("steer", "idea", "own")  # purposes whose text is kept when the line is closed, and is there at the next time
_ENDS: dict[str, How] = {"escape": "cancel", "enter": "queue"}  # keys that close the line
_STEER_ENDS: dict[str, How] = {"ctrl+s": "now", "ctrl+t": "standing"}
MIN_CELLS_WITH_HELP = 100  # of the screen


@dataclass(frozen=True, slots=True)
class Recalled:
    """A text that `up` brings back, and the number of the guidance that it is, while that is queued."""

    text: str
    guidance: int | None = None


@dataclass(frozen=True, slots=True)
class UnsentText:
    """A text that was written and not sent. `recalled`: what it was before."""

    text: str
    recalled: Recalled | None = None


Earlier = Sequence[Recalled]
Then = Callable[[str, How, Recalled | None], None]  # the text, how it was sent, what it was before


class Prompt(Horizontal):
    DEFAULT_CSS = """
    Prompt { height: 1; display: none; }
    Prompt Static { width: auto; height: 1; padding: 0 1; color: $primary; }
    Prompt Input { width: 1fr; height: 1; border: none; padding: 0; background: $background; }
    Prompt Input:focus { border: none; background: $background; }
    """

    @dataclass
    class Typed(Message):
        purpose: str
        text: str
        pane: Pane | None

    def __init__(self, written: Written, drafts: Callable[[], dict[str, UnsentText]]) -> None:
        """`written` is called when the line is sent or left (then `how` is "cancel", and the text empty)."""
        super().__init__(id="prompt")
        self._written = written
        self._drafts = drafts
        self._then: Then | None = None
        self.purpose = ""
        self._label = ""
        self._pane: Pane | None = None
        self._recall: Earlier = ()
        self._at = -1  # index of the recalled text in the line; -1: a new text
        # The focus event comes late: it would select the text typed until then, and the next key would replace it.
        self.line = Input(compact=True, select_on_focus=False, id="prompt-input")
        self._before: Widget | None = None  # the widget that had the focus

    def compose(self) -> ComposeResult:
        yield Static("", id="prompt-label", markup=False)
        yield self.line
        yield Static("", id="prompt-help", markup=False)

    def ask(
        self, purpose: str, label: str, text: str, pane: Pane | None, then: Then | None = None, recall: Earlier = ()
    ) -> None:
        """Open the line. `then` gets the answer in place of `written`; `up` brings back the texts of `recall`."""
        if not self.display:
            self._before = self.screen.focused
        self.purpose, self._label, self._pane, self._then, self._recall = purpose, label, pane, then, recall
        self._at = -1
        if (draft := self._drafts().pop(purpose, None)) is not None:
            text = draft.text
            self._at = recall.index(draft.recalled) if draft.recalled in recall else -1
        self.line.cursor_blink = False
        self.line.value = text
        self.line.cursor_position = len(text)
        self._update_labels()
        self._show(True)
        self.screen.set_focus(self.line)  # `focus()` would send a message, and the next key could come before it

    @property
    def _recalled(self) -> Recalled | None:
        return self._recall[self._at] if self._at >= 0 else None

    def _update_labels(self) -> None:
        recalled = self._recalled
        queued = recalled is not None and recalled.guidance is not None
        label = f"change guidance {recalled.guidance}" if recalled and queued else self._label
        words = HELP["edit"] if queued else HELP.get(self.purpose, DEFAULT_HELP)
        self.query_one("#prompt-label", Static).update(f"{label} ▸")
        self.query_one("#prompt-help", Static).update(words if self.app.size.width >= MIN_CELLS_WITH_HELP else "")

    def _show(self, shown: bool) -> None:
        """Show the line in place of the footer, or the footer again."""
        self.display = shown
        self.screen.query_one(Footer).display = not shown

    def special(self, key: str) -> bool:
        """Handle a key with a special meaning in the line; whether `key` is one."""
        ends = _ENDS | (_STEER_ENDS if self.purpose == "steer" else {})
        if key in ends:
            self._close(ends[key])
        elif key in ("up", "down"):
            self._bring_back(1 if key == "up" else -1)
        return key in ends or key in ("up", "down", "tab", "shift+tab")  # tab does nothing: the focus stays in the line

    def _bring_back(self, step: int) -> None:
        """Put an earlier text (1) or a later one (-1) in the line."""
        if not self._recall:
            return
        self._at = max(-1, min(len(self._recall) - 1, self._at + step))
        recalled = self._recalled
        self.line.value = recalled.text if recalled else ""
        self.line.cursor_position = len(self.line.value)
        self._update_labels()

    def _close(self, how: How) -> None:
        text, recalled, then = self.line.value, self._recalled, self._then
        self._then = None
        if how == "cancel":
            self._keep(text, recalled)
        self._show(False)
        self.screen.set_focus(self._before)
        if then is None:
            self._written(self.purpose, "" if how == "cancel" else text, how, self._pane)
        elif how != "cancel":
            then(text.strip(), how, recalled)

    @property
    def unsent(self) -> str:
        """The text in the line, when it is one to keep."""
        return self.line.value if self.purpose in DRAFTED and self.line.value.strip() else ""

    def _keep(self, text: str, recalled: Recalled | None) -> None:
        """Keep what a person has written: an Esc may come from a key, or from the terminal."""
        if self.unsent and text != (recalled and recalled.text):
            self._drafts()[self.purpose] = UnsentText(text, recalled)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.display:
            self.post_message(self.Typed(self.purpose, self.line.value, self._pane))
