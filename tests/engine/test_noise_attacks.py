"""An attack on sigma in a real session: what one experiment may do to the judgement of the others."""

from __future__ import annotations

from pathlib import Path

from core.engine.runs.run_key import RunKey
from core.record import events as e
from tests.engine.support import bodies, engine, wait_end
from tests.projects import PROGRAM, make_project, write_script

# A run whose noise follows its seed, of standard deviation 0.02. The two lines of `plan` are there to be removed.
TRAIN = """\
import os
import random

SEED = int(os.environ["AUTORESEARCH_SEED"])
plan = [1]
plan = plan + [2]
loss = 1.0
# here
print(f"loss: {loss + random.Random(SEED).gauss(0, 0.02):.6f}")
"""
# Better by about two sigma, or spoilt: its first run (the fourth of the session) asks for a repeat, which is spoilt.
SPOILT = "loss += 12.0 if SEED % 2 else -0.045\n"
SIMPLER = {
    "hypothesis": "fewer lines do the same",
    "edits": [
        {"path": "train.py", "search": "plan = [1]\nplan = plan + [2]\n", "replace": ""},
        {"path": "train.py", "search": "loss = 1.0\n", "replace": "loss = 1.058\n"},
    ],
}


def test_one_experiment_does_not_blow_up_sigma(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train=TRAIN, program=PROGRAM)
    edit = {"path": "train.py", "search": "# here\n", "replace": SPOILT}
    spoilt = {"hypothesis": "a change of the loop", "edits": [edit]}
    script = write_script(tmp_path / "s.jsonl", [spoilt, SIMPLER])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", seed=94) as paths:
        state = wait_end(paths)
    x, base = state.experiments[1], state.baseline
    assert base is not None and state.sigma is not None
    assert len(x.values) > 1 and max(x.values) - min(x.values) > 10, x.reason
    assert x.verdict == "discarded" and "its own runs differ" in x.reason
    # It was 0.02 before, and 5 after, so that any result from fewer lines was kept as the best.
    assert state.sigma < 1.6 * base.sigma
    assert state.experiments[2].verdict == "discarded"
    # The next session takes what agrees with its own baseline only.
    worse = write_script(tmp_path / "w.jsonl", [])
    with engine(project, "t", researcher="scripted", script=str(worse), slots="cpu:1", seed=94) as later:
        new = wait_end(later)
    assert new.sigma is not None and new.baseline is not None and new.sigma < 1.6 * max(new.baseline.sigma, 0.02)


def test_what_was_discarded_on_a_lucky_best_runs_again_on_the_one_before(tmp_path: Path) -> None:
    seed = RunKey("s", 1).seed(4)  # of its first run, which is good by luck; all others of its code are spoilt
    project = make_project(tmp_path / "p", train=TRAIN.replace("# here\n", "pass\n" * 4 + "# here\n"), program=PROGRAM)
    lucky = {"path": "train.py", "search": "# here\n", "replace": f"loss += -0.12 if SEED == {seed} else 0.5\n"}
    harm, gain = ({"path": "train.py", "search": "loss = 1.0\n", "replace": f"loss = {v}\n"} for v in (1.3, 0.88))
    steps = [
        {"hypothesis": f"change {n}", "edits": [edit]} for n, edit in enumerate((lucky, harm, harm, gain, harm), 1)
    ]
    script = write_script(tmp_path / "s.jsonl", steps)
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", seed=1) as paths:
        state = wait_end(paths)
    assert state.experiments[1].verdict == "discarded" and "taken back" in state.experiments[1].reason
    x = state.experiments[4]
    verdicts = [b.verdict for b in bodies(paths, e.Judged) if b.experiment == 4]
    assert (verdicts[0], verdicts[-1]) == ("discarded", "kept"), x.reason
    assert (x.parent, state.best, state.live) == (0, 4, ()) and x.rebased, "once more while it waited, perhaps"
