"""The queue of waiting proposals: its length, its order, and what becomes of it when proposals build on another one."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest

from core.client import read_events, read_state
from core.record import commands as c
from core.record import events as e
from core.record.fold import fold
from core.record.state import State
from core.session.paths import SessionPaths
from tests.engine.support import (
    FOREVER,
    accepted,
    bodies,
    engine,
    final_verdicts,
    kill_engine,
    patch,
    refused,
    wait_end,
    wait_state,
)
from tests.projects import PROGRAM, TRAIN, git, make_project, rate, write_script

LONG = PROGRAM.replace('run = "10s"', 'run = "2h"')
OFFSET = TRAIN.replace("SECONDS = 0.05", "\n\nOFFSET = 0.0\n\n\nSECONDS = 0.05").replace("1.0 + (", "1.0 + OFFSET + (")
ENDLESS = {"path": "train.py", "search": "SECONDS = 0.05", "replace": "SECONDS = 7200"}


def edit(name: str, old: str, new: str, **more: object) -> dict[str, object]:
    edits = [{"path": "train.py", "search": f"{name} = {old}", "replace": f"{name} = {new}"}]
    return {"hypothesis": f"{name} from {old} to {new}", "edits": edits, **more}


def code(paths: SessionPaths, state: State, number: int) -> str:
    """train.py of an experiment."""
    return git(paths.project, "show", f"{state.experiments[number].commit}:train.py")


def most_at_once(paths: SessionPaths) -> tuple[int, int]:
    """The most thoughts at once, and the most thoughts and waiting proposals together."""
    state, thoughts, both = State(), 0, 0
    for event in read_events(paths):
        fold(state, event)
        made = sum(n != 0 and not state.experiments[n].commit for n in state.live)
        thoughts, both = max(thoughts, made), max(both, made + len(state.queue))
    return thoughts, both


@pytest.mark.slow
def test_waiting_proposals_are_ordered_deleted_re_applied_and_survive_a_kill(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train=OFFSET, program=LONG)
    script = write_script(
        tmp_path / "s.jsonl",
        [
            {"hypothesis": "never ends", "edits": [ENDLESS]},
            rate("0.5", "0.4"),
            edit("OFFSET", "0.0", "0.1"),
            edit("OFFSET", "0.0", "0.2"),
        ],
    )
    options: dict[str, Any] = {"researcher": "scripted", "script": str(script), "slots": "cpu:1"}
    with engine(project, **options) as paths:
        state = wait_state(paths, lambda s: len(s.queue) == 2 and 1 in s.running.values(), "one run and a full queue")
        assert state.queue == (2, 3) and 4 not in state.experiments
        assert accepted(paths, c.MoveWaiting(3, 1)) == "experiment 3 is at place 1 of 2"
        assert "already" in refused(paths, c.MoveWaiting(3, 1)) and "no place" in refused(paths, c.MoveWaiting(3, 0))
        assert "waiting: #3, #2" in refused(paths, c.MoveWaiting(1, 1))
        assert "no experiment 9" in refused(paths, c.DeleteWaiting(9))
        accepted(paths, c.Fork(1))
        state = wait_state(paths, lambda s: [s.experiments[n].parent for n in s.queue] == [1, 1], "both re-applied")
        assert state.queue == (3, 2) and state.experiments[2].forked
        assert "SECONDS = 7200" in code(paths, state, 2) and "RATE = 0.4" in code(paths, state, 2)
        wait_state(paths, lambda s: all(s.experiments[n].phase == "queued" for n in s.queue), "both checked again")
        assert accepted(paths, c.DeleteWaiting(2)) == "experiment 2 is out of the queue; 1 waits"
        state = wait_state(paths, lambda s: s.queue == (3, 4), "the place taken by another proposal")
        assert state.experiments[2].verdict == "skipped" and state.experiments[4].parent == 1
        kill_engine(paths)
    with engine(project, **options) as paths:
        state = wait_state(paths, lambda s: s.state == "running" and 1 in s.running.values(), "the run adopted")
        assert state.queue == (3, 4)
        for number in state.queue:
            accepted(paths, c.DeleteWaiting(number))
        assert read_state(paths).queue == () and "the queue is empty" in refused(paths, c.DeleteWaiting(3))
        accepted(paths, c.Skip(1))
        state = wait_end(paths)
    assert state.state == "finished" and sorted(final_verdicts(paths)) == [1, 2, 3, 4]
    lines = [body.extra["script"] for body in bodies(paths, e.Proposed)]
    assert lines == [0, 1, 2, 3], "each line was played once"


AGENT = """
import re, sys
from pathlib import Path
from typing import Any
prompt = sys.stdin.read()
number = int(re.findall(r"Propose experiment (\\d+)", prompt)[-1])
train = Path("train.py").read_text()
train = re.sub(r"RATE = [0-9.]+", f"RATE = 0.{90 - number}", train)
Path("train.py").write_text(train.replace("SECONDS = 0.05", "SECONDS = 7200") if number == 1 else train)
Path("HYPOTHESIS").write_text(f"the rate of experiment {number}")
print("returned:", "cannot run any more" in prompt, "waiting:", "waiting for a slot" in prompt)
"""


@pytest.mark.slow
def test_what_no_longer_applies_goes_back_with_the_reason_and_counts_once(tmp_path: Path) -> None:
    program = LONG + "\n"
    project = make_project(
        tmp_path / "p", program=program.replace("[budget]", "[ahead]\nqueue = 3\nminds = 1\n[budget]")
    )
    (tmp_path / "agent.py").write_text(AGENT)
    model = f"{sys.executable} {tmp_path / 'agent.py'}"
    with engine(project, researcher="command", model=model, slots="cpu:1", experiments=4) as paths:
        wait_state(paths, lambda s: s.queue == (2, 3, 4) and 1 in s.running.values(), "a full queue")
        accepted(paths, c.Fork(1))
        on_fork = wait_state(
            paths,
            lambda s: len(s.queue) == 3 and all(s.experiments[n].parent == 1 for n in (2, 3, 4)),
            "all proposed again",
        )
        assert {n: on_fork.experiments[n].returns for n in (2, 3, 4)} == {2: 1, 3: 1, 4: 1}
        assert all("SECONDS = 7200" in code(paths, on_fork, n) for n in (2, 3, 4))
        returned = bodies(paths, e.ProposalReturned)
        assert {b.experiment for b in returned} == {2, 3, 4} and "does not apply on #1" in returned[0].reason
        assert "returned: True" in paths.reasoning(2).read_text()
        assert "waiting: True" in paths.reasoning(3).read_text()
        assert on_fork.total == 4
        accepted(paths, c.Stop(now=True))
        state = wait_end(paths)
    assert state.queue[-3:] == on_fork.queue and not final_verdicts(paths)


@pytest.mark.slow
def test_a_waiting_proposal_whose_base_is_pinned_moves_to_another_or_ends_with_the_reason(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train=OFFSET, program=LONG)
    thought = rate("0.4", "0.41", seconds=FOREVER, thinking="long " * 9)
    script = write_script(tmp_path / "s.jsonl", [{"hypothesis": "never ends", "edits": [ENDLESS]}, thought])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_state(paths, lambda s: 1 in s.running.values() and 2 in s.live, "a run, and a thought")
        accepted(paths, c.Propose(hypothesis="a base", patch=patch("0.5", "0.4")))
        accepted(paths, c.Fork(3))
        accepted(paths, c.Propose(hypothesis="on the same line", patch=patch("0.4", "0.38")))
        elsewhere = {"path": "train.py", "search": "OFFSET = 0.0", "replace": "OFFSET = 0.3"}
        accepted(paths, c.Propose(hypothesis="elsewhere", edits=(elsewhere,)))
        state = read_state(paths)
        assert state.queue == (3, 4, 5) and [state.experiments[n].parent for n in state.queue] == [0, 3, 3]
        accepted(paths, c.Pin(3))
        state = wait_state(paths, lambda s: s.experiments[4].verdict and s.experiments[5].parent == 0, "both moved")
        assert state.experiments[4].verdict == "abandoned" and "built on #3" in state.experiments[4].reason
        assert "RATE = 0.5" in code(paths, state, 5) and "OFFSET = 0.3" in code(paths, state, 5)
        assert not state.experiments[5].forked and state.queue == (3, 5)


@pytest.mark.slow
def test_several_minds_keep_to_the_queue_and_the_budget_also_after_a_kill(tmp_path: Path) -> None:
    program = PROGRAM.replace("[budget]", "[ahead]\nqueue = 4\nminds = 3\n[budget]")
    project = make_project(tmp_path / "p", program=program)
    lines = [rate("0.5", f"0.6{n}", seconds=1.0, thinking="long " * 9) for n in range(1, 10)]
    script = write_script(tmp_path / "s.jsonl", lines)
    options: dict[str, Any] = {"researcher": "scripted", "script": str(script), "slots": "cpu:4", "experiments": 8}
    with engine(project, **options) as paths:
        wait_state(paths, lambda s: sum(not s.experiments[n].commit for n in s.live if n) >= 2, "two thoughts at once")
        kill_engine(paths)
    with engine(project, **options) as paths:
        state = wait_end(paths)
    assert state.state == "finished" and state.total == 8, state.reason
    assert sorted(final_verdicts(paths)) == list(range(1, 9)), "none is lost, none is judged twice"
    played = [body.extra["script"] for body in bodies(paths, e.Proposed)]
    assert sorted(played) == list(range(8))
    thoughts, both = most_at_once(paths)
    assert 2 <= thoughts <= 3 and both <= 8, (thoughts, both)  # four slots may be idle


@pytest.mark.slow
def test_a_stop_after_so_many_holds_with_a_full_queue(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", f"0.6{n}") for n in range(1, 9)])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_state(paths, lambda s: len(s.queue) == 2, "a full queue")
        stop_at = read_state(paths).judged + 2
        accepted(paths, c.Stop(after=2))
        state = wait_end(paths)
    assert state.state == "stopped" and state.judged >= stop_at, state.reason
    assert len(state.live) + state.judged == state.total <= stop_at + 4


def test_the_queue_follows_from_the_events() -> None:
    """A person's own is before those of researchers; what was cut off is first; a run takes its experiment out."""
    state, count = State(), itertools.count(1)

    def tell(*bodies: e.Body) -> tuple[int, ...]:
        for body in bodies:
            fold(state, e.Event(next(count), 0.0, body))
        return state.queue

    def begun(n: int, researcher: str = "scripted") -> tuple[e.Body, e.Body]:
        started = e.ExperimentStarted(experiment=n, parent=0, parent_commit="b", researcher=researcher)
        return started, e.Committed(n, f"c{n}", "b")

    def run(n: int) -> e.Body:
        return e.RunStarted(
            run=n, experiment=n, kind="candidate", slot="cpu0", seed=1, commit=f"c{n}", budget="10 s"
        )  # fmt: skip

    def ended(n: int, how: e.Ended) -> e.Body:
        return e.RunFinished(run=n, experiment=n, ended=how, metric=None, seconds=0.0, wall_seconds=0.0)

    assert tell(*begun(1), *begun(2), *begun(3)) == (1, 2, 3)
    assert tell(*begun(4, "human"), *begun(5, "human")) == (4, 5, 1, 2, 3)
    assert tell(e.QueueMoved(3, 2)) == (4, 3, 5, 1, 2) and tell(e.QueueMoved(9, 1)) == (4, 3, 5, 1, 2)
    assert tell(run(4), run(3)) == (5, 1, 2)
    assert tell(ended(4, "abandoned"), ended(3, "crashed")) == (4, 5, 1, 2)
    assert tell(e.RepairAsked(3, 1, "why"), e.ProposalReturned(5, "why")) == (4, 1, 2)
    assert state.experiments[5].commit is None and state.experiments[5].returns == 1
    again = e.Rebased(experiment=1, parent=4, parent_commit="c4", commit="d1", waiting=True)
    assert tell(again) == (4, 1, 2) and state.experiments[1].commit == "d1"
    judged = e.Judged(experiment=1, verdict="skipped", metric=None, delta=None, reason="")
    assert tell(judged) == (4, 2) and tell(e.ApprovalRequested(2)) == (4, 2) and state.ready == (4,)


@pytest.mark.slow
def test_a_proposal_that_waits_for_approval_is_re_applied_once_it_is_approved(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train=OFFSET, program=LONG)
    lines = [{"hypothesis": "never ends", "edits": [ENDLESS]}, rate("0.5", "0.4")]
    script = write_script(tmp_path / "s.jsonl", lines)
    with engine(
        project, researcher="scripted", script=str(script), slots="cpu:1", overrides=("approve=true",)
    ) as paths:
        wait_state(paths, lambda s: 1 in s.approvals, "the first for approval")
        accepted(paths, c.Approve(1))
        wait_state(paths, lambda s: 1 in s.running.values() and 2 in s.approvals, "one runs, the other needs approval")
        accepted(paths, c.Pause())
        accepted(paths, c.Fork(1))
        assert read_state(paths).experiments[2].parent == 0, "it is as the person sees it"
        accepted(paths, c.Approve(2))
        state = wait_state(paths, lambda s: s.experiments[2].parent == 1, "re-applied")
        wait_state(paths, lambda s: s.experiments[2].phase == "queued", "checked again")
        assert state.queue == (2,) and not state.approvals and "SECONDS = 7200" in code(paths, state, 2)
        assert len(bodies(paths, e.ApprovalRequested)) == 2, "it is not asked for again"
