"""The settings in force: the engine, the log and every screen agree, also after a restart."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from core.client import read_state, start_engine
from core.engine.session_settings import budget_of, following
from core.engine.startup.setup import prepare
from core.program.program import Program, parse
from core.record import commands as c
from core.record import events as e
from core.record.budget import SessionBudget
from core.record.errors import UsageError
from core.record.events import Body, Event
from core.record.fold import fold
from core.record.state import State
from core.session.options import EngineOptions, load_options, save_options
from core.session.paths import SessionPaths
from tests.cli.command import run
from tests.engine.support import accepted, bodies, engine, events_named, kill_engine, patch, wait_for, wait_state
from tests.projects import PROGRAM, make_project, make_scored_project
from tests.tui.stage import Playing, Stage
from tui.paint.theme import Look
from tui.screens.steering_dialogs import ChangeCard
from tui.session_view import SessionView

# --- the rule ---


def state_of(program: Program, *more: Body) -> State:
    budget = asdict(program.budget)
    started = e.SessionStarted(
        session="s",
        project="/p",
        branch="autoresearch/s",
        commit="abc",
        metric="loss",
        direction="min",
        self_reported=True,
        run_budget="10s",
        budget=budget,
        edit=("train.py",),
        seed=1,
        version="0",
        program=program.text,
    )
    state = State()
    for seq, body in enumerate((started, e.ApprovalModeChanged(program.approve), *more), 1):
        fold(state, Event(seq, 1.0, body))
    return state


def edited(**keys: str) -> Program:
    """The program with these keys of [budget], preceded by `approve`."""
    approve = keys.pop("approve", None)
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
    text = PROGRAM.replace('run = "10s"\n', f'run = "10s"\n{lines}')
    return parse(text.replace("+++\n", f"+++\napprove = {approve}\n", 1) if approve else text)


def changed(**limits: float) -> e.BudgetChanged:
    return e.BudgetChanged(asdict(SessionBudget(**limits)))  # type: ignore[arg-type]


SET_HOURS = changed(hours=5.0)


def test_an_edited_value_takes_effect() -> None:
    before, after = edited(hours="2"), edited(hours="3", usd="1.5", approve="true")
    facts = following(state_of(before), before, after)
    assert [type(fact) for fact in facts] == [e.ProgramChanged, e.BudgetChanged, e.ApprovalModeChanged]
    assert facts[1] == changed(hours=3.0, usd=1.5)
    assert following(state_of(before), before, before) == []


def test_values_set_by_a_person_override_the_file() -> None:
    before = edited(hours="2")
    after = edited(hours="3", experiments="7", approve="true")
    state = state_of(before, SET_HOURS, e.ApprovalModeChanged(True))
    facts = following(state, before, after)
    assert changed(hours=5.0, experiments=7) in facts
    assert not any(isinstance(fact, e.ApprovalModeChanged) for fact in facts)


def test_start_options_override_values_set_before() -> None:
    before = edited(hours="2")
    state = state_of(before, SET_HOURS, e.ApprovalModeChanged(True))
    for asked in (("budget.hours=2",), ("budget={hours=2}",)):
        facts = following(state, before, before, asked)
        assert facts == [changed(hours=2.0)], asked
    assert following(state, before, before, ("approve=false",)) == [e.ApprovalModeChanged(False)]
    assert following(state, before, before, ("decide.keep=2",)) == []


def test_the_log_decides_when_options_are_lost() -> None:
    program = edited(hours="2")
    assert following(state_of(program, SET_HOURS), None, program) == []


def test_turning_approval_off_releases_waiting_proposals() -> None:
    before, after = edited(approve="true"), edited()
    waiting = (
        e.ExperimentStarted(experiment=1, parent=0, parent_commit="abc", researcher="human"),
        e.ApprovalRequested(1),
    )
    facts = following(state_of(before, *waiting), before, after)
    assert facts[1:] == [e.ApprovalGiven(1, True), e.ApprovalModeChanged(False)]


# --- on a real engine ---

OPTIONS = EngineOptions(
    researcher="human", slots="cpu:2", seed=7, experiments=30, hours=2.0, usd=5.0, run_budget="8s",
    overrides=("decide.baseline=5", "approve=true"),
)  # fmt: skip
RESTED = EngineOptions()  # a restart without options


def model_of(paths: SessionPaths) -> SessionView:
    source = Playing(Stage(paths, 0.0))
    return SessionView(source, Look(), lambda: 0.0)


def restarted(paths: SessionPaths, options: EngineOptions = RESTED) -> State:
    """Start another engine and return the State when it holds the session."""
    kill_engine(paths)
    before = len(events_named(paths, e.EngineStarted))
    start_engine(paths, options)
    wait_for(lambda: len(events_named(paths, e.EngineStarted)) > before, "the next engine")
    return wait_state(paths, lambda s: s.state == "running", "the session running again")


def status(paths: SessionPaths) -> dict[str, object]:
    found: dict[str, object] = json.loads(run(paths.project, "status", "--json").stdout)
    return found


def shown(paths: SessionPaths) -> dict[str, str]:
    """The text of the app's card for changing a session."""
    rows = ChangeCard(model_of(paths), lambda *_: None).rows()
    return {row.name: row.value for row in rows if row.name != "model"}


@pytest.mark.slow
def test_shown_settings_are_those_the_engine_uses(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    options = {name: getattr(OPTIONS, name) for name in EngineOptions.__dataclass_fields__}
    with engine(project, **options) as paths:
        wait_state(paths, lambda s: s.experiments.get(0) and s.experiments[0].runs, "a run")
        assert model_of(paths).baseline_runs == 5, "the screen says another number of runs than the engine makes"
        state = wait_state(paths, lambda s: s.baseline and s.state == "running", "the baseline")
        assert state.baseline is not None and state.baseline.n == 5 and status(paths)["baseline"]["n"] == 5  # type: ignore[index]
        assert state.session is not None and (state.session.seed, state.session.run_budget) == (7, "8s")
        assert {r.budget for r in state.experiments[0].runs} == {"8s"}
        assert budget_of(state) == SessionBudget(hours=2.0, experiments=30, usd=5.0)
        assert state.slots == ("cpu0", "cpu1") and state.approve and state.researcher == "human"

        accepted(paths, c.ChangeBudget(hours=3.0))
        accepted(paths, c.ApproveMode(False))
        accepted(paths, c.ChangeSlots("cpu:1"))
        kept = load_options(paths)
        assert kept == replace(OPTIONS, slots="cpu:1"), "the budget has two homes"
        assert shown(paths) == {"researcher": "human", "slots": "cpu0", "experiments": "30", "hours": "3", "usd": "5"}
        state = restarted(paths)
        assert budget_of(state) == SessionBudget(hours=3.0, experiments=30, usd=5.0)
        assert state.slots == ("cpu0",) and not state.approve and model_of(paths).baseline_runs == 5
        assert shown(paths) == {"researcher": "human", "slots": "cpu0", "experiments": "30", "hours": "3", "usd": "5"}

        # An edit of the file: values of the command line and of a person take precedence.
        edit = PROGRAM.replace('run = "10s"', 'run = "9s"\nhours = 9\nusd = 1').replace("Make RATE", "Please make RATE")
        (project / "program.md").write_text(edit)
        pending = run(project, "program")
        assert pending.returncode == 0 and "hours = 9" in pending.stdout, "checked without the session's overrides"
        accepted(paths, c.Propose(hypothesis="nearer", patch=patch("0.5", "0.45")))
        state = wait_state(paths, lambda s: s.program_changes == 1 and s.judged == 1, "the edit and a verdict")
        assert state.program == edit and state.budget["hours"] == 3.0 and state.budget["usd"] == 5.0
        [tried] = [x.runs[0] for x in state.experiments.values() if x.number and x.runs]
        assert (tried.budget, tried.slot) == ("8s", "cpu0")
        assert restarted(paths).budget["hours"] == 3.0

        state = restarted(paths, EngineOptions(hours=4.0, overrides=("approve=true",)))
        assert state.budget["hours"] == 4.0 and state.approve, "a start that asks is heard"
        assert restarted(paths).approve and read_state(paths).budget["hours"] == 4.0


@pytest.mark.slow
def test_a_restart_cannot_change_settings_that_affect_the_metric(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    with engine(project, researcher="human", slots="cpu:1", run_budget="8s") as paths:
        wait_state(paths, lambda s: s.baseline, "the baseline")
        kill_engine(paths)
        for asked, word in (
            (EngineOptions(run_budget="9s"), "[budget] run"),
            (EngineOptions(seed=9), "seed"),
            (EngineOptions(seed=0), "seed"),
            (EngineOptions(overrides=("decide.baseline=4", "sandbox.network=true")), "[decide] baseline, [sandbox]"),
        ):
            with pytest.raises(UsageError, match="cannot change in a session that has begun") as refusal:
                start_engine(paths, asked)
            assert word in str(refusal.value) and refusal.value.hint
        assert load_options(paths) == EngineOptions(researcher="human", slots="cpu:1", run_budget="8s")
        start_engine(paths, EngineOptions(run_budget="8s", overrides=("sandbox.limits_only=true",)))
        wait_state(paths, lambda s: s.state == "running", "the session running with the same settings")


def test_a_session_that_began_with_a_clock_by_the_wall_keeps_it(tmp_path: Path) -> None:
    """One of an older version, whose program.md chose no clock; its kept options did not either."""
    by_the_wall = ("budget.clock=wall",)
    with engine(make_scored_project(tmp_path / "p"), researcher="human", slots="cpu:1", overrides=by_the_wall) as paths:
        wait_state(paths, lambda s: s.experiments.get(0) and s.experiments[0].runs, "a run")
        kill_engine(paths)
        save_options(paths, RESTED)
        start = prepare(paths, EngineOptions(researcher="human", slots="cpu:1"))
        start.setup.locks.release()
        assert str(start.program.run_budget("cpu")) == read_state(paths).session.run_budget == "10s"  # type: ignore[union-attr]
        save_options(paths, start.options)
        later = prepare(paths, RESTED)
        later.setup.locks.release()
        assert later.program == start.program and later.options == start.options


@pytest.mark.slow
def test_a_session_continues_without_its_options_and_program_files(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    with engine(project, researcher="human", slots="cpu:1", hours=2.0) as paths:
        wait_state(paths, lambda s: s.baseline, "the baseline")
        edit = PROGRAM.replace("Make RATE", "Please make RATE")
        (project / "program.md").write_text(edit)
        accepted(paths, c.Propose(hypothesis="nearer", patch=patch("0.5", "0.45")))
        wait_state(paths, lambda s: s.program_changes == 1, "the edit")
        paths.settings.write_text("junk")
        paths.program.unlink()
        state = restarted(paths, EngineOptions(researcher="human"))
        assert state.budget["hours"] == 2.0 and state.program == edit and state.program_changes == 1
        paths.settings.unlink()
        assert restarted(paths, EngineOptions(researcher="human", run_budget="10s")).budget["hours"] == 2.0
        # A manually edited copy is in force until the engine looks at the project's own, and the log says so.
        paths.program.write_text(edit.replace("Please", "Kindly"))
        restarted(paths)
        assert any("Kindly" in change.program for change in bodies(paths, e.ProgramChanged))
