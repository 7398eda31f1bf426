"""The record on recorded sessions: the fold, the wire format, the decision rule and the log."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.record import commands, wire
from core.record import events as e
from core.record.budget import RunBudget, parse_run_budget
from core.record.errors import LogCorrupt, LogTooNew, SessionError
from core.record.events import Event
from core.record.fold import fold
from core.record.state import Experiment, State
from core.session.log import FORMAT, Log
from tests import ROOT
from tests.recorded import Story, make_session, story_events

stories = st.builds(
    lambda n, seed, live, verdicts, direction: story_events(
        experiments=n, seed=seed, live=live, verdicts=verdicts, direction=direction
    ),
    st.integers(0, 14),
    st.integers(0, 10**6),
    st.booleans(),
    st.lists(st.sampled_from(e.VERDICTS), min_size=1, max_size=8),
    st.sampled_from(["min", "max"]),
)


def folded(events: list[Event]) -> State:
    state = State()
    for event in events:
        fold(state, event)
    return state


@given(stories, st.data())
@settings(max_examples=60)
def test_a_prefix_and_a_tail_fold_to_the_full_state(events: list[Event], data: st.DataObject) -> None:
    whole = folded(events)
    cut = data.draw(st.integers(0, len(events)))
    overlap = data.draw(st.integers(0, cut))
    state = folded(events[:cut])
    # As a client: the State as JSON, then a tail of events that may overlap it.
    state = wire.from_plain(State, json.loads(wire.dumps(wire.to_plain(state))))
    for event in events[overlap:]:
        fold(state, event)
    assert state == whole


@given(stories, st.data())
@settings(max_examples=40)
def test_a_copy_stays_the_same_while_the_state_is_folded(events: list[Event], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(events)))
    state = folded(events[:cut])
    copy = state.copy()
    for event in events[cut:]:
        fold(state, event)
    assert copy == folded(events[:cut])


@given(stories)
@settings(max_examples=40)
def test_the_totals_of_the_state_are_consistent(events: list[Event]) -> None:
    state = folded(events)
    judged = [x for n, x in state.experiments.items() if n and x.verdict]
    assert sum(state.verdicts.values()) == len(judged)
    assert set(state.live) == {
        n
        for n, x in state.experiments.items()
        if x.verdict in (None, "provisional") and not (n == 0 and state.baseline)
    }
    assert math.isclose(state.usd, sum(x.usd for x in state.experiments.values()))
    kept = [x for x in judged if x.verdict == "kept" and x.metric is not None]
    if kept:  # each kept result of a story beats the one before it
        assert state.best == kept[-1].number and state.best_metric == kept[-1].metric
        assert state.best_commit == kept[-1].commit
    elif state.baseline:
        assert (state.best, state.best_metric) == (0, state.baseline.metric)


def _more(state: State, *bodies: e.Body) -> State:
    for body in bodies:
        fold(state, Event(state.seq + 1, state.time + 1, body))
    assert wire.from_plain(State, json.loads(wire.dumps(wire.to_plain(state)))) == state
    return state


def test_changes_by_a_person_are_in_the_state() -> None:
    state = folded(story_events(experiments=6))  # 1 and 5 are kept
    state = _more(
        state, e.GuidanceQueued(guidance=1, text="try a smaller batch", idea=True), e.GuidanceEdited(1, "try less")
    )
    assert (state.guidance[1].text, state.guidance[1].idea) == ("try less", True)
    state = _more(
        state,
        e.ApprovalModeChanged(True),
        e.BaseChanged(3),
        e.ExperimentStarted(experiment=7, parent=3, parent_commit="c", researcher="x", forked=True),
    )
    assert state.approve and state.parent == 3 and state.best == 5 and state.experiments[7].forked
    state = _more(state, e.ResearcherChanged("claude", "m"), e.SlotsChanged(("cpu0",)), e.BudgetChanged({"usd": 3.0}))
    assert (state.researcher, state.model, state.slots, state.budget) == ("claude", "m", ("cpu0",), {"usd": 3.0})
    before = state.program
    state = _more(state, e.ProgramChanged("-a\n+b\n", "new", "not TOML"))
    assert (state.program, state.program_changes) == (before, 0) and "not TOML" in state.notes[-1].text
    state = _more(state, e.ProgramChanged("-a\n+b\n", "new"))
    assert (state.program, state.program_changes) == ("new", 1)
    state = _more(state, e.Judged(experiment=7, verdict="kept", metric=1.0, delta=-0.5, reason="better"))
    assert state.best == 7 and state.base is None, "a fork that leads is what proposals build on anyway"


def test_a_pinned_experiment_is_not_the_best() -> None:
    state = folded(story_events(experiments=6))
    first, best = state.experiments[1], state.experiments[5]
    state = _more(state, e.PinChanged(5, True))
    assert (state.best, state.best_metric, state.best_commit) == (1, first.metric, first.commit)
    state = _more(state, e.PinChanged(1, True), e.BaseChanged(3), e.PinChanged(3, True))
    assert state.baseline is not None and state.session is not None
    assert (state.best, state.best_metric, state.best_commit) == (0, state.baseline.metric, state.session.commit)
    assert state.parent == 0 and state.pinned == {1, 3, 5}, "a pinned base is none"
    state = _more(state, e.PinChanged(5, False), e.PinChanged(1, False))
    assert (state.best, state.best_metric, state.best_commit) == (5, best.metric, best.commit)


def test_folding_does_not_change_earlier_states() -> None:
    events = story_events(experiments=6)
    state = folded(events[:20])
    held = state.experiments[0]
    before = copy.deepcopy(held)
    for event in events[20:]:
        fold(state, event)
    assert held == before


_plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_text = st.text(st.characters(exclude_categories=["Cs"]))
st.register_type_strategy(str, _text)


def _strategy(hint: object) -> st.SearchStrategy[typing.Any]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return st.lists(_strategy(args[0]), max_size=3).map(tuple)
    if hint is typing.Any:
        return _plain
    if hint is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if hint is int:
        return st.integers(-(2**53), 2**53)
    if origin is not None and args and args[0] is str and len(args) == 2:
        return st.dictionaries(_text, _strategy(args[1]), max_size=3)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(_strategy(a) for a in args))
    return st.from_type(hint)  # type: ignore[arg-type]


def _instances(cls: type) -> st.SearchStrategy[typing.Any]:
    hints = typing.get_type_hints(cls)
    return st.fixed_dictionaries({name: _strategy(hint) for name, hint in hints.items()}).map(lambda v: cls(**v))


@pytest.mark.parametrize("cls", typing.get_args(e.Body), ids=lambda c: c.__name__)
def test_every_event_survives_serialization(cls: type) -> None:
    @given(_instances(cls), st.integers(1, 10**9), st.floats(0, 1e10))
    @settings(max_examples=25)
    def check(body: e.Body, seq: int, moment: float) -> None:
        event = Event(seq, moment, body)
        line = wire.encode_event(event)
        assert "\n" not in line
        again = wire.decode_event(line)
        assert wire.encode_event(again) == line
        assert type(again.body) is cls

    check()


@given(st.one_of(*(_instances(c) for c in typing.get_args(commands.Command))), st.integers(1, 10**6))
@settings(max_examples=50)
def test_every_command_survives_serialization(command: commands.Command, number: int) -> None:
    request = wire.Request(number, command)
    assert wire.decode_message(wire.encode_message(request)) == request


def test_unknown_types_and_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown type"):
        wire.decode_event('{"seq":1,"time":0,"type":"telepathy"}')
    with pytest.raises(ValueError, match="without its field"):
        wire.decode_event('{"seq":1,"time":0,"type":"committed","experiment":3}')
    with pytest.raises(ValueError):
        wire.decode_message(b"[1, 2]\n")
    newer = wire.decode_event('{"seq":1,"time":0,"type":"preparing","what":"x","colour":"blue"}')
    assert newer.body == e.Preparing("x")


def test_renamed_types_and_fields_keep_their_names_on_disk() -> None:
    repair = '{"seq":1,"time":0.0,"type":"mend_asked","experiment":1,"attempt":2,"reason":"x"}'
    assert wire.encode_event(Event(1, 0.0, e.RepairAsked(1, 2, "x"))) == repair
    assert wire.decode_event(repair).body == e.RepairAsked(1, 2, "x")
    judged = e.Judged(
        experiment=1, verdict="discarded", metric=2.0, delta=0.1, reason="",
        best_claim=1.9, best_claim_runs=3.5, best_claim_results=2,
    )  # fmt: skip
    plain = wire.to_plain(judged)
    assert (plain["leader"], plain["leader_runs"], plain["leader_results"]) == (1.9, 3.5, 2)
    assert not any(name.startswith("best") for name in plain) and wire.from_plain(e.Judged, plain) == judged
    x = Experiment(number=1, parent=0, parent_commit="c", researcher="r", model=None, started=0.0, repairs=2)
    assert wire.to_plain(x)["mends"] == 2 and wire.from_plain(Experiment, wire.to_plain(x)) == x


def test_nan_infinity_and_invalid_text_are_serialized() -> None:
    line = wire.encode_event(
        Event(1, 0.0, e.Calibrated(metric=float("nan"), sigma=float("inf"), values=(1.0, float("-inf"))))
    )
    assert json.loads(line)["metric"] is None and json.loads(line)["values"] == [1.0, None]
    json.loads(wire.encode_event(Event(1, 0.0, e.Preparing("lone \ud800 surrogate"))))


finite = st.floats(-1e6, 1e6)


# --- the log -------------------------------------------------------------------------------------


def test_the_log_returns_the_folded_state(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=9, live=True, files=False)
    log = Log.read(paths.database)
    assert log.load() == folded(list(log.events()))
    assert [event.seq for event in log.events(5, 3)] == [6, 7, 8]
    own = list(log.events_of(2))
    assert own and all(getattr(event.body, "experiment", None) == 2 for event in own)
    log.close()


def test_a_log_without_steering_events_opens(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=3, files=False)
    added = {"approve", "base", "pinned", "program_changes"}
    with sqlite3.connect(paths.database) as db:
        head = json.loads(db.execute("SELECT body FROM head").fetchone()[0])
        db.execute("UPDATE head SET body = ?", (json.dumps({k: v for k, v in head.items() if k not in added}),))
        for number, body in db.execute("SELECT number, body FROM experiments").fetchall():
            old = {k: v for k, v in json.loads(body).items() if k != "forked"}
            db.execute("UPDATE experiments SET body = ? WHERE number = ?", (json.dumps(old), number))
    log = Log.append_to(paths.database)
    assert log.state == folded(list(log.events())) and not log.state.pinned
    log.append([e.PinChanged(1, True)])
    assert log.load().pinned == {1}
    log.close()


def test_reading_continues_during_writes(tmp_path: Path) -> None:
    writer = Log.create(tmp_path / "session.db")
    reader = Log.read(tmp_path / "session.db")
    for time_, bodies in Story(experiments=3).moments():
        writer.append(bodies, time_)
        assert reader.last_seq() == writer.state.seq
        assert reader.load() == writer.state
    writer.close()
    reader.close()


WRITER = """
import sys
from pathlib import Path
from core.session.log import Log
from tests.recorded import Story
log = Log.create(Path(sys.argv[1]))
for time, bodies in Story(experiments=100_000).moments():
    log.append(bodies, time)
    sys.stdout.write(f"{log.state.seq}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("after", [1, 40, 200])
def test_kill_9_loses_no_acknowledged_event(tmp_path: Path, after: int) -> None:
    path = tmp_path / "session.db"
    writer = subprocess.Popen(
        [sys.executable, "-P", "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert writer.stdout is not None
    acknowledged = 0
    for _ in range(after):
        acknowledged = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    for line in writer.stdout:  # what is left in the pipe was acknowledged too
        if line.endswith("\n"):
            acknowledged = int(line)
    writer.wait()
    log = Log.read(path)
    assert log.last_seq() >= acknowledged
    assert log.load() == folded(list(log.events()))
    log.close()
    again = Log.append_to(path)
    numbered = again.append([e.Noted("info", "continues")])
    assert numbered[0].seq == again.last_seq() > acknowledged
    again.close()


def test_a_newer_log_is_refused_with_a_hint(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=2, files=False)
    with sqlite3.connect(paths.database) as db:
        db.execute(f"PRAGMA user_version={FORMAT + 1}")
    for open_log in (Log.read, Log.append_to):
        with pytest.raises(LogTooNew, match="newer version") as caught:
            open_log(paths.database)
        assert "upgrade" in caught.value.hint


def test_an_unknown_event_is_refused_with_a_hint(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=2, files=False)
    with sqlite3.connect(paths.database) as db:
        db.execute('INSERT INTO events VALUES (9999, 0, NULL, \'{"type":"telepathy"}\')')
    log = Log.read(paths.database)
    with pytest.raises(LogTooNew, match="telepathy"):
        list(log.events())
    log.close()


@pytest.mark.parametrize("damage", ["not a database at all", "", "SQLite format 3\0 and then nothing of it" * 40])
def test_a_corrupt_log_is_refused_with_a_reason(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "session.db"
    path.write_text(damage)
    with pytest.raises(LogCorrupt) as caught:
        log = Log.read(path)
        log.load()
    assert str(path) in caught.value.where and "--session" in caught.value.hint


def test_a_log_damaged_in_the_middle_is_refused_with_a_reason(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=40, files=False)
    size = paths.database.stat().st_size
    with paths.database.open("r+b") as file:
        for place in range(4096, size, 8192):
            file.seek(place)
            file.write(b"\xff" * 2048)
    with pytest.raises(SessionError):
        log = Log.read(paths.database)
        log.load()
        list(log.events())


DISK_FULL = """
import json, resource, signal, sys
from pathlib import Path
from core.session.log import Log
from core.record.errors import SessionError
from core.record.events import Noted
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = Log.create(Path(sys.argv[1]))
log.append([Noted("info", "first")])
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
wrote, failed = log.state.seq, None
try:
    for number in range(10_000):
        log.append([Noted("info", "x" * 20_000)])
        wrote = log.state.seq
except SessionError as error:
    failed = error
assert failed is not None
seq = log.state.seq
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
after = log.append([Noted("info", "space again")])[0].seq
print(json.dumps({"what": failed.what, "hint": failed.hint, "wrote": wrote, "seq": seq, "after": after}))
"""


def test_a_full_disk_is_reported_and_loses_no_event(tmp_path: Path) -> None:
    path = tmp_path / "session.db"
    done = subprocess.run(
        [sys.executable, "-P", "-c", DISK_FULL, str(path)], capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "could not be written" in said["what"] and "space" in said["hint"]
    assert said["seq"] == said["wrote"] and said["after"] == said["wrote"] + 1
    log = Log.read(path)
    assert [event.seq for event in log.events()] == list(range(1, said["after"] + 1))
    log.close()


@pytest.mark.parametrize("clock", ["wall", "cpu"])
@pytest.mark.parametrize("seconds", [0.5, 4.2, 20, 60, 300, 3599, 3600, 11_520, 86_400, 187_200])
def test_a_budget_is_read_again_as_it_is_shown(seconds: float, clock: Literal["wall", "cpu"]) -> None:
    budget = RunBudget(seconds=float(seconds), clock=clock)
    assert RunBudget.recorded(str(budget)) == budget
    assert parse_run_budget(budget.written) == RunBudget(seconds=float(seconds))


def test_budgets_that_are_not_times_are_read_again_or_refused() -> None:
    assert RunBudget(seconds=20.0, clock="cpu").words == "20s of processor time"
    assert RunBudget(steps=4).words == RunBudget(steps=4).written == "4 steps"
    assert RunBudget.recorded("400 steps") == RunBudget(steps=400) and RunBudget.recorded("5m").seconds == 300
    for text in ("", " cpu", "soon", "20s gpu"):
        with pytest.raises(ValueError, match="not a run budget"):
            RunBudget.recorded(text)


def test_runs_that_were_cut_off_keep_their_order_at_the_front_of_the_queue() -> None:
    bodies: list[e.Body] = []
    for n in (1, 2, 3):
        bodies += [
            e.ExperimentStarted(experiment=n, parent=0, parent_commit="a", researcher="control"),
            e.Committed(n, f"c{n}", "a"),
        ]
    for n in (1, 2):
        bodies.append(
            e.RunStarted(run=n, experiment=n, kind="candidate", slot="cpu0", seed=1, commit=f"c{n}", budget="20s")
        )
    for n in (1, 2):
        bodies.append(e.RunFinished(run=n, experiment=n, ended="abandoned", metric=None, seconds=0.0, wall_seconds=1.0))
    state = folded([Event(at, float(at), body) for at, body in enumerate(bodies, 1)])
    assert state.queue == (1, 2, 3)
