"""A metric that is a time or a speed, and the threads of a run, with the real engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.lab import device
from core.record import events as e
from core.record.state import Experiment, Run
from tests.engine.support import bodies, engine, wait_end
from tests.projects import PROGRAM, TRAIN, make_project, rate, write_script

SEEDED = TRAIN.replace("% 7001 - 3500) * 1e-7", "% 7001 - 3500) * 1e-6").replace('print(f"loss: ', 'print(f"seconds: ')
TIMED = PROGRAM.replace('name = "loss"', 'name = "seconds"').replace("^loss:", "^seconds:")


def test_a_time_is_measured_alone_warm_and_in_turn_with_the_best(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train=SEEDED, program=TIMED)
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.4"), rate("0.5", "0.6")])
    with engine(project, researcher="scripted", script=str(script)) as paths:
        state = wait_end(paths)
    assert state.state == "finished", state.reason
    assert state.timed and len(state.slots) == 1 and state.engine is not None
    assert any("a warm-up run first, then each candidate in turn with the best" in w for w in state.engine.conditions)
    base, x = (state.experiments[n] for n in (0, 1))
    assert [r.kind for r in base.runs] == ["warmup", "baseline", "baseline", "baseline"]
    assert base.values == tuple(r.metric for r in base.runs[1:])
    # It is kept on two pairs at least, and once kept it is measured beside the baseline again.
    assert [r.kind for r in x.runs] == ["reference", "candidate", *["reference", "repeat"] * (len(x.runs) // 2 - 1)]
    assert x.verdict == "kept" and x.chosen_on >= 2 and len(x.values) == x.chosen_on + 1
    assert [r.commit for r in x.runs[::2]] == [base.commit] * (len(x.runs) // 2)
    assert bodies(paths, e.Judged)[0].verdict == "provisional"
    # The two runs of a pair follow each other in one slot.
    begun = bodies(paths, e.RunStarted)[4:]
    pairs = list(zip(begun[::2], begun[1::2], strict=True))
    assert all(r.kind == "reference" != c.kind and r.experiment == c.experiment for r, c in pairs)
    assert all(r.counts_as is not None and c.counts_as is None for r, c in pairs)


def test_what_slows_a_pair_down_cancels() -> None:
    def ran(number: int, kind: e.RunKind, metric: float, counts_as: float | None = None, slot: str = "cpu0") -> Run:
        return Run(
            run=number, experiment=1, kind=kind, slot=slot, seed=1, commit="b" if counts_as else "x", budget="1s",
            started=0.0, phase=None, ended="done", metric=metric, counts_as=counts_as,
        )  # fmt: skip

    runs = (
        ran(1, "reference", 200.0, 100.0), ran(2, "candidate", 180.0), ran(3, "reference", 50.0, 100.0),
        ran(4, "repeat", 45.0), ran(5, "repeat", 7.0, slot="cpu1"),
    )  # fmt: skip
    x = Experiment(
        number=1, parent=0, parent_commit="b", researcher="r", model=None, started=0.0, commit="x", runs=runs
    )
    assert x.values == pytest.approx((90.0, 90.0, 7.0))


def test_the_threads_of_a_run_are_said_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = 'import os\nRATE = 0.5\nprint("loss:", os.environ["OMP_NUM_THREADS"] + os.environ["MKL_NUM_THREADS"])\n'
    program = PROGRAM.replace("[budget]", "[slots]\nthreads = 3\n[budget]")
    project = make_project(tmp_path / "p", train=train, program=program)
    script = write_script(tmp_path / "s.jsonl", [])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:2") as paths:
        state = wait_end(paths)
    assert state.baseline is not None and state.baseline.metric == 33.0
    assert state.session is not None and state.session.threads == 3
    monkeypatch.setattr(device, "cores", lambda: 8)
    assert device.threads_for(("cpu0",), None) == 8 and device.threads_for(("cpu0", "cpu1"), None) == 0
    assert device.threads_for(("cpu0",), 2) == 2 and device.threads_for(("gpu0",), None) == 0
    said, hint = device.threads_words(("cpu0", "cpu1"), 0)
    assert said == "slots cpu0 cpu1: a run has 1 thread of 8 (OMP_NUM_THREADS=1)"
    assert "threads = N" in hint and "--slots cpu:1" in hint
    assert device.threads_words(("cpu0",), 8)[1] == "" and device.threads_words(("gpu0",), 0) == ("", "")
