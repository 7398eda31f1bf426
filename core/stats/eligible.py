"""Eligibility of an experiment for `certify` and `reproduce`"""

from __future__ import annotations

import math

from core.record.errors import CommandRefused
from core.record.state import BASELINE, Experiment, State
from core.stats.decide import MAX_HIDDEN_GAP
from core.stats.silence import silence, silence_hint


def certifiable(state: State, number: int | None) -> int:
    """Number of the experiment to certify; `number` None: the best. Raises CommandRefused with the reason."""
    chosen = state.best if number is None else number
    x = state.experiments.get(chosen)
    if state.baseline is None:
        raise CommandRefused("the baseline has no result yet: there is nothing to compare with")
    if chosen == BASELINE:
        raise CommandRefused("there is nothing to certify yet: the best is the baseline itself")
    if x is None:
        raise CommandRefused(f"there is no experiment {chosen}: there are 1 to {max(state.experiments)}")
    if x.verdict != "kept" or not x.values or not x.commit:
        word = f"was {x.verdict}" if x.verdict and chosen not in state.live else "has no verdict yet"
        raise CommandRefused(f"experiment {chosen} {word}: only kept experiments are certified")
    if state.metric.gain(state.baseline.metric, x.metric or 0.0) <= 0:
        raise CommandRefused(f"experiment {chosen} is no better than the baseline: there is no gain to certify")
    if x.hidden_gap is not None and x.hidden_gap > MAX_HIDDEN_GAP:
        outcome = "was rejected" if math.isinf(x.hidden_gap) else f"gains {x.hidden_gap:.1f}σ less"
        raise CommandRefused(f"experiment {chosen} {outcome} on the hidden slice")
    if state.noise is not None and state.noise.df > 0 and (said := silence(state)):
        hint = f"{silence_hint(state)}; then start another session"
        raise CommandRefused(f"experiment {chosen} cannot be certified: {said}", hint=hint)
    return chosen


def reproducible(state: State, number: int) -> Experiment:
    """The experiment, which has a result to reproduce. Raises CommandRefused with the reason."""
    x = state.experiments.get(number)
    if x is None:
        raise CommandRefused(f"there is no experiment {number}: the last is {max(state.experiments, default=0)}")
    if not x.commit or not x.values:
        raise CommandRefused(f"experiment {number} has no result to reproduce")
    return x
