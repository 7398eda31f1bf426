"""When the number that a run prints counts: by itself and whole, at its time budget if program.md says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.record.state import BASELINE, State
from tests.engine.support import engine, wait_end
from tests.projects import PROGRAM, TRAIN, make_project, write_script

PRINTS = "print('step 1 loss: 0.9')\nprint('loss: 0.5', flush=True)\n"


def ended(tmp_path: Path, train: str, *edits: tuple[str, str], program: str = PROGRAM) -> State:
    """The last State of a session of one baseline run and of one experiment for each edit of train.py."""
    project = make_project(tmp_path / "p", train=train, program=program)
    script = write_script(
        tmp_path / "s.jsonl",
        [{"hypothesis": new, "edits": [{"path": "train.py", "search": old, "replace": new}]} for old, new in edits],
    )
    one = ("decide.baseline=1",)
    with engine(project, slots="cpu:1", researcher="scripted", script=str(script), overrides=one) as paths:
        return wait_end(paths)


@pytest.mark.parametrize(
    ("after", "budget", "words"),
    [
        ("import os\nos.abort()\n", "10s", ("by SIGABRT, as it aborted; it had printed loss 0.5", "exit code 0")),
        ("raise SystemExit(3)\n", "10s", ("exited with code 3; it had printed loss 0.5", "does not count")),
        ("import time\ntime.sleep(60)\n", "0.5s", ("past its budget of 0.5 s; it had printed loss 0.5", "at_limit")),
    ],
)
def test_a_number_before_a_failure_does_not_count_and_is_told(
    tmp_path: Path, after: str, budget: str, words: tuple[str, ...]
) -> None:
    state = ended(tmp_path, PRINTS + after, program=PROGRAM.replace("10s", budget))
    run = state.experiments[BASELINE].runs[0]
    assert state.state == "crashed" and run.metric is None and run.printed == "0.5"
    for word in words:
        assert word in run.reason and word in state.reason
    assert "code 3: loss" not in run.reason and "SIGABRT: loss" not in run.reason


def test_the_last_whole_line_counts_at_the_limit(tmp_path: Path) -> None:
    loop = "import sys, time\nprint('loss: 0.9')\nprint('loss: 0.5')\nsys.stdout.write('loss: 0.4')\ntime.sleep(60)\n"
    program = PROGRAM.replace('run = "10s"', 'run = "1s"\nat_limit = "score"')
    state = ended(
        tmp_path, loop, ("'loss: 0.5'", "'loss: 0.3'"), ("'loss: 0.5'", "'loss: 0.3'); 1/0; ("), program=program
    )
    run = state.experiments[BASELINE].runs[0]
    assert (run.ended, run.metric, run.reason) == ("done", 0.5, "was ended at its budget of 1 s")
    assert run.seconds >= 1.0
    assert state.experiments[1].metric == 0.3 and state.experiments[1].verdict == "kept"
    assert state.experiments[2].verdict == "crashed"  # it failed by itself before the limit


def test_without_a_number_at_the_limit_the_reason_tells_both(tmp_path: Path) -> None:
    program = PROGRAM.replace('run = "10s"', 'run = "0.5s"\nat_limit = "score"')
    state = ended(tmp_path, "import time\nprint('Loss: 0.5')\ntime.sleep(60)\n", program=program)
    reason = state.experiments[BASELINE].runs[0].reason
    assert reason.startswith("was ended at its budget of 0.5 s: the pattern")
    assert "small letters it matches: Loss: 0.5" in reason


def test_a_unit_that_an_experiment_changes_is_refused(tmp_path: Path) -> None:
    program = PROGRAM.replace(r"(\S+)", r"([\d.]+)")
    state = ended(tmp_path, "print('loss: 980.3 ms')\n", ("980.3 ms", "1.02 MB"), ("980.3", "970.3"), program=program)
    assert state.experiments[1].verdict == "crashed"
    assert "the unit changed: this run printed 1.02 MB, the baseline 980.3 ms" in state.experiments[1].reason
    assert state.experiments[2].metric == pytest.approx(970.3)
    assert state.timed and any("a time or a speed, for it is printed as 980.3 ms" in note.text for note in state.notes)


def test_a_cut_number_ends_the_baseline_with_the_pattern_to_write(tmp_path: Path) -> None:
    program = PROGRAM.replace(r"(\S+)", r"([\d.]+)")
    state = ended(tmp_path, TRAIN + "print('loss: 1,204,331')\n", program=program)
    assert state.state == "crashed" and "takes 1 out of 1,204,331" in state.reason
    assert r"write pattern = '^loss:\s*(\S+)'" in state.reason
