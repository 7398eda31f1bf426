"""Reasons why an action cannot be done now, for keys, footer, help and palette"""

from __future__ import annotations

from core.record.state import BASELINE
from core.views import baseline_failed
from tui.session_view import SessionView

Reason = str | None


def engine(view: SessionView) -> Reason:
    return view.why_no_command


def running(view: SessionView) -> Reason:
    """The engine runs and is not about to end."""
    word = view.state.state
    over = f"the session is {word}" if word in ("stopping", "stopped", "finished", "crashed") else None
    return view.why_no_command or over


def pausable(view: SessionView) -> Reason:
    word = view.state.state
    return view.why_no_command or (None if word in ("running", "paused") else f"the session is {word}")


def pausable_now(view: SessionView) -> Reason:
    busy = view.state.running or view.state.state == "running"
    return pausable(view) or (None if busy else "there is no run in progress")


def skippable(view: SessionView) -> Reason:
    return view.why_no_command or (None if view.state.live else "no experiment is live")


def resumable(view: SessionView) -> Reason:
    if view.replaying:
        return "this is a recording"
    if view.connection.status == "dead" and baseline_failed(view.state):
        return "its unchanged code has no result, and would fail again: start a new session"
    return None if view.connection.status == "dead" else "the engine of this session is running"


def approval(view: SessionView) -> Reason:
    return view.why_no_command if view.state.approvals else "no proposal needs approval"


def guidance(view: SessionView) -> Reason:
    return view.why_no_command or (None if view.state.in_force() else "no guidance is in force")


def subject(view: SessionView) -> Reason:
    return None if view.subject is not None else "there is no experiment yet"


def on_subject(view: SessionView) -> Reason:
    """A request to the engine about the shown experiment."""
    return running(view) or subject(view)


def committed(view: SessionView) -> Reason:
    found = view.subject
    return None if found and found.commit else "this experiment has no commit"


def buildable(view: SessionView) -> Reason:
    """Proposals can build on the shown experiment, or build on it already (then: back to the best)."""
    if (reason := on_subject(view)) is not None:
        return reason
    found = view.subject
    assert found is not None
    if view.state.base is not None and view.state.base == found.number:
        return None
    if found.number in view.state.pinned:
        return f"#{found.number} is pinned: p unpins it"
    return committed(view) or (None if found.metric is not None else f"#{found.number} has no result yet")


def pinnable(view: SessionView) -> Reason:
    found = view.subject
    return on_subject(view) or ("the baseline cannot be pinned" if found and found.number == BASELINE else None)


def repeatable(view: SessionView) -> Reason:
    found = view.subject
    live = f"#{found.number} is live" if found and found.number in view.state.live else None
    return on_subject(view) or live or committed(view)


def certifiable(view: SessionView) -> Reason:
    if (reason := running(view)) is not None:
        return reason
    if view.state.baseline is None:
        return "the baseline has no result yet"
    return "no experiment is kept yet: the baseline needs no certificate" if view.certified_next is None else None


def diff(view: SessionView) -> Reason:
    found = view.subject
    return None if found and found.hypothesis else "there is no diff yet"


def recording(view: SessionView) -> Reason:
    return None if view.replaying else "only while a recording is played"


def no_recording(view: SessionView) -> Reason:
    return "this is a recording" if view.replaying else None


def comparable(view: SessionView) -> Reason:
    return None if view.compared() is not None else "mark two experiments first (m)"
