"""Time beyond the budget gains a run nothing, and an honest run with a long last step is not rejected."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.engine.runs.counted.overrun import before_clock_words, cut_of, is_better, next_cut, over_budget, seconds_used
from core.ordered import Ordered
from core.record.events import Ended
from core.record.state import BASELINE, Baseline, Experiment, Run, State
from tests.engine.support import engine, wait_end
from tests.projects import SCORED_FILES, SCORED_PROGRAM, SCORED_TRAIN, make_project, write_script


def ran(
    number: int, used: float, *, metric: float | None = 1.0, cut: float = 0.0, commit: str = "a",
    before: float | None = None,
) -> Run:  # fmt: skip
    ended: Ended = "abandoned" if metric is None else "done"
    return Run(
        run=number, experiment=BASELINE, kind="baseline", slot="cpu0", seed=1, commit=commit, budget="6s", started=0.0,
        phase=None, ended=ended, metric=metric, used=used, cut=cut,
        before_clock=before,
    )  # fmt: skip


def experiment(*runs: Run, number: int = BASELINE) -> Experiment:
    return Experiment(
        number=number, parent=0, parent_commit="", researcher="x", model=None, started=0.0, commit="a", runs=runs
    )


def state(*used: float) -> State:
    runs = [ran(number, one) for number, one in enumerate(used)]
    return State(
        experiments=Ordered({BASELINE: experiment(*runs)}), baseline=Baseline(2.0, 0.1, 3), best=7, best_metric=1.8
    )


def test_processor_seconds_are_time_too() -> None:
    assert seconds_used(6.0, 5.5, 1.0) == 6.0 and seconds_used(6.0, None, None) == 6.0
    assert seconds_used(6.0, 7.1, 1.0) == 7.1 and seconds_used(6.0, 7.1, 2.0) == 6.0


def test_time_counts_as_too_much_beyond_what_the_unchanged_code_uses() -> None:
    usual = state(6.1, 6.2, 9.0)
    assert over_budget(usual, 6.3, 6.0, whole=False) == 0.0
    assert over_budget(usual, 6.5, 6.0, whole=False) == 0.5
    assert over_budget(usual, 6.5, 6.0, whole=True) == 0.0 and over_budget(usual, 7.9, 6.0, whole=True) > 1.8
    assert over_budget(state(2.0), 6.13, 6.0, whole=False) > 0, "less than the budget is no reason to allow less"
    assert over_budget(State(), 20.5, 20.0, whole=False) == 0.5


def test_only_a_gain_is_run_again_so_that_nobody_chooses_another_try() -> None:
    known = state(6.1)
    assert is_better(known, 8, 1.7) and not is_better(known, 8, 1.9)
    assert is_better(known, 7, 1.9) and not is_better(known, 7, 2.1), "the best itself, against the baseline"


def test_a_clock_is_cut_by_what_was_used_too_much_and_twice_as_much_then() -> None:
    assert next_cut(0.0, 1.8, 6.0) == 1.8 and next_cut(1.0, 0.1, 6.0) == 2.0 and next_cut(1.0, 1.5, 6.0) == 2.5
    assert next_cut(2.0, 1.8, 6.0) == 3.0, "not by more than half"
    runs = (ran(1, 7.8, metric=None), ran(2, 6.0, cut=1.8), ran(3, 6.0, cut=2.5, commit="b"))
    assert cut_of(experiment(*runs, number=8), "a") == 1.8 and cut_of(experiment(number=8), "a") == 0.0


def test_much_work_before_the_clock_is_told() -> None:
    def words(*own: float | None) -> str:
        usual = (ran(1, 6.0, before=30.0), ran(2, 6.0, before=4.0), ran(3, 6.0, before=3.0))
        found = [ran(number, 6.0, before=one) for number, one in enumerate(own, 4)]
        known = {BASELINE: experiment(*usual), 1: experiment(*found, number=1)}
        return before_clock_words(State(experiments=Ordered(known)), 1)

    assert words(95.0).startswith("#1 computed for 95 processor seconds before its clock, the unchanged code for 4:")
    assert words(12.9) == words(95.0, 5.0, 5.0) == words(None) == words() == ""
    assert before_clock_words(State(), 1) == ""


@pytest.mark.slow
def test_a_gain_with_much_work_before_its_clock_has_a_warning(tmp_path: Path) -> None:
    work = "begun = time.process_time()\nwhile time.process_time() < begun + 6: pass\nlink = "
    project = make_project(tmp_path / "p", program=SCORED_PROGRAM, train=SCORED_TRAIN, more=SCORED_FILES)
    edits = [("link = ", work), ("RATE = 0.5", "RATE = 0.3")]
    change = {"hypothesis": "it begins late", "edits": [
        {"path": "train.py", "search": search, "replace": put} for search, put in edits
    ]}  # fmt: skip
    script = write_script(tmp_path / "s.jsonl", [change])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        found = wait_end(paths)
    assert found.experiments[1].verdict == "kept", found.experiments[1].reason
    warned = [note.text for note in found.notes if "before its clock" in note.text]
    assert len(warned) == 1 and warned[0].startswith("#1 computed for 6 processor seconds before its clock")


@pytest.mark.slow
def test_training_on_past_the_budget_gains_nothing_and_a_long_step_is_no_cheat(tmp_path: Path) -> None:
    clock = (
        "given, begun = json.loads(answer)['seconds'], time.monotonic()\nSTEP, LATE = 0.02, 0.0\n"
        "while time.monotonic() - begun < given + LATE: time.sleep(STEP)\ntrained = time.monotonic() - begun\n"
    )
    train = SCORED_TRAIN.replace("time.sleep(SECONDS)\n", clock)
    train = train.replace('{"rate": RATE}', '{"rate": RATE, "trained": trained}')
    score = SCORED_FILES["score.py"].replace("time.sleep(0.5)\nrate = ", "left = ").replace('["rate"]', "")
    score = score.replace("if rate", "rate = left['rate']\nif rate")
    score = score.replace("1.0 + (rate - 0.3) ** 2", "1.0 + 4 * (rate - 0.3) ** 2 + 1 / left['trained']")
    project = make_project(
        tmp_path / "p", program=SCORED_PROGRAM.replace('"10s"', '"3s"\nclock = "wall"'), train=train,
        more=SCORED_FILES | {"score.py": score},
    )  # fmt: skip

    def change(*edits: tuple[str, str]) -> dict[str, object]:
        plain = [{"path": "train.py", "search": search, "replace": put} for search, put in edits]
        return {"hypothesis": "it trains in another way", "edits": plain}

    late, long_step = change(("LATE = 0.02, 0.0", "LATE = 0.02, 1.2")), change(
        ("LATE = 0.02, 0.0", "LATE = 1.3, 0.0"), ("RATE = 0.5", "RATE = 0.3")
    )  # fmt: skip
    script = write_script(tmp_path / "s.jsonl", [late, long_step])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        found = wait_end(paths)
    cheat, honest = found.experiments[1], found.experiments[2]
    assert cheat.runs[0].ended == "abandoned" and "run again with a clock of" in cheat.runs[0].reason
    assert cheat.verdict != "kept" and all(run.used and run.used < 4.0 for run in cheat.runs if run.metric is not None)
    assert len({run.seed for run in cheat.runs[:2]}) == 1
    assert honest.verdict == "kept" and honest.runs[0].ended == "abandoned", honest.reason
    assert all(run.cut > 0.5 and run.used and run.used < 3.5 for run in honest.runs if run.metric is not None)
