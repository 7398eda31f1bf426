"""What is said beyond the screen: the terminal's title, and a word on the desktop when something needs a person."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from core.record import events as e
from core.record.events import Event
from core.record.metric import Metric, format_delta
from core.views import one_line
from tui.paint.theme import ascii_text
from tui.session_view import SessionView
from tui.terminal.escape_codes import BEL, RESTORE_TITLE, SAVE_TITLE, notification, title

if TYPE_CHECKING:
    from tui.app import Cockpit

_STATES = ("paused", "crashed", "finished", "stopped")


def title_words(model: SessionView) -> str:
    """State and gain, most important first: `● nov23 running −2.5% #47`."""
    state = model.state
    words = [model.look.glyph(model.word), one_line(model.paths.name), model.word]
    if state.best_metric is not None and state.baseline is not None and state.baseline.metric:
        share = (state.best_metric - state.baseline.metric) / abs(state.baseline.metric)
        words.append(f"{'−' if share < 0 else '+'}{abs(share):.1%}")
    if model.state.approvals:
        words.append("waits for you")
    elif state.total:
        words.append(f"#{state.total}")
    text = " ".join(words)
    return ascii_text(text) if model.look.ascii else text


def news(event: Event, metric: Metric) -> str | None:
    """What of an event is worth a word on the desktop: a keep, a question, an end, trouble."""
    body = event.body
    if isinstance(body, e.ApprovalRequested):
        return f"#{body.experiment} waits for you"
    if isinstance(body, e.Judged) and body.verdict == "kept":
        return f"#{body.experiment} kept: {metric.name} {format_delta(body.delta)}"
    if isinstance(body, e.StateChanged) and body.state in _STATES:
        return f"{body.state}: {body.reason}" if body.reason else body.state
    if isinstance(body, e.Noted) and body.level == "error":
        return body.text
    return None


class Herald:
    """Writes to the terminal only what changed, only when it is asked for, and never while an editor has it."""

    def __init__(self, app: Cockpit) -> None:
        self._app = app
        self._title = ""
        self._kept = False
        self._status = ""

    def hear(self, new: Sequence[Event]) -> None:
        """Look at the state and at new events, and say what is to be said."""
        model, settings = self._app.model, self._app.settings
        if settings.title and (words := title_words(model)) != self._title:
            self._write(("" if self._kept else SAVE_TITLE) + title(words))
            self._title, self._kept = words, True
        if model.replaying or (settings.notify == "off" and not settings.bell):
            return
        told = [text for event in new if (text := news(event, model.state.metric))]
        status = model.connection.status
        if status == "lost" and self._status == "live":
            told.append(f"the engine does not answer: {model.connection.message}")
        self._status = status
        if told:
            head = f"autoresearch {model.paths.name}"
            more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
            self._write(notification(settings.notify, head, told[-1] + more, os.environ) + BEL * settings.bell)

    def _write(self, text: str) -> None:
        driver = self._app._driver
        if text and driver is not None and not self._app.is_headless and not self._app.handwork.editor.busy:
            driver.write(text)

    def end(self, terminal: TextIO) -> None:
        """Give the terminal its own title back."""
        if self._kept and terminal is sys.stdout and terminal.isatty():
            terminal.write(RESTORE_TITLE)
            terminal.flush()
