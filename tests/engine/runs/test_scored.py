"""A project with a scorer: the source of the metric, and events during scoring."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path

import pytest

from core.client import request
from core.record import commands as c
from core.record import events as e
from core.session.paths import SessionPaths
from tests.engine.support import engine, events_named, final_verdicts, kill_engine, wait_end, wait_for, wait_state
from tests.projects import SCORED_PROGRAM, SCORED_TRAIN, git, make_project, make_scored_project, rate, write_script


def _scoring(paths: SessionPaths) -> dict[int, tuple[float, float]]:
    """The interval in which each run was scored."""
    begun = {
        event.body.run: event.time
        for event in events_named(paths, e.RunPhaseChanged)
        if isinstance(event.body, e.RunPhaseChanged) and event.body.phase == "scoring"
    }
    finished = events_named(paths, e.RunFinished)
    ended = {event.body.run: event.time for event in finished if isinstance(event.body, e.RunFinished)}
    return {run: (start, ended[run]) for run, start in begun.items()}


def test_the_scorer_sets_the_metric_and_a_rejection_is_a_verdict(tmp_path: Path) -> None:
    project = make_scored_project(tmp_path / "p")
    busy = "until = time.monotonic() + 1.5\n[os.fork() for _ in range(3)]\nwhile time.monotonic() < until: pass\n"
    edit = {"path": "train.py", "search": "time.sleep(SECONDS)\n", "replace": busy}
    many = {"hypothesis": "more processes learn more", "kind": "other", "edits": [edit]}
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.4"), rate("0.5", "7.0"), many])
    one = ("slots.threads=1",)
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", overrides=one) as paths:
        state = wait_end(paths)
    assert state.state == "finished", state.reason
    assert state.experiments[3].verdict == "crashed" and "slot has 1 processor" in state.experiments[3].reason
    assert state.baseline is not None and state.baseline.metric == pytest.approx(1.04)
    assert state.experiments[1].verdict == "kept" and state.experiments[1].metric == pytest.approx(1.01)
    assert state.experiments[2].verdict == "rejected" and "out of this world" in state.experiments[2].reason
    # The third run may end before it reports: more looks than usual can fall into its 1.5 s.
    # A start that waited when the best changed began again.
    runs = [r for n, x in state.experiments.items() if n != 3 for r in x.runs if r.ended != "abandoned"]
    assert all(r.steps == 1 and r.tokens == 13 for r in runs), runs
    assert (paths.run(state.experiments[1].runs[0].run) / "out" / "weights.json").exists(), "weights of a kept run"
    assert not (paths.run(state.experiments[2].runs[0].run) / "out").exists()


def test_a_run_starts_during_scoring_and_its_clock_waits(tmp_path: Path) -> None:
    project = make_scored_project(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", f"0.6{n}") for n in range(4)])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        state = wait_end(paths)
    scoring = _scoring(paths)
    runs = sorted((r for x in state.experiments.values() for r in x.runs), key=lambda r: r.run)
    overlaps = 0
    for before, after in itertools.pairwise(runs):
        _, ended = scoring[before.run]
        assert after.clock_started is not None and after.clock_started >= ended - 0.05, "a clock ran while scoring"
        overlaps += after.started < ended
    assert overlaps >= 2, "no run started up while another was scored"
    assert all(r.gap is not None and r.gap > 0 for r in runs[1:])


SEALED = {
    "prepare.py": """\
import json, pathlib
home = pathlib.Path(HOME)
for name in ("train.txt", "tokenizer.json", "val.txt"):
    (home / name).write_text(name)
print(json.dumps({"train": {"data.txt": str(home / "train.txt")}, "readable": [str(home / "tokenizer.json")],
                  "hidden": [str(home / "val.txt")]}))
""",
    "evaluate.py": "def evaluate(rate):\n    return 1.0 + (rate - 0.3) ** 2\n",
    "score.py": """\
import json, os, pathlib, sys
from evaluate import evaluate
once = pathlib.Path(HOME, "fail once")
if once.exists():
    once.unlink()
    sys.exit("out of luck")
print(json.dumps({"metric": evaluate(json.loads(pathlib.Path(os.environ["AUTORESEARCH_RUN_DIR"],
                                                              "weights.json").read_text())["rate"])}))
""",
}


@pytest.mark.slow
def test_sealed_files_are_checked_and_a_scorer_failure_is_retried(tmp_path: Path) -> None:
    """A change of the evaluation, scorer, data, tokenizer or validation text during a session stops the verdicts."""
    data = tmp_path / "data"
    data.mkdir()
    train = SCORED_TRAIN.replace("time.sleep(0.5)  # starting up", "")
    more = {name: text.replace("HOME", repr(str(data))) for name, text in SEALED.items()}
    project = make_project(tmp_path / "p", train=train, program=SCORED_PROGRAM, more=more)
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", f"0.6{n}") for n in range(9)])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_state(paths, lambda s: s.verdicts.get("discarded"), "a first verdict")
        (data / "fail once").touch()
        wait_for(lambda: not (data / "fail once").exists(), "the scorer to fail once")
        places = (paths.pristine / "evaluate.py", paths.pristine / "score.py", *map(data.joinpath, (
            "train.txt", "tokenizer.json", "val.txt")))  # fmt: skip
        for place in places:
            honest = place.read_text()
            stamp = place.stat().st_mtime_ns
            place.write_text(honest.swapcase())  # of the same length, as an edit of a linter or a person
            os.utime(place, ns=(stamp, stamp + 1))
            state = wait_state(paths, lambda s: s.state == "paused" and not s.live_runs(), f"a pause for {place}")
            assert f"{place} was changed: put it back, then resume" in state.reason
            place.write_text(honest)
            assert request(paths, c.Resume()).accepted
            wait_state(paths, lambda s: s.state != "paused", "the session to continue")
        state = wait_end(paths)
    assert state.state == "finished" and state.verdicts == {"discarded": 9}
    assert all(x.metric is not None for x in state.experiments.values()), "a single failure costs nothing"


@pytest.mark.parametrize("phase", ["starting", "training", "scoring"])
def test_an_engine_killed_in_any_phase_of_a_run_loses_no_result(tmp_path: Path, phase: str) -> None:
    project = make_scored_project(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.4"), rate("0.5", "0.9")])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_state(
            paths,
            lambda s: any(r.experiment == 1 and r.phase == phase for r in s.live_runs()),
            f"experiment 1 in phase {phase}",
        )
        kill_engine(paths, signal.SIGKILL)
        with engine(project):
            state = wait_end(paths)
    assert state.state == "finished", state.reason
    assert [state.experiments[n].verdict for n in (1, 2)] == ["kept", "discarded"]
    judged = final_verdicts(paths)
    assert sorted(judged) == [1, 2]


def test_runs_have_no_comments_where_prepare_says_so(tmp_path: Path) -> None:
    project = make_scored_project(tmp_path / "p")
    prepare = (project / "prepare.py").read_text()
    assert prepare.count('{"train"') == 1
    (project / "prepare.py").write_text(prepare.replace('{"train"', '{"comments": False, "train"'))
    git(project, "commit", "-qam", "no comments")
    reads = "RATE = 0.4  # the psalms by heart\nassert 'the psalms' + ' by heart' not in open(__file__).read()"
    edit = {"path": "train.py", "search": "RATE = 0.5", "replace": reads}
    script = write_script(tmp_path / "s.jsonl", [{"hypothesis": "a long comment", "kind": "other", "edits": [edit]}])
    one = ("decide.baseline=1",)
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", overrides=one) as paths:
        x = wait_end(paths).experiments[1]
    assert x.verdict == "kept", x.reason
    assert "# the psalms by heart" in git(project, "show", f"{x.commit}:train.py")
