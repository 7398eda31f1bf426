"""Changes of a person in a running session: budgets, slots, researcher, program.md, pause and stop."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.client import read_state, request, start_engine
from core.record import commands as c
from core.record import events as e
from core.record.slot_time import device_time
from core.session.lock import engine_alive
from core.session.options import EngineOptions
from core.session.paths import SessionPaths
from core.views import status
from tests.engine.support import (
    FOREVER,
    accepted,
    bodies,
    engine,
    judged,
    kill_engine,
    patch,
    refused,
    wait_end,
    wait_state,
)
from tests.projects import PROGRAM, TRAIN, git, make_project, rate, write_script


@pytest.mark.slow
def test_changed_budgets_slots_and_researcher_persist(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.45"), rate("0.45", "0.4", seconds=FOREVER)])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", experiments=50) as paths:
        wait_state(paths, lambda s: 2 in s.experiments and s.experiments[1].phase == "judged", "a second thought")
        for bad in (c.ChangeBudget(hours=0), c.ChangeBudget(experiments=-3), c.ChangeBudget(usd=float("nan"))):
            assert "hint:" in refused(paths, bad)
        refused(paths, c.ChangeBudget())
        assert "4 experiments" in accepted(paths, c.ChangeBudget(experiments=4))
        assert "already" in refused(paths, c.ChangeSlots("cpu:1"))
        assert "hint:" in refused(paths, c.ChangeSlots("tpu:1"))
        accepted(paths, c.ChangeSlots("cpu:2"))
        assert "telepath" in refused(paths, c.ChangeResearcher("telepath"))
        assert "ANTHROPIC_API_KEY" in refused(paths, c.ChangeResearcher("claude"))
        assert "control proposes" in accepted(paths, c.ChangeResearcher("control"))
        state = wait_state(paths, lambda s: s.researcher == "control", "the new researcher")
        assert state.slots == ("cpu0", "cpu1") and state.budget["experiments"] == 4
        assert state.experiments[2].researcher == "scripted", "thinking in progress is not interrupted"
        kill_engine(paths)
        with engine(project):  # without repeating the option
            state = wait_end(paths)
    assert state.state == "finished" and state.total == 4 and "4 experiments" in state.reason
    assert (state.researcher, state.slots) == ("control", ("cpu0", "cpu1"))
    assert {state.experiments[n].researcher for n in (3, 4)} == {"control"}


@pytest.mark.slow
def test_pause_now_interrupts_runs_and_stop_after_counts_experiments(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train=TRAIN.replace("SECONDS = 0.05", "SECONDS = 0.5"))
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", f"0.9{n}") for n in range(1, 9)])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        for _ in range(4):  # more often than a baseline is attempted
            wait_state(paths, lambda s: s.state == "running" and s.live_runs(), "a run")
            if request(paths, c.Pause(now=True)).message.startswith("paused: 0"):
                accepted(paths, c.Resume())
                continue
            wait_state(paths, lambda s: s.state == "paused" and not s.live_runs(), "a pause with nothing running")
            refused(paths, c.Pause(now=True))
            accepted(paths, c.Resume())
        state = wait_state(paths, lambda s: s.baseline, "a baseline all the same")
        ended = [run.ended for x in state.experiments.values() for run in x.runs]
        assert "abandoned" in ended and state.baseline is not None and state.baseline.n == 3
        refused(paths, c.Stop(after=0))
        before = wait_state(paths, lambda s: s.judged >= 1, "a verdict").judged
        assert "2 more experiments" in accepted(paths, c.Stop(after=2))
        assert "will not stop" in accepted(paths, c.Resume())
        before = wait_state(paths, lambda s: s.live_runs(), "a run").judged
        accepted(paths, c.Stop(after=2))
        kill_engine(paths)  # the request persists when the engine ends
        start_engine(paths)
        state = wait_end(paths)
    assert state.state == "stopped" and "as asked" in state.reason
    assert before + 2 <= state.judged <= before + 3, "a verdict may have fallen before the request"
    assert state.total == state.judged, "nothing was begun in vain"


EDITED = PROGRAM.replace('run = "10s"\n', 'run = "10s"\nexperiments = 3\n[rules]\nmax_diff_lines = 2\n')


def test_program_md_changes_during_a_session(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.4", seconds=FOREVER)])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_state(paths, lambda s: s.baseline and 1 in s.experiments, "a baseline, and a thought")
        (project / "program.md").write_text(EDITED)
        long = patch("0.5", "0.45\n+# why\n+# and how").replace("+5 @@", "+5,3 @@")
        assert "allows 2" in refused(paths, c.Propose(hypothesis="too long", patch=long))
        state = wait_state(paths, lambda s: s.program_changes == 1, "the edited program")
        assert state.program == EDITED and state.budget["experiments"] == 3
        (change,) = bodies(paths, e.ProgramChanged)
        assert "+max_diff_lines = 2" in change.diff

        # An invalid or unreadable program.md is refused once with a reason, and the old one stays in force.
        (project / "program.md").write_text(EDITED.replace('name = "loss"', 'name = "error"'))
        accepted(paths, c.Propose(hypothesis="nearer", patch=patch("0.5", "0.45")))
        assert judged(paths, 2).experiments[2].verdict == "kept"
        (project / "program.md").write_text(EDITED.replace("edit = [", "edit = "))
        accepted(paths, c.Propose(hypothesis="nearer still", patch=patch("0.45", "0.4")))
        state = judged(paths, 3)
        said = [body.refused for body in bodies(paths, e.ProgramChanged) if body.refused]
        assert "new session" in said[0] and "program.md:2" in said[1] and len(said) == 2
        assert state.program == EDITED and state.metric.name == "loss"
        assert any("not in force" in note.text for note in state.notes)
        assert "3 experiments" in refused(paths, c.Propose(hypothesis="one too many", patch=patch("0.4", "0.3")))
        accepted(paths, c.Stop(now=True))
        wait_end(paths)
    assert (paths.folder / "program.md").read_text() == EDITED, "the next engine goes by it"


def test_the_dollar_budget_is_never_exceeded(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    costs = ({"input_tokens": 5}, {"usd": 1.0}, {"usd": 0.8}, {"usd": 1.0}, {"usd": 1.0})
    lines = [rate("0.5", f"0.{n}", usage=usage) for n, usage in zip(range(9, 4, -1), costs, strict=True)]
    lines[-1] = rate("0.5", "0.55", usage=costs[-1])
    script = write_script(tmp_path / "s.jsonl", lines)
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", usd=3.5) as paths:
        state = wait_end(paths)
    assert state.state == "finished" and state.total == 4 and state.usd == pytest.approx(2.8)
    assert "one more proposal costs about $1.00" in state.reason
    assert any("what scripted costs is not known" in note.text for note in state.notes)


def test_the_dollars_of_the_device_count_and_end_the_session(tmp_path: Path) -> None:
    """At a dollar a second: what waits does not begin once the budget is spent, and what runs is judged."""
    project = make_project(tmp_path / "p", train=TRAIN.replace("SECONDS = 0.05", "SECONDS = 0.6"))
    script = write_script(
        tmp_path / "s.jsonl", [rate("0.5", f"0.{n}", usage={"usd": 0.01}) for n in range(900, 500, -1)]
    )
    price = ("budget.device_usd_per_hour=3600",)
    with engine(project, researcher="scripted", script=str(script), slots="cpu:2", usd=6.0, overrides=price) as paths:
        state = wait_end(paths)
    hours, usd = device_time(state, state.time)
    assert state.state == "finished" and "$6.00" in state.reason, state.reason
    assert usd == pytest.approx(hours * 3600) and state.usd < 1 < usd, "two slots of a machine are one device"
    assert usd + state.usd < 6.0 + 30.0, "it goes on for long after the budget"
    assert not any(x.runs and x.verdict == "abandoned" for x in state.experiments.values())
    assert status(state, False, state.time)["device"]["usd"] == pytest.approx(usd, abs=1e-3)


def test_a_person_as_the_researcher_gets_as_many_experiments_as_the_budget_has(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")

    def own(paths: SessionPaths, new: str) -> int:
        edit = {"path": "train.py", "search": "RATE = 0.5", "replace": f"RATE = {new}"}
        before = read_state(paths).next_experiment
        assert "your experiment" in accepted(paths, c.Propose(hypothesis=f"RATE {new}", edits=(edit,)))
        return before

    with engine(project, researcher="human", experiments=2, slots="cpu:2") as paths:
        wait_state(paths, lambda s: s.baseline and s.experiments.get(1), "a wait for a person")
        accepted(paths, c.Idea("a wider model"))
        judged(paths, own(paths, "0.52"))  # no better: nothing is built on it
        own(paths, "0.53")
        state = wait_end(paths)
        assert state.state == "finished" and state.reason == "the budget of 2 experiments is spent"
        assert sum(x.commit is not None for n, x in state.experiments.items() if n) == 2
        assert state.experiments[1].verdict == "abandoned"
        # A resume with a larger budget counts the same: the wait was no experiment.
        start_engine(paths, EngineOptions(experiments=3))
        judged(paths, own(paths, "0.54"))
        assert wait_end(paths).state == "finished"


@pytest.mark.slow
def test_a_session_does_not_end_between_the_commit_and_the_run_of_a_persons_experiment(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    git(project, "config", "core.filesRefLockTimeout", "60000")
    refs = project / ".git" / "refs" / "autoresearch" / "s"
    edit = {"path": "train.py", "search": "RATE = 0.5", "replace": "RATE = 0.52"}
    with engine(project, researcher="human", experiments=1, slots="cpu:1") as paths, ThreadPoolExecutor() as pool:
        wait_state(paths, lambda s: s.baseline and s.experiments.get(1), "a wait for a person")
        lock = refs / "2.lock"  # git waits for it before it makes the experiment's ref
        refs.mkdir(parents=True, exist_ok=True)
        lock.touch()
        answer = pool.submit(accepted, paths, c.Propose(hypothesis="RATE 0.52", edits=(edit,)))
        wait_state(paths, lambda s: 2 in s.experiments and s.experiments[2].commit, "the experiment's commit")
        over = time.monotonic() + 2.2  # the engine looks at its budget each second
        while time.monotonic() < over:
            assert engine_alive(paths), read_state(paths).reason
            time.sleep(0.1)
        lock.unlink()
        assert "your experiment" in answer.result()
        state = wait_end(paths)
    assert state.experiments[2].phase == "judged" and state.reason == "the budget of 1 experiment is spent"


def test_a_session_whose_researcher_becomes_a_person_ends_with_its_budget(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.45"), rate("0.45", "0.4", seconds=FOREVER)])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", experiments=2) as paths:
        judged(paths, 1)
        wait_state(paths, lambda s: 2 in s.experiments, "the last thought")
        assert "2 experiments is spent" in refused(paths, c.Propose(hypothesis="one more", patch=patch("0.45", "0.4")))
        accepted(paths, c.Skip(2))
        assert wait_end(paths).reason == "the budget of 2 experiments is spent"
        start_engine(paths, EngineOptions(researcher="human", experiments=3))
        wait_state(paths, lambda s: 3 in s.experiments, "a wait for a person")
        accepted(paths, c.Pause())
        accepted(paths, c.Propose(hypothesis="nearer", patch=patch("0.45", "0.44")))
        assert "spent" in refused(paths, c.Propose(hypothesis="once more", patch=patch("0.45", "0.43")))
        accepted(paths, c.Resume())
        state = wait_end(paths)
    assert state.state == "finished" and "3 experiments" in state.reason
