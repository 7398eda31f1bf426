"""What is said of a run in cases that a real run meets by chance only."""

from __future__ import annotations

from typing import Any

from core.engine.finding import Finding
from core.engine.trial.forecast import Outcome, forecast, works
from core.program.printed_metric import Printed
from core.program.program import parse
from core.record import events as e
from tests.projects import PROGRAM


def outcome(*, ended: Any = "done", exit_code: int | None = 0, metric: float | None = 0.5, **more: Any) -> Outcome:
    """Of a run of 9.5 s in a budget of 10 s."""
    finished = e.RunFinished(
        run=1, experiment=0, ended=ended, metric=metric, seconds=more.pop("seconds", 9.5), wall_seconds=9.5,
        exit_code=exit_code, reason=more.pop("reason", ""),
    )  # fmt: skip
    given: dict[str, Any] = {
        "program": parse(PROGRAM), "kind": "cpu", "tier": "A", "slots": ("cpu0",), "cores": 2, "finished": finished,
        "printed": Printed(0.5, text="0.5", matches=1, line="loss: 0.5"), "checkout_seconds": 0.1, **more,
    }  # fmt: skip
    return Outcome(**given)


def of(o: Outcome, name: str) -> Finding:
    return next(finding for finding in forecast(o) if finding.name == name)


def test_a_run_near_its_budget() -> None:
    found = of(outcome(), "budget")
    assert found.ok is None and "95%" in found.detail and 'at_limit = "score"' in found.hint
    assert of(outcome(seconds=2.0), "budget").ok is True


def test_a_run_that_was_cut_while_it_failed() -> None:
    nothing = Printed(None, "never matched")
    lines = ("Traceback (most recent call last):", "FileNotFoundError: [Errno 2] No such file: 'x.bin'")
    o = outcome(ended="overtime", exit_code=None, metric=None, cut_after=2.0, printed=nothing, lines=lines)
    assert of(o, "run").ok is None and "x.bin" in of(o, "run").detail and not works(o, forecast(o))


def test_a_number_of_a_run_that_failed_does_not_count() -> None:
    o = outcome(ended="crashed", exit_code=1, metric=None, reason="exited with code 1: boom\n  hint: mend it so")
    assert of(o, "run") == Finding("run", False, "exited with code 1: boom", "mend it so")
    assert of(o, "metric").ok is False and "does not count" in of(o, "metric").detail


def test_a_checkout_that_fails_is_all_that_is_told() -> None:
    o = outcome(checkout_seconds=None, reason="/p/sessions/.try-1/worktrees/1: git cannot check out\n  hint: do this")
    assert forecast(o) == [Finding("worktree", False, "git cannot check out", "do this")]


def test_a_seed_in_a_quoted_command_is_not_appended() -> None:
    program = parse(PROGRAM.replace('"python train.py"', "\"bash -c 'python train.py'\""))
    second = e.RunFinished(run=2, experiment=0, ended="done", metric=0.5, seconds=1, wall_seconds=1)
    found = of(outcome(program=program, second=second), "seed")
    assert found.ok is None and "put $AUTORESEARCH_SEED into `run`" in found.hint


def test_a_second_run_without_a_number_is_told() -> None:
    second = e.RunFinished(
        run=2,
        experiment=0,
        ended="crashed",
        metric=None,
        seconds=1,
        wall_seconds=1,
        reason="the unit changed\n  hint: print one",
    )
    o = outcome(seconds=2.0, second=second)
    assert of(o, "seed").ok is False and of(o, "seed").hint == "print one" and not works(o, forecast(o))
    assert "the unit changed" in of(o, "seed").detail and "not tried" not in of(o, "seed").detail
