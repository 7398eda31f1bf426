"""A run that is hopelessly behind is stopped, one that is audited goes on, and neither is ever kept by that."""

from __future__ import annotations

from pathlib import Path

from core import views
from core.engine.runs.run_key import RunKey
from tests.engine.runs.pruning.sessions import HOPELESS, USUAL, change, session


def test_a_hopeless_run_is_stopped_and_has_no_number(tmp_path: Path) -> None:
    state, ends, _ = session(tmp_path, [*USUAL, HOPELESS, change(RATE=0.3)])
    last = state.experiments[len(USUAL) + 1]
    assert last.verdict == "pruned" and last.metric is None and last.values == (), last
    assert "stopped early at" in last.reason and "above that of the baseline" in last.reason
    (end,) = [end for end in ends if end.experiment == last.number]
    assert end.ended == "killed" and end.stopped_at and 0.3 < end.stopped_at < 0.95 and not end.audit
    assert end.saved > 0 and end.metric is None
    assert (state.stopped_early, state.audited) == (1, 0) and state.saved_seconds == end.saved
    assert state.verdicts["pruned"] == 1
    found = views.status(state, False, state.time)["device"]["saved"]
    assert found["stopped"] == 1 and 0 < found["share"] < 0.5 and found["believed"]
    assert "0 of 0 audited were wrong" in views.device_use(state, state.time).stops()
    # A good one is not stopped, and leads.
    assert state.best == len(USUAL) + 2


def test_an_audited_run_goes_to_its_end_and_is_judged_by_its_number(tmp_path: Path) -> None:
    state, ends, _ = session(tmp_path, [*USUAL, HOPELESS], "prune.audit=1")
    last = state.experiments[len(USUAL) + 1]
    assert last.verdict == "discarded" and last.metric is not None
    (end,) = [end for end in ends if end.experiment == last.number]
    assert end.ended == "done" and end.audit and end.stopped_at and end.saved == 0
    assert (state.stopped_early, state.audited, state.audits_wrong) == (0, 1, 0)


def test_switched_off_nothing_is_stopped(tmp_path: Path) -> None:
    state, _, _ = session(tmp_path, [*USUAL, HOPELESS], "prune.on=false")
    assert state.experiments[len(USUAL) + 1].verdict == "discarded" and state.stopped_early == state.audited == 0


def test_no_run_can_tell_whether_it_is_audited(tmp_path: Path) -> None:
    key = RunKey("s", 1)
    chosen = [run for run in range(1, 4001) if key.audits(run, 20)]
    assert 140 < len(chosen) < 270
    assert chosen == [run for run in range(1, 4001) if RunKey("s", 1).audits(run, 20)], "also after a resume"
    assert chosen != [run for run in range(1, 4001) if RunKey("t", 1).audits(run, 20)]
