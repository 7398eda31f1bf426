"""Why an action cannot be done now: one function each, asked by keys, footer, help and palette alike."""

from __future__ import annotations

from core.record.state import BASELINE
from tui.session_view import SessionView

Reason = str | None


def engine(model: SessionView) -> Reason:
    return model.why_no_command


def running(model: SessionView) -> Reason:
    """The engine is there and not about to end."""
    if (reason := model.why_no_command) is not None:
        return reason
    word = model.state.state
    return f"the session is {word}" if word in ("stopping", "stopped", "finished", "crashed") else None


def pausable(model: SessionView) -> Reason:
    if (reason := model.why_no_command) is not None:
        return reason
    return None if model.state.state in ("running", "paused") else f"the session is {model.state.state}"


def pausable_now(model: SessionView) -> Reason:
    if (reason := pausable(model)) is not None:
        return reason
    return None if model.state.running or model.state.state == "running" else "nothing runs"


def skippable(model: SessionView) -> Reason:
    if (reason := model.why_no_command) is not None:
        return reason
    return None if model.state.live else "no experiment is under way"


def resumable(model: SessionView) -> Reason:
    if model.replaying:
        return "this is a recording"
    return None if model.connection.status == "dead" else "an engine holds this session already"


def approval(model: SessionView) -> Reason:
    if not model.state.approvals:
        return "no proposal waits for you"
    return model.why_no_command


def guidance(model: SessionView) -> Reason:
    if (reason := model.why_no_command) is not None:
        return reason
    return None if model.state.in_force() else "no guidance is queued"


def subject(model: SessionView) -> Reason:
    return None if model.subject is not None else "there is no experiment yet"


def on_subject(model: SessionView) -> Reason:
    """Something an engine does with the shown experiment."""
    return running(model) or subject(model)


def committed(model: SessionView) -> Reason:
    found = model.subject
    return None if found and found.commit else "this experiment has no commit"


def buildable(model: SessionView) -> Reason:
    """May become what proposals build on, or is it already (then: back to the best)."""
    if (reason := on_subject(model)) is not None:
        return reason
    found = model.subject
    assert found is not None
    if model.state.base is not None and model.state.base == found.number:
        return None
    if found.number in model.state.pinned:
        return f"#{found.number} is pinned: p lets it go"
    return committed(model) or (None if found.metric is not None else f"#{found.number} has no result yet")


def pinnable(model: SessionView) -> Reason:
    if (reason := on_subject(model)) is not None:
        return reason
    found = model.subject
    return "the baseline is always there to build on" if found and found.number == BASELINE else None


def repeatable(model: SessionView) -> Reason:
    if (reason := on_subject(model)) is not None:
        return reason
    found = model.subject
    if found and found.number in model.state.live:
        return f"#{found.number} is under way"
    return committed(model)


def certifiable(model: SessionView) -> Reason:
    if (reason := running(model)) is not None:
        return reason
    if model.state.baseline is None:
        return "the baseline is not known yet"
    return "nothing is kept yet: the baseline needs no certificate" if model.certified_next is None else None


def diff(model: SessionView) -> Reason:
    found = model.subject
    return None if found and found.hypothesis else "there is no diff yet"


def recording(model: SessionView) -> Reason:
    return None if model.replaying else "only while a recording is played"


def no_recording(model: SessionView) -> Reason:
    return "this is a recording" if model.replaying else None


def comparable(model: SessionView) -> Reason:
    return None if model.compared() is not None else "mark two experiments first (m)"
