"""Near the end of a budget of hours no proposals are made whose runs could not begin any more."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from core.engine.proposing.time_left import runs_to_begin, seconds_left, thought_seconds
from core.record import commands as c
from core.record import events as e
from core.record.budget import SessionBudget
from core.record.fold import fold
from core.record.state import State
from core.session.log import Log
from core.session.paths import SessionPaths
from tests.engine.support import accepted, bodies, engine, wait_end, wait_for, wait_state
from tests.projects import make_project, rate, write_script


class Session:
    """A State in two slots whose events have the times that a test gives them."""

    def __init__(self, **budget: float) -> None:
        self.state, self._numbers = State(), itertools.count(1)
        self.tell(
            0.0,
            e.SessionStarted(
                session="s", project="/p", branch="b", commit="c", metric="loss", direction="min", self_reported=True,
                run_budget="10s", budget=budget, edit=("train.py",), seed=1, version="0", program="",
            ),
            e.EngineStarted(
                pid=1, boot_id="b", researcher="scripted", model=None, slots=("cpu0", "cpu1"), sandbox="A"
            ),
            e.StateChanged("running"),
        )  # fmt: skip

    def tell(self, at: float, *facts: e.Body) -> None:
        for body in facts:
            fold(self.state, e.Event(next(self._numbers), at, body))

    def proposed(self, number: int, at: float, seconds: float) -> None:
        started = e.ExperimentStarted(experiment=number, parent=0, parent_commit="c", researcher="scripted")
        thought = e.Proposed(
            experiment=number, hypothesis="h", rationale="", expected=None, kind="other", diff="", files=(), added=0,
            removed=0, seconds=seconds, extra={},
        )  # fmt: skip
        self.tell(at, started, thought, e.Committed(number, f"c{number}", "c"))

    def begun(self, number: int, slot: str, at: float) -> None:
        run = e.RunStarted(
            run=number, experiment=number, kind="candidate", slot=slot, seed=1, commit=f"c{number}", budget="10s"
        )
        self.tell(at, run, e.RunPhaseChanged(number, number, "training"))

    def ended(self, number: int, at: float, wall: float, on_clock: float, gap: float | None) -> None:
        end = e.RunFinished(
            run=number, experiment=number, ended="done", metric=1.0, seconds=on_clock, wall_seconds=wall,
            on_clock=on_clock, gap=gap,
        )  # fmt: skip
        self.tell(at, end, e.Judged(experiment=number, verdict="discarded", metric=1.0, delta=0.0, reason=""))


def test_the_runs_that_can_begin_are_counted_for_each_slot() -> None:
    session = Session(hours=1.0)
    state = session.state
    session.proposed(1, 0.0, seconds=30.0)
    assert runs_to_begin(state, 0.0, 100.0) is None and thought_seconds(state) == 30.0
    session.begun(1, "cpu0", 0.0)
    session.ended(1, 100.0, wall=100.0, on_clock=90.0, gap=None)
    assert runs_to_begin(state, 100.0, 250.0) == 6, "both slots are free: now, after 100 s and after 200 s"
    assert runs_to_begin(state, 100.0, 1.0) == 2
    session.proposed(2, 100.0, seconds=50.0)
    session.begun(2, "cpu1", 100.0)
    assert runs_to_begin(state, 140.0, 50.0) == 1, "the run in the other slot ends later"
    assert runs_to_begin(state, 140.0, 61.0) == 2 and thought_seconds(state) == 40.0
    session.ended(2, 200.0, wall=90.0, on_clock=50.0, gap=10.0)
    assert runs_to_begin(state, 200.0, 79.0) == 2, "a turn is 60 s for a run that started up beside another"
    assert runs_to_begin(state, 200.0, 81.0) == 4
    session.tell(200.0, e.SlotsChanged(("cpu0", "cpu1"), {"cpu1": "broken"}, ()))
    assert runs_to_begin(state, 200.0, 81.0) == 2


def test_the_time_left_is_that_of_the_hours_and_of_a_device_that_has_a_price() -> None:
    session = Session(hours=1.0, usd=2.0, device_usd_per_hour=4.0)
    budget = SessionBudget(hours=1.0, usd=2.0, device_usd_per_hour=4.0)
    assert seconds_left(session.state, budget, 600.0) == pytest.approx(1200.0), "$2 are half an hour of one device"
    assert seconds_left(Session().state, SessionBudget(experiments=5), 600.0) is None
    assert seconds_left(Session(hours=1.0).state, SessionBudget(hours=1.0), 4000.0) == -400.0


def test_no_thought_begins_that_is_longer_than_the_time_left(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", f"0.6{n}") for n in range(1, 7)])
    options = {"researcher": "scripted", "script": str(script), "slots": "cpu:1"}
    with engine(project, experiments=1, **options) as paths:
        wait_end(paths)
    long_thoughts(paths, 2, 3)
    with engine(project, experiments=5, hours=1.0, **options) as paths:
        wait_for(lambda: [b for b in bodies(paths, e.Noted) if "no more proposals are made" in b.text], "these words")
        state = wait_state(paths, lambda s: s.state == "running", "the session to run")
        assert sorted(state.experiments) == [0, 1, 2, 3] and not state.live
        accepted(paths, c.ChangeBudget(hours=100.0))
        state = wait_end(paths)
    assert state.reason == "the budget of 5 experiments is spent" and not state.verdicts.get("abandoned")


def long_thoughts(paths: SessionPaths, *numbers: int) -> None:
    """Experiments in the log whose thoughts took two hours each."""
    log = Log.append_to(paths.database)
    for number in numbers:
        thought = e.Proposed(
            experiment=number, hypothesis="long thought about", rationale="", expected=None, kind="other", diff="",
            files=(), added=0, removed=0, seconds=7200.0, extra={},
        )  # fmt: skip
        started = e.ExperimentStarted(experiment=number, parent=0, parent_commit="c", researcher="scripted")
        judged = e.Judged(experiment=number, verdict="rejected", metric=None, delta=None, reason="refused")
        log.append([started, thought, judged])
    log.close()
