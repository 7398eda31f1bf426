"""`status --follow`: a session in plain sentences for screen readers, one for each change"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from core import views
from core.record import events as e
from core.record import wire
from core.record.budget import format_seconds
from core.record.events import Event
from core.record.fold import fold
from core.record.metric import format_metric
from core.record.state import BASELINE, HUMAN, State
from core.session.disk import disk_trouble
from core.session.lock import engine_alive
from core.session.paths import SessionPaths
from core.stats.silence import gain_word, silence
from tui.cli.output import Output


def disk_reporter(paths: SessionPaths, report: Callable[[str], None]) -> Callable[[], None]:
    """A call that reports once why the disk is full, and "" once it has space: the log cannot record it."""
    reported = ""

    def look() -> None:
        nonlocal reported
        trouble = disk_trouble(paths.folder)
        if bool(trouble) != bool(reported):
            report(trouble)
        reported = trouble

    return look


def follow_aloud(paths: SessionPaths, out: Output, as_json: bool) -> int:
    """Print the session's state, then each change, until its engine ends or ctrl-c. Raises NoSuchSession."""
    from core.client import follow, read_state

    state = read_state(paths)
    printer = _Sentences(out, as_json)

    def report(trouble: str) -> None:
        printer.more([f"Waiting: {trouble}." if trouble else "There is space on the disk again."])

    try:
        printer.line(_present(state, paths.name, engine_alive(paths)), state, engine_alive(paths))
        printer.more(_waiting(state))
        for event in follow(paths, state.seq, disk_reporter(paths, report)):
            sentences = _sentences(state, event)
            fold(state, event)
            sentences += _afterwards(state, event)
            for sentence in sentences:
                printer.line(sentence, state, True)
        if not engine_alive(paths):
            printer.more(["No engine runs this session now."])
    except KeyboardInterrupt:
        out.flush()
    return 0


class _Sentences:
    """Prints sentences; one that equals the last is left out."""

    def __init__(self, out: Output, as_json: bool) -> None:
        self._out, self._json = out, as_json
        self._last = ""

    def line(self, sentence: str, state: State, alive: bool) -> None:
        sentence = views.one_line(sentence)
        if sentence == self._last:
            return
        self._last = sentence
        if self._json:
            table = {"time": state.time, "says": sentence, "status": views.status(state, alive, time.time())}
            self._out.write(self._out.safe_json(json.dumps(json.loads(wire.dumps(table)), ensure_ascii=False)) + "\n")
        else:
            self._out.line(self._out.paint(sentence, "text"))
        self._out.flush()

    def more(self, sentences: list[str]) -> None:
        for sentence in () if self._json else sentences:
            self._out.line(self._out.paint(sentence, "text"))
        self._out.flush()


def _who(number: int) -> str:
    return "the baseline" if number == BASELINE else f"experiment {number}"


def _number(state: State, value: float | None) -> str:
    return f"{state.metric.name} {format_metric(value)}" if value is not None else ""


def _because(reason: str) -> str:
    return f": {_words(views.in_short(reason))}" if reason else ""


def _words(text: str) -> str:
    """`text` with words in place of the signs that a screen reader skips or spells."""
    text = views.one_line(text).replace("σ", " sigma").replace("−", "minus ").replace("#", "experiment ")
    return text.rstrip(".")


def _present(state: State, name: str, alive: bool) -> str:
    word = views.session_word(state, alive)
    parts = [f"Session {name} is {word}{_because(state.reason if word == state.state else '')}"]
    parts.append(f"{views.plural(state.total, 'experiment')}, {state.verdicts.get('kept', 0)} kept")
    if state.best != BASELINE:
        parts.append(f"the best is experiment {state.best} with {_number(state, state.best_metric)}")
    elif state.baseline is not None:
        others = " except pinned experiments" if state.pinned else ""
        parts.append(f"nothing{others} beats the baseline yet, {_number(state, state.baseline.metric)}")
    if alive:
        parts += [f"{_who(n)} is {state.experiments[n].phase}" for n in state.live]
    return "; ".join(parts) + "."


def _waiting(state: State) -> list[str]:
    return [f"Experiment {n} waits for approval{_because(state.experiments[n].hypothesis)}." for n in state.approvals]


def _sentences(state: State, event: Event) -> list[str]:
    """The sentence of an event, from the State before it."""
    say = _SENTENCES.get(type(event.body))
    sentence = say(state, event.body) if say else None
    return [sentence[:1].upper() + sentence[1:] + "."] if sentence else []


def _afterwards(state: State, event: Event) -> list[str]:
    """Sentences on what the event changed, from the State after it."""
    body = event.body
    if isinstance(body, e.Judged) and body.verdict == "kept" and state.best == body.experiment:
        gained = ""
        if state.baseline is not None and state.best_metric is not None:
            gain = state.metric.gain(state.baseline.metric, state.best_metric)
            gained = f", {format_metric(abs(gain))} {gain_word(state, gain)} than the baseline"
            gained += ", noise unknown" * bool(silence(state))
        return [f"New best: experiment {state.best}, {_number(state, state.best_metric)}{gained}."]
    if isinstance(body, e.ApprovalRequested):
        return _waiting(state)[-1:]
    return []


def _state_changed(state: State, b: e.StateChanged) -> str:
    return f"the session is {b.state}{_because(b.reason)}"


def _started(state: State, b: e.ExperimentStarted) -> str:
    if b.experiment == BASELINE:
        return "the baseline started: the unchanged code runs first"
    by = "a person's own" if b.researcher == HUMAN else f"by {b.researcher}"
    return f"experiment {b.experiment} started, {by}, building on {_who(b.parent)}"


def _judged(state: State, b: e.Judged) -> str:
    value = f", {_number(state, b.metric)}" if b.metric is not None else ""
    return f"experiment {b.experiment} is {b.verdict}{value}{_because(b.reason)}"


def _run_started(state: State, b: e.RunStarted) -> str | None:
    first = not state.experiments[b.experiment].runs
    return f"{_who(b.experiment)} {'runs' if first else 'runs again'} on {b.slot}"


def _plain(state: State, b: Any) -> str | None:
    words = views.sentence(Event(1, 0.0, b), state.metric)
    return _words(words) if words else None


_SENTENCES: dict[type, Callable[[State, Any], str | None]] = {
    e.StateChanged: _state_changed,
    e.EngineStarted: lambda s, b: f"the engine started, with {b.researcher} as the researcher",
    e.EngineStopped: lambda s, b: f"the engine ended{_because(b.reason)}",
    e.Preparing: lambda s, b: f"preparing: {_words(b.what)}" if b.what else None,
    e.ExperimentStarted: _started,
    e.Proposed: lambda s, b: f"experiment {b.experiment} is proposed{_because(b.hypothesis)}",
    e.ResearcherWaiting: lambda s, b: (
        f"waiting {format_seconds(b.seconds)} with experiment {b.experiment}{_because(b.reason)}"
    ),
    e.RunStarted: _run_started,
    e.Calibrated: lambda s, b: (
        f"the baseline is known: {_number(s, b.metric)}, sigma {format_metric(b.sigma) if b.sigma else 'unknown'}"
    ),
    e.Judged: _judged,
    e.Noted: lambda s, b: f"{'' if b.level == 'info' else b.level + ': '}{_words(b.text)}",
}
# Events whose sentence of `core.views` is read aloud with signs as words.
_SENTENCES |= dict.fromkeys((
    e.Recovered, e.RepairAsked, e.CertificationStarted, e.Certified, e.Reproduced, e.Rebased, e.ApprovalModeChanged,
    e.BaseChanged, e.BranchHeld, e.PinChanged, e.ResearcherChanged, e.BudgetChanged, e.SlotsChanged,
    e.ProgramChanged, e.ProposalReturned, e.QueueMoved, e.GuidanceQueued, e.GuidanceEdited, e.GuidanceTaken,
    e.GuidanceWithdrawn,
), _plain)  # fmt: skip
