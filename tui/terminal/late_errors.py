"""Filter for errors of screens that closed while Textual built them."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widget import Widget
from textual.worker import WorkerFailed


def is_late_error(error: BaseException, shown: Sequence[Screen[object]]) -> bool:
    """Whether a widget was not found because its screen is no longer `shown`: closed while Textual built it."""
    if isinstance(error, WorkerFailed):
        error = error.error
    if not isinstance(error, NoMatches):
        return False
    nodes = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    screens = [node for node in nodes if isinstance(node, Screen)]
    widgets = [node for node in nodes if isinstance(node, Widget) and not isinstance(node, Screen)]
    return any(node not in shown for node in screens) or any(not node.is_attached for node in widgets)
