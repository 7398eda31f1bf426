"""One line to write in, above the footer: guidance for the researcher, or a filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from tui.widgets.canvas import Pane
from tui.widgets.status import Footer

How = Literal["queue", "now", "standing", "cancel"]
Written = Callable[[str, str, How, Pane | None], None]  # purpose, text, how, pane
HELP = {
    "steer": "enter queue   ctrl+s now   ctrl+t standing   ↑ last   esc cancel",
    "filter": "enter keep   esc clear",
}


class Prompt(Horizontal):
    DEFAULT_CSS = """
    Prompt { height: 1; display: none; }
    Prompt Static { width: auto; height: 1; padding: 0 1; color: $primary; }
    Prompt Input { width: 1fr; height: 1; border: none; padding: 0; background: $background; }
    Prompt Input:focus { border: none; background: $background; }
    """

    class Typed(Message):
        def __init__(self, purpose: str, text: str, pane: Pane | None) -> None:
            super().__init__()
            self.purpose, self.text, self.pane = purpose, text, pane

    def __init__(self, written: Written) -> None:
        """`written` is called at once when the line is sent or left (`how` is cancel, and the text empty)."""
        super().__init__(id="prompt")
        self._written = written
        self.purpose = ""
        self._pane: Pane | None = None
        self._last = ""
        self.line = Input(compact=True, id="prompt-input")
        self._before: Widget | None = None  # what had the focus

    def compose(self) -> ComposeResult:
        yield Static("", id="prompt-label", markup=False)
        yield self.line
        yield Static("", id="prompt-help", markup=False)

    def ask(self, purpose: str, label: str, text: str, pane: Pane | None) -> None:
        self.purpose, self._pane = purpose, pane
        self.query_one("#prompt-label", Static).update(f"{label} ▸")
        self.query_one("#prompt-help", Static).update(HELP[purpose] if self.app.size.width >= 90 else "")
        self._before = self.screen.focused
        self.line.cursor_blink = False
        self.line.value = text
        self._show(True)
        self.screen.set_focus(self.line)  # at once: `focus()` would be a message, and the next key come before it

    def _show(self, shown: bool) -> None:
        """In the footer's place, so that nothing else moves."""
        self.display = shown
        self.screen.query_one(Footer).display = not shown

    def special(self, key: str) -> bool:
        """Keys with a meaning of their own here; whether `key` was one."""
        if key == "escape":
            self._close("cancel")
        elif key == "enter":
            self._close("queue")
        elif key in ("tab", "shift+tab"):
            return True  # the focus stays here until it is sent or left
        elif key == "ctrl+s" and self.purpose == "steer":
            self._close("now")
        elif key == "ctrl+t" and self.purpose == "steer":
            self._close("standing")
        elif key == "up" and self.purpose == "steer":
            self.line.value = self._last
        else:
            return False
        return True

    def _close(self, how: How) -> None:
        text = self.line.value
        if self.purpose == "steer" and how != "cancel":
            self._last = text
        self._show(False)
        self.screen.set_focus(self._before)
        self._written(self.purpose, "" if how == "cancel" else text, how, self._pane)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.display:
            self.post_message(self.Typed(self.purpose, self.line.value, self._pane))
