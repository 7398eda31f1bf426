"""Drift: a machine whose unchanged code runs slower or faster than it used to is not one to judge small gains on."""

from __future__ import annotations

import math
from collections import defaultdict

from core.record.state import Run, State

LEAST_SPREAD = 0.05  # relative; shared machines breathe by a few percent
SPREADS = 3.0
LEAST_SECONDS = 5.0  # of clock: the speed of a shorter run is mostly that of its start
LEAST_RUNS = 3  # of one piece of code before its speed is known


def slot_is_off(state: State, slot: str) -> str:
    """In words how the slot's last run of unchanged code differed in speed from its usual; "" when it did not.

    Speed is steps a second of the clock; runs of the baseline and of repeated experiments are compared with the other
    runs of the same commit. Runs under a step budget count too: there the time moves instead.
    """
    by_commit: dict[str, list[Run]] = defaultdict(list)
    for x in state.experiments.values():
        for run in x.runs if len(x.runs) > 1 else ():
            if run.ended == "done" and run.steps and run.seconds >= LEAST_SECONDS:
                by_commit[run.commit].append(run)
    ratios: list[tuple[int, str, float]] = []
    for runs in by_commit.values():
        if len(runs) < LEAST_RUNS:
            continue
        usual = sorted(_speed(run) for run in runs)[len(runs) // 2]
        ratios += [(run.run, run.slot, _speed(run) / usual) for run in runs]
    here = [ratio for _, name, ratio in sorted(ratios) if name == slot]
    if not here:
        return ""
    others = [ratio for _, _, ratio in sorted(ratios)][:-1]
    spread = max(LEAST_SPREAD, _deviation(others))
    off = here[-1] - 1.0
    if abs(off) <= SPREADS * spread:
        return ""
    return f"{slot} ran unchanged code {abs(off):.0%} {'faster' if off > 0 else 'slower'} than usual"


def _speed(run: Run) -> float:
    return (run.steps or 0) / run.seconds


def _deviation(values: list[float]) -> float:
    """Robust spread: 1.48 × the median absolute deviation, so that the odd run does not hide itself."""
    if len(values) < 2:
        return 0.0
    middle = sorted(values)[len(values) // 2]
    return 1.4826 * sorted(abs(v - middle) for v in values)[len(values) // 2] if math.isfinite(middle) else 0.0
