"""Certification: is the best better than the baseline on fresh seeds? (docs/decisions.md)

A one-sided group-sequential test: best and baseline run in turn, with an interim analysis after every pair. The error
rate alpha is spent over the analyses (Lan and DeMets) as alpha × (share of the pairs done)²: the probability that a
best without a gain is ever certified is alpha, whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from core.record.metric import Metric
from core.record.sample import Prior, mean
from core.stats.noise import NORMAL, estimate, from_normal, to_normal

Ruling = Literal["certified", "refuted", "undecided", "continue"]

ALPHA = 0.01
POWER = 0.8
FIRST_ANALYSIS = 2  # pairs; with one of each nothing is known of their scatter
MAX_PAIRS = 60
PAIRS_FACTOR = 1.25  # pairs allowed per planned pair, for early analyses and an estimated sigma
MIN_SUCCESS = 0.1  # stopped for futility when the probability to succeed, with the gain as planned, is below this
_STEP = 0.2  # of the grid for the numerical integration, in standard deviations of one pair's difference
_REACH = 8.0  # standard deviations beyond which a density counts as 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InterimAnalysis:
    """Result of the test after some of the pairs.

    `gain` with `low` and `high`: in the metric's unit, positive is better; a repeated confidence interval of level
    1 - 2 alpha, valid at all analyses at once. `p`: one-sided, adjusted for the earlier analyses. `z`: of the gain,
    under a normal law; `bound`: what z must reach at this analysis.
    """

    decision: Ruling
    gain: float
    low: float
    high: float
    z: float
    bound: float
    p: float
    pairs: int
    planned: int
    reason: str


def plan(gain: float, sigma: float, power: float = POWER, alpha: float = ALPHA) -> int:
    """Runs of each arm for a probability of `power` (to half a percent) to certify a true `gain`; sigma: of one run.

    Between 2 and 60. Raises ValueError when the gain is not positive.
    """
    if not gain > 0:
        raise ValueError("there is no gain to certify")
    for n in range(FIRST_ANALYSIS, MAX_PAIRS):
        if sigma == 0 or NORMAL.cdf(gain / (sigma * math.sqrt(2 / n)) - NORMAL.inv_cdf(1 - alpha)) >= power - 0.005:
            return n
    return MAX_PAIRS


def most_pairs(gain: float, sigma: float, power: float = POWER, alpha: float = ALPHA) -> int:
    """The most pairs of a certificate: `plan` and a quarter, at most 60. Raises ValueError without a positive gain."""
    return min(MAX_PAIRS, math.ceil(PAIRS_FACTOR * plan(gain, sigma, power, alpha)))


def certificate_test(
    metric: Metric,
    baseline: Sequence[float],
    best: Sequence[float],
    planned: int,
    *,
    expected: float,
    sigma: float,
    df: float,
    alpha: float = ALPHA,
) -> InterimAnalysis:
    """The analysis after `min(len(baseline), len(best))` pairs of fresh runs.

    `planned`: maximum of pairs; `expected`: the gain planned for. `sigma` with its `df` is the session's, pooled here
    with the scatter of these runs; df may be 0. Before the second pair the test always continues.
    Raises ValueError without a pair or with more than planned.
    """
    pairs = min(len(baseline), len(best))
    if not 1 <= pairs <= planned:
        raise ValueError(f"{pairs} pairs of runs, {planned} planned")
    gain = metric.gain(mean(baseline), mean(best))
    noise = estimate([baseline, best], Prior(sigma, df) if df > 0 else None)
    error = noise.sigma * math.sqrt(1 / len(baseline) + 1 / len(best))
    bounds, spent = boundaries(planned, alpha)
    bound = bounds[pairs - 1]
    decision: Ruling
    if error > 0:
        z = to_normal(gain / error, noise.df)
        p = min(1.0, spent[pairs - 1] + crossing(planned, alpha, pairs, z))
        half = from_normal(bound, noise.df) * error if math.isfinite(bound) else math.inf
        drift = expected / (noise.sigma * math.sqrt(2 / planned))
        decision, reason = _decide(z, bound, bounds[-1], pairs, planned, drift)
    else:
        z = math.copysign(math.inf, gain) if gain else 0.0
        if pairs >= FIRST_ANALYSIS:
            decision, p, half = "undecided" if gain > 0 else "refuted", 1.0, math.inf
            reason = "fresh seeds gave one number to the last digit: the noise is unknown"
        else:
            decision, p, half, reason = "continue", 1.0, math.inf, "nothing was run twice yet"
    return InterimAnalysis(
        decision=decision, gain=gain, low=gain - half, high=gain + half, z=z, bound=bound, p=p, pairs=pairs,
        planned=planned, reason=reason,
    )  # fmt: skip


def _decide(z: float, bound: float, last: float, pairs: int, planned: int, drift: float) -> tuple[Ruling, str]:
    """`drift`: mean of z at the last analysis, if the gain is as planned."""
    if pairs < FIRST_ANALYSIS:
        return "continue", f"{pairs} of {planned} pairs"
    if z >= bound:
        return "certified", f"z {z:.2f} is over {bound:.2f}, the bound after {pairs} of {planned} pairs"
    if pairs == planned:
        return "refuted", f"z {z:.2f} is under {bound:.2f} after all {planned} pairs"
    share = pairs / planned
    left = 1 - share
    chance = NORMAL.cdf((z * math.sqrt(share) + drift * left - last) / math.sqrt(left))
    reached = f"z {z:.2f} after {pairs} of {planned} pairs"
    if chance < MIN_SUCCESS:
        return "refuted", f"{reached}; the chance to reach the bound later is {chance:.0%}"
    return "continue", f"{reached}; {bound:.2f} is needed"


def spending(share: float, alpha: float) -> float:
    """The part of alpha that is spent when `share` of the pairs is done."""
    return alpha * min(1.0, share) ** 2


@lru_cache(maxsize=64)
def boundaries(planned: int, alpha: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """For each analysis: the z to reach (infinite before the second), and the alpha spent before it."""
    return _walk(planned, alpha)[:2]


def crossing(planned: int, alpha: float, pairs: int, z: float) -> float:
    """The probability, without a gain, to cross no bound before the analysis of `pairs` pairs, and reach `z` there."""
    edge, density = _walk(planned, alpha)[2][pairs - 1]
    return _tail(edge, density, z * math.sqrt(pairs))


_Density = tuple[float, tuple[float, ...]]  # upper edge, and weighted values from there down in steps of _STEP


@lru_cache(maxsize=64)
def _walk(planned: int, alpha: float) -> tuple[tuple[float, ...], tuple[float, ...], tuple[_Density, ...]]:
    """Random walk of the sum of the pairs' differences (Armitage, McPherson, Rowe): for each analysis the bound, the
    alpha spent before it, and the density of the walks that crossed no earlier bound.
    """
    bounds: list[float] = []
    spent = [0.0]
    densities: list[_Density] = [(0.0, (1.0,))]  # before the first step: all at 0
    for pairs in range(1, planned + 1):
        edge, density = densities[-1]
        root = math.sqrt(pairs)
        if pairs < FIRST_ANALYSIS:
            bound, after = math.inf, 0.0
        else:
            after = spending(pairs / planned, alpha)
            bound = _solve(edge, density, after - spent[-1]) / root
        bounds.append(bound)
        spent.append(after)
        densities.append(_step(edge, density, min(bound, _REACH) * root, -_REACH * root))
    return tuple(bounds), tuple(spent), tuple(densities)


def _tail(edge: float, density: tuple[float, ...], above: float) -> float:
    """Probability that the next step ends above `above`."""
    return math.fsum(w * NORMAL.cdf(edge - i * _STEP - above) for i, w in enumerate(density))


def _solve(edge: float, density: tuple[float, ...], chance: float) -> float:
    """The value above which the next step ends with probability `chance`, by bisection."""
    low, high = -_REACH * 10, _REACH * 10
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(edge, density, middle) > chance else (low, middle)
    return high


def _step(edge: float, density: tuple[float, ...], top: float, bottom: float) -> _Density:
    """Density after one more step, below `top`, with the weights of Simpson's rule."""
    count = 2 * math.ceil((top - bottom) / (2 * _STEP)) + 1
    reach = int(_REACH / _STEP)
    found = []
    for j in range(count):
        x = top - j * _STEP
        near = round((edge - x) / _STEP)
        first, last = max(0, near - reach), min(len(density), near + reach + 1)
        value = math.fsum(
            density[i] * math.exp(-0.5 * (x - edge + i * _STEP) ** 2) for i in range(first, last)
        ) / math.sqrt(2 * math.pi)
        weight = 1 if j in (0, count - 1) else 4 if j % 2 else 2
        found.append(value * weight * _STEP / 3)
    return top, tuple(found)
