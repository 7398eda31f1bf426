"""Drift of a slot's speed: unchanged code that runs slower or faster than usual"""

from __future__ import annotations

import math
from collections import defaultdict

from core.record.state import Run, State

MIN_SPREAD = 0.05  # relative; the speed of a shared machine varies by a few percent
MAX_SPREADS = 3.0  # beyond which a run's speed is off
MIN_SECONDS = 5.0  # on the clock; the speed of a shorter run is mostly that of its start
MIN_RUNS = 3  # of a commit, for its usual speed


def speed_change(state: State, slot: str) -> str:
    """How the speed of the slot's last run of unchanged code differs from the usual one; "" when it does not.

    Speed: steps per second of the clock. Runs of the baseline and of repeated experiments are compared with the other
    runs of the same commit, those with a step budget too.
    """
    by_commit: dict[str, list[Run]] = defaultdict(list)
    for x in state.experiments.values():
        for run in x.runs if len(x.runs) > 1 else ():
            if run.ended == "done" and run.steps and run.seconds >= MIN_SECONDS:
                by_commit[run.commit].append(run)
    ratios: list[tuple[int, str, float]] = []
    for runs in by_commit.values():
        if len(runs) < MIN_RUNS:
            continue
        usual = sorted(_speed(run) for run in runs)[len(runs) // 2]
        ratios += [(run.run, run.slot, _speed(run) / usual) for run in runs]
    here = [ratio for _, name, ratio in sorted(ratios) if name == slot]
    if not here:
        return ""
    others = [ratio for _, _, ratio in sorted(ratios)][:-1]
    spread = max(MIN_SPREAD, _deviation(others))
    off = here[-1] - 1.0
    if abs(off) <= MAX_SPREADS * spread:
        return ""
    return f"{slot} ran unchanged code {abs(off):.0%} {'faster' if off > 0 else 'slower'} than usual"


def _speed(run: Run) -> float:
    return (run.steps or 0) / run.seconds


def _deviation(values: list[float]) -> float:
    """Robust spread: 1.48 × the median absolute deviation, which an outlier hardly changes."""
    if len(values) < 2:
        return 0.0
    middle = sorted(values)[len(values) // 2]
    return 1.4826 * sorted(abs(v - middle) for v in values)[len(values) // 2] if math.isfinite(middle) else 0.0
