"""What a device check makes of the phases of a run, and the budget that it gives one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.engine.device_check.measured_run import Phases, shortened
from core.program.program import Program, parse
from core.record.budget import RunBudget
from tests.projects import PROGRAM, SCORED_PROGRAM

PRINTED, SCORED = parse(PROGRAM), parse(SCORED_PROGRAM)


def budgeted(program: Program, budget: RunBudget) -> Program:
    return replace(program, run_budgets={"cpu": budget, "cuda": budget})


@pytest.mark.parametrize(
    ("program", "seconds", "short", "told"),
    [
        (budgeted(SCORED, RunBudget(seconds=300)), None, RunBudget(seconds=30), True),
        (budgeted(SCORED, RunBudget(seconds=20)), None, RunBudget(seconds=20), True),
        (budgeted(SCORED, RunBudget(seconds=300)), 5.0, RunBudget(seconds=5), True),
        (budgeted(SCORED, RunBudget(steps=400)), None, RunBudget(steps=40), True),
        (budgeted(SCORED, RunBudget(steps=4)), None, RunBudget(steps=1), True),
        (budgeted(PRINTED, RunBudget(seconds=300)), None, RunBudget(seconds=30), False),
        (budgeted(PRINTED, RunBudget(steps=400)), None, RunBudget(seconds=30), False),
    ],
)
def test_the_budget_is_shortened_and_told_where_a_scorer_follows(
    program: Program, seconds: float | None, short: RunBudget, told: bool
) -> None:
    assert shortened(program, "cuda", seconds) == (short, told)


def test_the_gap_is_the_longer_of_scoring_and_the_next_start_where_both_can_run() -> None:
    phases = Phases(checkout=1.0, start=40.0, training=300.0, end=2.0, scoring=15.0)
    assert phases.gap(beside=True) == 43.0 and phases.gap(beside=False) == 58.0
    assert replace(phases, scoring=60.0).gap(beside=True) == 62.0
    plain = Phases(checkout=None, start=None, training=300.0, end=1.0, scoring=None)
    assert plain.gap(beside=False) == 1.0
