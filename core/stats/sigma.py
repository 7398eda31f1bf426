"""Sigma of a session and what follows from it, from its State (docs/decisions.md)"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import takewhile

from core.ordered import Order, Place, starting
from core.record.sample import mean
from core.record.state import BASELINE, Experiment, State
from core.stats.decide import Policy, baseline_due, judge, refresh_due, simplicity_allowance, stands, worse_in_a_row
from core.stats.noise import MAX_RESULTS, Noise, in_turn_noise, limited, repeats


def _repeated(x: Experiment) -> tuple[int, tuple[float, ...], bool] | None:
    if x.number == BASELINE or len(x.runs) < 2 or len(values := x.values) < 2:
        return None
    return x.number, values, x.verdict == "kept"


def _first_result(x: Experiment) -> tuple[float, int, float] | None:
    """The first result of one that was judged, relative to the best of its time."""
    if x.number == BASELINE or x.delta is None or not x.chosen_on or not (values := x.values):
        return None
    return x.ended or math.inf, x.number, values[0] - mean(values[: x.chosen_on]) + x.delta


def _of_parent(x: Experiment, single: bool, sign: int = 1) -> tuple[object, ...] | None:
    """Place of a discarded experiment among those of its parent: with one result, by that result."""
    if x.number == BASELINE or x.verdict != "discarded" or x.forked or not (values := x.values):
        return None
    if (len(values) == 1) is not single:
        return None
    return (x.parent, x.lines < 0, sign * values[0]) if single else (x.parent,)


# Orders of experiments that verdicts read: code that ran more than once, first results in the order of the verdicts,
# and what was discarded, by its parent.
REPEATED: Order[Experiment] = Order(_repeated)
FIRST_RESULTS: Order[Experiment] = Order(_first_result)
DISCARDED: Mapping[str, Order[Experiment]] = {
    "min": Order(lambda x: _of_parent(x, True)),
    "max": Order(lambda x: _of_parent(x, True, -1)),
}
DISCARDED_TWICE: Order[Experiment] = Order(lambda x: _of_parent(x, False))


def noise_of(state: State, *, prior: bool = True) -> Noise:
    """Noise of one result, as `session_noise` has it from code that ran more than once; with `prior`, from an earlier
    session's runs too.
    """
    base, table = state.experiments.get(BASELINE), state.experiments
    alone, before = base.values if base else (), state.prior if prior else None
    if state.timed:
        groups = [values for (_, values, _), _ in table.places(REPEATED)]
        return in_turn_noise(alone, groups, state.best_metric or 0.0, before)

    def make(places: Sequence[Place]) -> tuple[float, float]:
        bests = [values for (_, values, kept), _ in places if kept]
        others = [values for (_, values, kept), _ in places if not kept]
        return repeats(alone, bests, others, before)

    return limited(table.memo(REPEATED, (alone, before), make), _first_results(state, MAX_RESULTS))


def best_wanted(state: State, policy: Policy) -> bool:
    """Whether the best should run again (`refresh_due`)."""
    x = state.experiments[state.best]
    recent = _first_results(state, state.stood) if state.stood else []
    return refresh_due(x.sample, state.stood, policy, worse_in_a_row(state.metric, recent, state.sigma or 0.0))


def _first_results(state: State, newest: int) -> list[float]:
    """First results of the newest experiments that were judged, in that order."""
    return [result for (_, _, result), _ in state.experiments.places(FIRST_RESULTS)[-newest:]]


def baseline_wanted(state: State, policy: Policy) -> bool:
    """Whether the baseline should run again for sigma (`baseline_due`). Never for a time or a speed, which is measured
    beside another run only, and not while the noise is unknown.
    """
    base = state.experiments.get(BASELINE)
    if base is None or state.baseline is None or not state.sigma or state.timed:
        return False
    first, later = (sum(run.kind == kind for run in base.runs) for kind in ("baseline", "repeat"))
    return baseline_due(first + later, later, state.stood, policy)


def simplicity_left(state: State, policy: Policy) -> float:
    """What results from fewer lines may still cost, in the metric's unit (`simplicity_allowance`)."""
    baseline, best = state.experiments[BASELINE].values, state.best_metric
    leader = state.leader()
    if best is None or not baseline:
        return math.inf
    peak = leader.metric if leader and leader.metric is not None else best
    return simplicity_allowance(state.metric, best, peak, baseline, policy)


def refuted_best(state: State, policy: Policy) -> tuple[Experiment, Experiment] | None:
    """The best whose own runs differ so much that it is no better by them, and what would lead without it."""
    x, before = state.experiments.get(state.best), state.leader(apart_from=state.best)
    if x is None or before is None or state.best == BASELINE or state.timed or not x.values or not before.values:
        return None
    return None if stands(state.metric, before.sample, x.sample, noise_of(state), policy) else (x, before)


def overlooked(state: State, policy: Policy) -> list[Experiment]:
    """Experiments that were discarded against a number of the best that no longer holds: those built on a best that was
    taken back, and those that the best's number as it is now would not discard. Never of a time or a speed, whose
    results hold beside those of their time only.
    """
    best, known = state.experiments.get(state.best), noise_of(state)
    if best is None or not best.values or state.timed or known.sigma == 0:
        return []
    left = simplicity_left(state, policy)

    def overlooks(x: Experiment) -> bool:
        found = judge(state.metric, best.sample, x.sample, known, policy, lines_saved=-x.lines, allowance=left)
        return found.verdict != "discarded"

    twice, once = state.experiments.places(DISCARDED_TWICE), state.experiments.places(DISCARDED[state.metric.direction])
    found = [n for _, n in twice[starting(twice, state.best)] if overlooks(state.experiments[n])]
    for saved in (False, True):  # with one result, a better one is never judged worse
        of_best = (n for _, n in once[starting(once, state.best, saved)])
        found += takewhile(lambda n: overlooks(state.experiments[n]), of_best)
    for places in (once, twice):
        found += _on_taken_back(state, places)
    return [state.experiments[n] for n in sorted(found) if n not in state.live and n not in state.pinned]


def _on_taken_back(state: State, places: list[Place]) -> list[int]:
    """Of places by parent: those built on a best that was taken back."""
    found: list[int] = []
    at = 0
    while at < len(places):
        parent = places[at][0][0]
        of_parent = starting(places, parent)
        if parent != state.best and state.experiments[parent].verdict == "discarded":
            found += [number for _, number in places[of_parent]]
        at = of_parent.stop
    return found
