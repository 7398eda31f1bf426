"""Steering of a running session: guidance, experiments of a person, forks, pins, repeats, approvals."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.client import read_state
from core.record import commands as c
from core.record import events as e
from core.session.paths import SessionPaths
from tests.conftest import own_state
from tests.engine.support import (
    FOREVER,
    PATIENCE,
    accepted,
    bodies,
    engine,
    events_named,
    judged,
    kill_engine,
    patch,
    refused,
    wait_end,
    wait_for,
    wait_state,
)
from tests.projects import TRAIN, git, make_project, rate, write_script


def branch_at(project: Path, commit: str | None) -> None:
    """Wait until the branch is at the commit: git follows the log after a moment."""
    wait_for(lambda: git(project, "rev-parse", "autoresearch/s") == commit, f"the branch at {commit}")


@pytest.fixture(autouse=True, scope="module")
def state_folder() -> Iterator[Path]:
    """One folder for all tests of this file, because they share an engine."""
    with own_state() as folder:
        yield folder


@pytest.fixture(scope="module")
def session(state_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionPaths]:
    """A session with a baseline. Its researcher thinks about experiment 1 until the test skips it."""
    folder = tmp_path_factory.mktemp("steering")
    edits = [{"path": "train.py", "content": TRAIN.replace("RATE = 0.5", "RATE = 0.95")}]  # valid for any parent
    thought = rate("0.5", "0.96", seconds=FOREVER, thinking="long " * 9)
    script = write_script(folder / "s.jsonl", [thought, {"hypothesis": "much higher", "edits": edits}, thought])
    with engine(make_project(folder / "p"), researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_state(paths, lambda s: s.baseline and 1 in s.experiments, "a baseline, and a thought")
        yield paths


def rate_of(paths: SessionPaths, commit: str | None) -> str:
    """RATE in train.py of `commit`."""
    assert commit is not None
    return git(paths.project, "show", f"{commit}:train.py").split("RATE = ")[1].split()[0]


def proposed(paths: SessionPaths, hypothesis: str, new: str, by_edits: bool = False) -> int:
    """Propose an experiment that sets RATE to `new`, wait for its verdict and return its number."""
    state = read_state(paths)
    on = state.experiments[state.best if state.base is None else state.base]
    old = rate_of(paths, on.commit)
    edit = {"path": "train.py", "search": f"RATE = {old}", "replace": f"RATE = {new}"}
    command = (
        c.Propose(hypothesis=hypothesis, edits=(edit,))
        if by_edits
        else c.Propose(hypothesis=hypothesis, patch=patch(old, new))
    )
    said = re.search(r"your experiment is #(\d+)", accepted(paths, command))
    assert said is not None
    number = int(said[1])
    judged(paths, number)
    return number


@pytest.fixture(scope="module")
def nearer(session: SessionPaths) -> int:
    """The number of a kept experiment."""
    return proposed(session, "nearer", "0.45")


@pytest.fixture(scope="module")
def nearest(session: SessionPaths, nearer: int) -> int:
    """The number of a better kept experiment."""
    return proposed(session, "nearer still", "0.4")


@pytest.fixture(scope="module")
def farther(session: SessionPaths, nearest: int) -> int:
    """The number of a discarded experiment."""
    return proposed(session, "farther", "0.9", by_edits=True)


@pytest.mark.slow
def test_guidance_is_queued_edited_withdrawn_and_taken(session: SessionPaths) -> None:
    assert "guidance 1" in accepted(session, c.Steer("use a smaler rate"))
    accepted(session, c.EditGuidance(1, "use a smaller rate"))
    assert "no guidance 9" in refused(session, c.EditGuidance(9, "x"))
    refused(session, c.EditGuidance(1, "  "))
    accepted(session, c.Steer("never mind"))
    accepted(session, c.Withdraw(2))
    assert "idea 3" in accepted(session, c.Idea("try a rate of a third"))
    assert "1 earlier idea" in accepted(session, c.Idea("try a rate of a quarter"))
    begun = time.monotonic()
    assert "interrupts the thinking about experiment 1" in accepted(session, c.Steer("only RATE", now=True))
    wait_state(session, lambda s: len(_started(session, 1)) == 2, "the thought begun again")
    assert _started(session, 1)[1].time - events_named(session, e.GuidanceQueued)[-1].time < 10
    assert time.monotonic() - begun < 60
    accepted(session, c.Skip(1))
    state = wait_state(session, lambda s: s.guidance[3].taken_by, "the words taken")
    taker = state.experiments[state.guidance[3].taken_by or 0]
    assert state.guidance[1].taken_by == taker.number and taker.researcher == "scripted", "who took it is on record"
    assert state.guidance[4].taken_by is None, "one idea at a time"
    assert 2 not in state.guidance


@pytest.mark.slow
def test_a_persons_experiment_is_judged_and_an_invalid_one_is_refused(
    session: SessionPaths, nearer: int, nearest: int, farther: int
) -> None:
    state = read_state(session)
    assert [state.experiments[n].verdict for n in (nearer, nearest, farther)] == ["kept", "kept", "discarded"]
    assert {state.experiments[n].researcher for n in (nearer, nearest, farther)} == {"human"}
    assert state.experiments[farther].parent == nearest
    said = refused(session, c.Propose(hypothesis="stale", patch=patch("0.5", "0.44")))
    assert "train.py, hunk 1 of 1" in said and "RATE = 0.5" in said and "hint:" in said
    edits = ({"path": "program.md", "search": "A test", "replace": "x"},)
    assert "may not be edited" in refused(session, c.Propose(hypothesis="elsewhere", edits=edits))
    assert "not both" in refused(session, c.Propose(hypothesis="nothing"))


@pytest.mark.slow
def test_pinning_the_best_makes_the_next_result_the_best(session: SessionPaths, nearer: int, nearest: int) -> None:
    """The branch moves to the new best, and proposals build on it."""
    refused(session, c.Pin(0))
    assert f"build on #{nearer}" in accepted(session, c.Pin(nearest))
    refused(session, c.Pin(nearest))
    refused(session, c.Fork(nearest))
    state = wait_state(session, lambda s: s.best == nearer, "the next best leading")
    branch_at(session.project, state.experiments[nearer].commit)
    accepted(session, c.Pin(nearest, pinned=False))
    state = wait_state(session, lambda s: s.best == nearest, "the best after the unpin")
    branch_at(session.project, state.experiments[nearest].commit)


@pytest.mark.slow
def test_a_repeat_uses_a_new_seed_and_is_pooled(session: SessionPaths, farther: int) -> None:
    before = read_state(session).experiments[farther]
    accepted(session, c.Repeat(farther))
    refused(session, c.Repeat(1))
    state = wait_state(session, lambda s: len(s.experiments[farther].values) == 2, "a repeat")
    x = state.experiments[farther]
    assert x.verdict == "discarded" and len({r.seed for r in x.runs}) == 2
    assert x.metric == pytest.approx(sum(x.values) / 2) and x.metric != before.metric


@pytest.mark.slow
def test_a_fork_builds_on_its_base_and_can_become_the_best(session: SessionPaths, nearest: int, farther: int) -> None:
    """This is the last test that shares the engine: the best has changed at its end."""
    refused(session, c.Fork(77))
    assert "already" in refused(session, c.Fork(None))
    accepted(session, c.Fork(farther))
    less = proposed(session, "less far", "0.8")
    state = wait_state(session, lambda s: s.base == less, "the base of the fork")
    x = state.experiments[less]
    assert (x.parent, x.verdict, state.best) == (farther, "discarded", nearest)
    leap = proposed(session, "a leap", "0.32")
    state = wait_state(session, lambda s: s.best == leap, "a fork that leads")
    assert state.base is None and state.experiments[leap].parent == less and not state.experiments[leap].rebased
    branch_at(session.project, state.best_commit)


@pytest.mark.slow
def test_an_experiment_skipped_at_its_start_gets_no_proposal(tmp_path: Path) -> None:
    """The skip works at any moment, also while the brief is being prepared."""
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.4", seconds=FOREVER)] * 20)
    with engine(make_project(tmp_path / "p"), researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_state(paths, lambda s: s.engine_open, "the session")
        deadline = time.monotonic() + PATIENCE
        for number in range(1, 20):
            while number not in read_state(paths).experiments:  # without a pause: the moment is short
                assert time.monotonic() < deadline, f"experiment {number} never began"
            accepted(paths, c.Skip(number))
            assert judged(paths, number).experiments[number].verdict == "skipped"


def _started(paths: SessionPaths, number: int) -> list[e.Event]:
    return [
        event
        for event in events_named(paths, e.ExperimentStarted)
        if isinstance(event.body, e.ExperimentStarted) and event.body.experiment == number
    ]


@pytest.mark.slow
def test_pending_approvals_survive_a_restart_and_other_slots_continue(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", f"0.{n}") for n in (45, 9, 8, 7, 65, 6)])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:2", experiments=6) as paths:
        accepted(paths, c.ApproveMode(True))
        refused(paths, c.ApproveMode(True))
        state = wait_state(paths, lambda s: len(s.approvals) == 2, "two cards: one for each slot")
        first, second = state.approvals
        assert not state.experiments[first].runs
        kill_engine(paths)
        with engine(project):
            state = wait_state(paths, lambda s: s.engine_open and s.state == "running", "the session running again")
            assert state.approve and state.approvals == (first, second)
            accepted(paths, c.Propose(hypothesis="not asked about", patch=patch("0.5", "0.31")))
            edits = ({"path": "train.py", "search": "RATE = 7", "replace": "RATE = 8"},)
            assert "not found" in refused(paths, c.Approve(first, edits=edits))
            edits = ({"path": "train.py", "search": "RATE = 0.5", "replace": "RATE = 0.55"},)
            accepted(paths, c.Approve(first, edits=edits))
            accepted(paths, c.Reject(second, "too timid"))
            state = judged(paths, first)
            assert state.experiments[first].runs[0].commit == git(project, "rev-parse", f"refs/autoresearch/s/{first}")
            assert "RATE = 0.55" in git(project, "show", f"{state.experiments[first].commit}:train.py")
            assert "too timid" in judged(paths, second).experiments[second].reason
            state = wait_state(paths, lambda s: len(s.approvals) >= 1, "another card")
            message = accepted(paths, c.Approve(state.approvals[0], all=True))
            assert "what comes" in message
            state = wait_end(paths)
    assert state.state == "finished" and state.total == 6 and not state.approve
    asked = [body.experiment for body in bodies(paths, e.ApprovalRequested)]
    own = next(n for n, x in state.experiments.items() if x.researcher == "human")
    assert own not in asked and state.experiments[own].verdict == "kept"
    assert len(asked) == len(set(asked)) < 5
