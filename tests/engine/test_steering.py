"""A person's hand in a running session: words, experiments of their own, forks, pins, repeats, approvals."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from core.client import request
from core.record import commands as c
from core.record import events as e
from core.record.state import State
from core.session import SessionPaths
from tests.engine.support import engine, events_named, kill_engine, wait_end, wait_for, wait_state
from tests.projects import git, make_project, rate, write_script

FOREVER = 3600.0  # seconds of a thought that somebody else ends


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)


def accepted(paths: SessionPaths, command: c.Command) -> str:
    reply = request(paths, command)
    assert reply.accepted, reply.message
    return reply.message


def refused(paths: SessionPaths, command: c.Command) -> str:
    reply = request(paths, command)
    assert not reply.accepted, reply.message
    return reply.message


def patch(old: str, new: str) -> str:
    return f"--- a/train.py\n+++ b/train.py\n@@ -5 +5 @@\n-RATE = {old}  # best at 0.3\n+RATE = {new}  # best at 0.3\n"


def branch_at(project: Path, commit: str | None) -> None:
    """Git follows the log: the branch is there a moment after the event."""
    wait_for(lambda: git(project, "rev-parse", "autoresearch/s") == commit, f"the branch at {commit}")


def judged(paths: SessionPaths, number: int) -> State:
    return wait_state(
        paths,
        lambda s: number in s.experiments and s.experiments[number].phase == "judged",
        f"the last word on {number}",
    )


@pytest.mark.slow
def test_words_and_experiments_of_ones_own(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    script = write_script(
        tmp_path / "s.jsonl", [rate("0.5", "0.4", seconds=FOREVER, thinking="long " * 9), rate("0.32", "0.36")]
    )
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_state(paths, lambda s: s.baseline and 1 in s.experiments, "a baseline, and a thought")
        # Words: queued, changed, withdrawn, and one that interrupts the thinking at once.
        assert "guidance 1" in accepted(paths, c.Steer("use a smaler rate"))
        accepted(paths, c.EditGuidance(1, "use a smaller rate"))
        assert "no guidance 9" in refused(paths, c.EditGuidance(9, "x"))
        refused(paths, c.EditGuidance(1, "  "))
        accepted(paths, c.Steer("never mind"))
        accepted(paths, c.Withdraw(2))
        assert "idea 3" in accepted(paths, c.Idea("try a rate of a third"))
        assert "1 earlier idea" in accepted(paths, c.Idea("try a rate of a quarter"))
        begun = time.monotonic()
        assert "interrupts the thinking about experiment 1" in accepted(paths, c.Steer("only RATE", now=True))
        wait_state(paths, lambda s: len(_started(paths, 1)) == 2, "the thought begun again")
        assert _started(paths, 1)[1].time - events_named(paths, e.GuidanceQueued)[-1].time < 1.0
        assert time.monotonic() - begun < 30

        # Experiments of one's own, by patch and by edits; each refusal says what, where and the mend.
        assert "your experiment is #2" in accepted(paths, c.Propose("nearer", patch=patch("0.5", "0.45")))
        assert judged(paths, 2).best == 2
        said = refused(paths, c.Propose("stale", patch=patch("0.5", "0.44")))
        assert "train.py, hunk 1 of 1" in said and "RATE = 0.5" in said and "mend:" in said
        edits = ({"path": "program.md", "search": "A test", "replace": "x"},)
        assert "may not be edited" in refused(paths, c.Propose("elsewhere", edits))
        assert "not both" in refused(paths, c.Propose("nothing"))
        edits = ({"path": "train.py", "search": "RATE = 0.45", "replace": "RATE = 0.9"},)
        accepted(paths, c.Propose("farther", edits, kind="optimizer"))
        state = judged(paths, 3)
        assert (state.experiments[3].verdict, state.experiments[3].researcher) == ("discarded", "human")

        # What is built on: a fork goes on from what is better than its base, and ends where a person says.
        refused(paths, c.Fork(77))
        assert "already" in refused(paths, c.Fork(None))
        accepted(paths, c.Fork(3))
        accepted(paths, c.Propose("less far", patch=patch("0.9", "0.8")))
        state = wait_state(paths, lambda s: s.base == 4, "the fork going on")
        assert (state.experiments[4].parent, state.experiments[4].verdict, state.best) == (3, "discarded", 2)
        accepted(paths, c.Propose("a leap", patch=patch("0.8", "0.32")))
        state = wait_state(paths, lambda s: s.best == 5, "a fork that leads")
        assert state.base is None and state.experiments[5].parent == 4 and not state.experiments[5].rebased
        branch_at(project, state.best_commit)

        # Pinned: the next best leads, the branch follows, and what is proposed builds on that.
        refused(paths, c.Pin(0))
        assert "build on #2" in accepted(paths, c.Pin(5))
        refused(paths, c.Pin(5))
        refused(paths, c.Fork(5))
        state = wait_state(paths, lambda s: s.best == 2, "the next best leading")
        branch_at(project, state.experiments[2].commit)
        accepted(paths, c.Pin(5, pinned=False))

        # Once more with a fresh seed, pooled.
        before = judged(paths, 3).experiments[3]
        accepted(paths, c.Repeat(3))
        refused(paths, c.Repeat(1))
        state = wait_state(paths, lambda s: len(s.experiments[3].values) == 2, "a repeat")
        x = state.experiments[3]
        assert x.verdict == "discarded" and len({r.seed for r in x.runs}) == 2
        assert x.metric == pytest.approx(sum(x.values) / 2) and x.metric != before.metric

        accepted(paths, c.Skip(1))
        state = wait_end(paths)
    assert state.guidance[1].taken_by == state.guidance[3].taken_by == 6, "who took it is on record"
    assert state.guidance[4].taken_by is None, "one idea at a time"
    assert 2 not in state.guidance


def _started(paths: SessionPaths, number: int) -> list[e.Event]:
    return [
        event
        for event in events_named(paths, e.ExperimentStarted)
        if isinstance(event.body, e.ExperimentStarted) and event.body.experiment == number
    ]


@pytest.mark.slow
def test_approvals_survive_and_other_slots_go_on(tmp_path: Path) -> None:
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
            state = wait_state(paths, lambda s: s.engine_open and s.state == "running", "the session going on")
            assert state.approve and state.approvals == (first, second)
            accepted(paths, c.Propose("not asked about", patch=patch("0.5", "0.31")))
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
    asked = [event.body.experiment for event in events_named(paths, e.ApprovalRequested)]  # type: ignore[union-attr]
    own = next(n for n, x in state.experiments.items() if x.researcher == "human")
    assert own not in asked and state.experiments[own].verdict == "kept"
    assert len(asked) == len(set(asked)) < 5
