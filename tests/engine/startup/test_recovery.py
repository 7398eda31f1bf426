"""kill -9 of the engine at any moment: no event is lost, no run is judged twice, git follows the log."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from core.client import read_events, read_state, start_engine
from core.record import events as e
from core.record.errors import SessionBusy
from core.session.lock import engine_alive, lock_holder
from core.session.options import EngineOptions
from core.session.paths import SessionPaths
from tests.engine.support import (
    bodies,
    engine,
    final_verdicts,
    kill_engine,
    slot_seconds,
    wait_end,
    wait_for,
    wait_state,
)
from tests.projects import TRAIN, git, make_project, rate, write_script


def _project(tmp_path: Path, seconds: float) -> tuple[Path, Path]:
    project = make_project(tmp_path / "p", train=TRAIN.replace("SECONDS = 0.05", f"SECONDS = {seconds}"))
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", f"0.{n}") for n in (45, 9, 40, 8, 35, 7)])
    return project, script


def _check_whole(paths: SessionPaths) -> None:
    """Check the invariants of a session, which hold after any fault of its engines."""
    judged = final_verdicts(paths)
    assert len(judged) == len(set(judged)), "an experiment was judged twice"
    seqs = [event.seq for event in read_events(paths)]
    assert seqs == list(range(1, len(seqs) + 1))
    state = wait_end(paths)
    slot_seconds(paths)
    assert git(paths.project, "rev-parse", paths.branch) == state.best_commit
    for number, x in state.experiments.items():
        if number and x.commit:
            assert git(paths.project, "rev-parse", f"refs/autoresearch/{paths.name}/{number}") == x.commit


def test_a_run_in_flight_is_adopted(tmp_path: Path) -> None:
    project, script = _project(tmp_path, 2.5)
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", experiments=1) as paths:
        state = wait_state(paths, lambda s: any(r.phase == "training" for r in s.live_runs()), "a run with a clock")
        run = state.live_runs()[0].run
        kill_engine(paths)
        seen = slot_seconds(paths)["cpu0"]
        with engine(project):
            state = wait_end(paths)
    runs = {r.run: r for x in state.experiments.values() for r in x.runs}
    assert runs[run].ended == "done", "the run in flight was not adopted"
    spent = slot_seconds(paths)["cpu0"]
    trained = spent["training"] - seen["training"] + spent.get("retries", 0.0)  # a starved run is measured again
    assert trained > 2.5 * (state.next_run - 1 - run), "what trained unseen counts"
    assert spent["retries"] == 0
    assert any("adopted" in action for body in bodies(paths, e.Recovered) for action in body.actions)
    assert state.state == "finished"
    _check_whole(paths)


def test_an_engine_with_adopted_baseline_runs_stops_on_request(tmp_path: Path) -> None:
    """The engine must not wait for runs that had not begun when the slots closed."""
    project, script = _project(tmp_path, 30.0)
    with engine(project, researcher="scripted", script=str(script), slots="cpu:2") as paths:
        wait_state(paths, lambda s: sum(r.phase == "training" for r in s.live_runs()) == 2, "two runs with a clock")
        kill_engine(paths)
        with engine(project):
            wait_state(paths, lambda s: s.state == "running" and s.live_runs(), "the runs to be adopted")
            kill_engine(paths, signal.SIGTERM)
    assert read_state(paths).state == "stopped"


def test_a_run_with_a_dead_shim_is_abandoned_and_repeated(tmp_path: Path) -> None:
    project, script = _project(tmp_path, 1.5)
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", experiments=1) as paths:
        state = wait_state(paths, lambda s: any(r.phase == "training" for r in s.live_runs()), "a run with a clock")
        run = state.live_runs()[0].run
        kill_engine(paths)
        status = (paths.run(run) / "status.json").read_text()
        shim = int(status.split('"shim"')[1].split("[")[1].split(",")[1])
        os.kill(shim, 9)
        with engine(project):
            state = wait_end(paths)
    runs = {r.run: r for x in state.experiments.values() for r in x.runs}
    assert runs[run].ended == "abandoned"
    assert state.baseline is not None and state.baseline.n == 3
    assert state.experiments[1].verdict == "kept"
    _check_whole(paths)


def test_git_refs_behind_the_log_are_repaired(tmp_path: Path) -> None:
    project, script = _project(tmp_path, 0.05)
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", experiments=2) as paths:
        wait_end(paths)
    # The state after the engine ended between writing the log and git.
    git(project, "update-ref", "refs/heads/autoresearch/s", git(project, "rev-parse", "HEAD"))
    git(project, "update-ref", "-d", "refs/autoresearch/s/1")
    with engine(project, experiments=3):
        state = wait_end(paths)
    actions = [a for body in bodies(paths, e.Recovered) for a in body.actions]
    assert any("moved the branch" in a for a in actions) and any("kept #1" in a for a in actions)
    assert state.total == 3
    _check_whole(paths)


@pytest.mark.slow
def test_an_engine_killed_at_random_moments_loses_nothing(tmp_path: Path) -> None:
    project, script = _project(tmp_path, 0.3)
    chance = random.Random(7)
    paths = SessionPaths(project, "s")
    options = EngineOptions(researcher="scripted", script=str(script), slots="cpu:2")
    for _ in range(15):
        start_engine(paths, options)
        pause = chance.uniform(0.0, 1.5)
        deadline = time.monotonic() + pause
        wait_for(lambda deadline=deadline: time.monotonic() > deadline or not engine_alive(paths), "a moment", 30)  # type: ignore[misc]
        if not engine_alive(paths):
            break
        kill_engine(paths)
    with engine(project):
        state = wait_end(paths)
    assert state.state == "finished"
    proposed = [x.hypothesis for n, x in sorted(state.experiments.items()) if n and x.hypothesis]
    assert proposed == [f"RATE 0.5 to 0.{n} lowers the loss" for n in (45, 9, 40, 8, 35, 7)]
    assert all(x.verdict for n, x in state.experiments.items() if n)
    _check_whole(paths)


def test_a_second_engine_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    project, script = _project(tmp_path, 1.0)
    with engine(project, researcher="scripted", script=str(script)) as paths:
        with pytest.raises(SessionBusy) as refused:
            start_engine(paths)
        assert refused.value.pid == lock_holder(paths)
        assert str(refused.value.pid) in refused.value.what
