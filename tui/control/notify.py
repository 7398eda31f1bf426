"""The terminal's title, the bell, and desktop notifications when something needs a person"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from core.record import events as e
from core.record.events import Event
from core.record.metric import Metric, format_delta
from core.views import in_short, one_line
from tui.host import Host
from tui.paint.theme import ascii_text
from tui.session_view import SessionView
from tui.terminal.escape_codes import BEL, RESTORE_TITLE, SAVE_TITLE, notification, title

_NOTIFIED_STATES = ("paused", "crashed", "finished", "stopped")


def title_words(view: SessionView) -> str:
    """State and gain, most important first: `● nov23 running −2.5% #47`."""
    state = view.state
    words = [view.look.glyph(view.word), one_line(view.paths.name), view.word]
    if state.best_metric is not None and state.baseline is not None and state.baseline.metric:
        share = (state.best_metric - state.baseline.metric) / abs(state.baseline.metric)
        words.append(f"{'−' if share < 0 else '+'}{abs(share):.1%}")
    if view.state.approvals:
        words.append("needs approval")
    elif state.total:
        words.append(f"#{state.total}")
    text = " ".join(words)
    return ascii_text(text) if view.look.ascii else text


def notification_text(event: Event, metric: Metric) -> str | None:
    """The notification of an event: a keep, a needed approval, an end, an error; None for other events."""
    body = event.body
    if isinstance(body, e.ApprovalRequested):
        return f"#{body.experiment} needs approval"
    if isinstance(body, e.Judged) and body.verdict == "kept":
        return f"#{body.experiment} kept: {metric.name} {format_delta(body.delta)}"
    if isinstance(body, e.StateChanged) and body.state in _NOTIFIED_STATES:
        return f"{body.state}: {in_short(body.reason)}" if body.reason else body.state
    if isinstance(body, e.Noted) and body.level == "error":
        return body.text
    return None


class Notifier:
    """Writes title and notifications: only what changed, and only what the settings ask for."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._title = ""  # empty: the terminal has its own
        self._status = ""

    def report(self, new: Sequence[Event]) -> None:
        """Update the title, and notify about new events and a lost connection."""
        view, settings = self._host.view, self._host.settings
        if settings.title and (words := title_words(view)) != self._title:
            self._host.to_terminal(("" if self._title else SAVE_TITLE) + title(words))
            self._title = words
        if view.replaying or (settings.notify == "off" and not settings.bell):
            return
        texts = [text for event in new if (text := notification_text(event, view.state.metric))]
        status = view.connection.status
        if status == "lost" and self._status == "live":
            texts.append(f"the engine does not answer: {view.connection.message}")
        self._status = status
        if texts:
            text = texts[-1] + (f" (and {len(texts) - 1} more)" if len(texts) > 1 else "")
            told = notification(settings.notify, f"autoresearch {view.paths.name}", text, os.environ)
            self._host.to_terminal(told + BEL * settings.bell)

    def end(self, terminal: TextIO) -> None:
        """Restore the terminal's own title."""
        if self._title and terminal is sys.stdout and terminal.isatty():
            terminal.write(RESTORE_TITLE)
            terminal.flush()
