"""Time beyond its budget that a run used, which must not count, and much work before its clock, which is told

A run ends by itself, for its last step may be long, and is killed two seconds later only. One that used more than the
unchanged code does, and is better than what it is compared with, does not count: it is run again, and its clock is cut
by as much. One that is no better counts as it is, so nobody gets another try for a bad result.
"""

from __future__ import annotations

from statistics import median

from core.record.state import BASELINE, Experiment, Run, State, who

MAX_CUTS = 2  # times that one run is run again for this
_OVER = 0.02  # of the budget, beyond what the unchanged code uses
_OVER_WHOLE = 0.05  # the same, where the budget is that of a whole process, start and end included
_BEFORE, _BEFORE_SECONDS = 2.0, 5.0  # times the work of the unchanged code before its clock, and more, that are told
_MOST = 0.5  # of the budget, by which a clock is cut


def seconds_used(seconds: float, processor_seconds: float | None, cores: float | None) -> float:
    """Seconds of its budget that a run used: those on its clock, or for each processor that it may use, if more."""
    return max(seconds, processor_seconds / cores) if processor_seconds and cores else seconds


def over_budget(state: State, used: float, budget: float, *, whole: bool) -> float:
    """Seconds over the budget that must not count, else 0. `whole`: the clock is that of the process."""
    baseline = state.experiments.get(BASELINE)
    counted = [run.used - budget for run in baseline.runs if run.metric is not None and run.used] if baseline else []
    usual = max(0.0, median(counted)) if counted else 0.0
    over = used - budget
    return over if over > usual + (_OVER_WHOLE if whole else _OVER) * budget else 0.0


def before_clock_words(state: State, experiment: int) -> str:
    """In words, that an experiment computed far more before its clock than the unchanged code; "" where it did not.

    Compiling is honest work. But whatever tells a run, past the sandbox, what an earlier one has learned from the data,
    pays there, where no budget holds.
    """

    def work(number: int) -> float | None:
        x = state.experiments.get(number)
        found = [run.before_clock for run in x.runs if _counts(run) and run.before_clock is not None] if x else []
        return median(found) if found else None

    usual, own = work(BASELINE), work(experiment)
    if usual is None or own is None or own <= _BEFORE * usual + _BEFORE_SECONDS:
        return ""
    words = f"{who(experiment)} computed for {own:.0f} processor seconds before its clock, the unchanged code for"
    return f"{words} {usual:.0f}: compiling is free there; see in its change what else it does"


def is_better(state: State, experiment: int, metric: float) -> bool:
    """Whether a result could count as a gain: against the best, or for the best itself against the baseline."""
    if state.baseline is None or state.best_metric is None:
        return True
    return state.metric.gain(state.baseline.metric if experiment == state.best else state.best_metric, metric) > 0


def cut_of(x: Experiment, commit: str) -> float:
    """Seconds by which the clock of further runs of the same code is cut from the start."""
    return max((run.cut for run in x.runs if run.commit == commit and _counts(run)), default=0.0)


def next_cut(cut: float, over: float, budget: float) -> float:
    """Seconds by which the clock is cut, after a run with `cut` was `over` its budget: twice as much, at least."""
    return round(min(_MOST * budget, max(2 * cut, cut + over)), 3)


def _counts(run: Run) -> bool:
    return run.metric is not None and run.kind != "reference"
