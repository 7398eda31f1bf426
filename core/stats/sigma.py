"""Sigma of a session and what follows from it, from its State (docs/decisions.md)"""

from __future__ import annotations

import math

from core.record.sample import mean
from core.record.state import BASELINE, Experiment, State
from core.stats.decide import Policy, baseline_due, judge, refresh_due, simplicity_allowance, stands, worse_in_a_row
from core.stats.noise import Noise, in_turn_noise, session_noise


def noise_of(state: State, *, prior: bool = True) -> Noise:
    """Noise of one result, as `session_noise` has it from code that ran more than once; with `prior`, from an earlier
    session's runs too.
    """
    found = [x for n, x in state.experiments.items() if n != BASELINE and len(x.runs) > 1 and len(x.values) > 1]
    base = state.experiments.get(BASELINE)
    alone, before = base.values if base else (), state.prior if prior else None
    if state.timed:
        return in_turn_noise(alone, [x.values for x in found], state.best_metric or 0.0, before)
    bests = [x.values for x in found if x.verdict == "kept"]
    others = [x.values for x in found if x.verdict != "kept"]
    return session_noise(alone, bests, others, before, _first_results(state))


def best_wanted(state: State, policy: Policy) -> bool:
    """Whether the best should run again (`refresh_due`)."""
    x = state.experiments[state.best]
    recent = _first_results(state)[-state.stood :] if state.stood else []
    return refresh_due(x.sample, state.stood, policy, worse_in_a_row(state.metric, recent, state.sigma or 0.0))


def _first_results(state: State) -> list[float]:
    """First results of the experiments that were judged, relative to the best of their time, in that order."""
    judged = [x for n, x in state.experiments.items() if n != BASELINE and x.delta is not None and x.chosen_on]
    judged.sort(key=lambda x: x.ended or math.inf)
    return [x.values[0] - mean(x.values[: x.chosen_on]) + (x.delta or 0.0) for x in judged if x.values]


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

    def wanted(x: Experiment) -> bool:
        if x.verdict != "discarded" or x.number in state.live or x.number in state.pinned or x.forked or not x.values:
            return False
        if x.parent != state.best:
            return state.experiments[x.parent].verdict == "discarded"
        found = judge(state.metric, best.sample, x.sample, known, policy, lines_saved=-x.lines, allowance=left)
        return found.verdict != "discarded"

    return [x for n, x in state.experiments.items() if n != BASELINE and wanted(x)]
