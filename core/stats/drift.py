"""Drift of a slot: unchanged code that runs slower or faster, or gives other results, than usual"""

from __future__ import annotations

import math

from core.record.sample import mean
from core.record.state import BASELINE, Experiment, Run, State

MIN_SPREAD = 0.05  # relative; the speed of a shared machine varies by a few percent
MAX_SPREADS = 3.0  # beyond which a run's speed is off
MIN_SECONDS = 5.0  # on the clock; the speed of a shorter run is mostly that of its start
MIN_RUNS = 3  # of one code, for what is usual
MAX_SIGMAS = 4.0  # beyond which a result of unchanged code is off


def speed_change(state: State, slot: str) -> str:
    """How the slot's last run of unchanged code differs from the usual ones; "" when it does not.

    Of the baseline the speed is compared: steps per second of the clock, as the person's own code says them, those with
    a step budget too. What other code says of its steps is not looked at: of the best the metric is compared, by sigma.
    The later run of the two decides.
    """
    base, best = (state.experiments.get(number) for number in (BASELINE, state.best))
    if base is None or best is None or _last(best, slot) <= _last(base, slot):
        return _speed_off(base, slot) if base else ""
    return _result_off(state, best, slot)


def _last(x: Experiment, slot: str) -> int:
    return max((run.run for run in x.runs if run.slot == slot and run.metric is not None), default=0)


def _speed_off(base: Experiment, slot: str) -> str:
    runs = [run for run in base.runs if run.ended == "done" and run.steps and run.seconds >= MIN_SECONDS]
    runs.sort(key=lambda run: run.run)
    if len(runs) < MIN_RUNS:
        return ""
    usual = sorted(map(_speed, runs))[len(runs) // 2]
    here = [_speed(run) / usual for run in runs if run.slot == slot]
    if not here:
        return ""
    spread = max(MIN_SPREAD, _deviation([_speed(run) / usual for run in runs][:-1]))
    off = here[-1] - 1.0
    if abs(off) <= MAX_SPREADS * spread:
        return ""
    return f"{slot} ran unchanged code {abs(off):.0%} {'faster' if off > 0 else 'slower'} than usual"


def _result_off(state: State, best: Experiment, slot: str) -> str:
    """The same for the best's last result in the slot, against all its others."""
    runs = sorted((run for run in best.runs if run.commit == best.commit and run.metric is not None), key=_number)
    here = [run for run in runs if run.slot == slot]
    if not state.sigma or len(runs) < MIN_RUNS or not here:
        return ""
    others = [run.metric or 0.0 for run in runs if run is not here[-1]]
    gain = state.metric.gain(mean(others), here[-1].metric or 0.0) / state.sigma
    if abs(gain) <= MAX_SIGMAS * math.sqrt(1 + 1 / len(others)):
        return ""
    return f"{slot} ran unchanged code {abs(gain):.1f}σ {'better' if gain > 0 else 'worse'} than usual"


def _number(run: Run) -> int:
    return run.run


def _speed(run: Run) -> float:
    return (run.steps or 0) / run.seconds


def _deviation(values: list[float]) -> float:
    """Robust spread: 1.48 × the median absolute deviation, which an outlier hardly changes."""
    if len(values) < 2:
        return 0.0
    middle = sorted(values)[len(values) // 2]
    return 1.4826 * sorted(abs(v - middle) for v in values)[len(values) // 2] if math.isfinite(middle) else 0.0
