"""Certification: is the best better than the baseline on fresh seeds? (docs/decisions.md)

A one-sided group-sequential test: best and baseline run in turn, a look after every pair, at most `n` pairs. The
error rate alpha is spent over the looks (Lan and DeMets) as alpha × (share of the pairs done)², so the chance that a
best which gains nothing is ever certified is alpha, however often one looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from core.record.evidence import Prior, mean
from core.record.metric import Metric
from core.stats.noise import NORMAL, estimate, from_normal, to_normal

Ruling = Literal["certified", "refuted", "continue"]

ALPHA = 0.01
POWER = 0.8
FIRST_LOOK = 2  # pairs: one of each says nothing of their own scatter
MOST_PAIRS = 60
ROOM = 1.25
HOPELESS = 0.1  # chance to succeed yet, were the gain as planned, below which it is given up
_STEP = 0.2  # of the grid on which the test's chances are summed; one pair adds a step of standard deviation 1
_REACH = 8.0  # standard deviations beyond which nothing happens


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the runs so far say. `gain` and the interval are in the metric's unit, positive being better; the
    interval is a repeated confidence interval of level 1 - 2 alpha: it holds at every look at once. `p` is one-sided
    and counts the looks before. `z` is what the gain amounts to under a normal law, `bound` what it must reach now.
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
    """Runs of each arm for a chance of `power` (to half a percent) to certify a true `gain`, sigma that of one run.

    Between 2 and 60. Raises ValueError when the gain is not positive: there is nothing to certify.
    """
    if not gain > 0:
        raise ValueError("there is no gain to certify")
    for n in range(FIRST_LOOK, MOST_PAIRS):
        if sigma == 0 or NORMAL.cdf(gain / (sigma * math.sqrt(2 / n)) - NORMAL.inv_cdf(1 - alpha)) >= power - 0.005:
            return n
    return MOST_PAIRS


def most_pairs(gain: float, sigma: float, power: float = POWER, alpha: float = ALPHA) -> int:
    """The pairs a certificate may take: `plan`, and room for what looking early and not knowing sigma cost.

    At most 60. Raises ValueError when the gain is not positive.
    """
    return min(MOST_PAIRS, math.ceil(ROOM * plan(gain, sigma, power, alpha)))


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
) -> Look:
    """The look after `min(len(baseline), len(best))` pairs of fresh runs.

    `planned`: the most pairs; `expected`: the gain planned for. `sigma` with its `df` is the session's, pooled here
    with the scatter of these runs; df may be 0. Before the second pair the answer is always to continue.
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
    if error == 0:  # no scatter at all, or nothing run twice yet
        known = pairs >= FIRST_LOOK
        certain: Ruling = "continue" if not known else "certified" if gain > 0 else "refuted"
        z = math.copysign(math.inf, gain) if gain else 0.0
        reach = 0.0 if known else math.inf
        p = (0.0 if gain > 0 else 1.0) if known else 1.0
        why = "runs of the same code agree exactly" if known else "nothing was run twice yet"
        return Look(
            decision=certain,
            gain=gain,
            low=gain - reach,
            high=gain + reach,
            z=z,
            bound=bound,
            p=p,
            pairs=pairs,
            planned=planned,
            reason=why,
        )
    z = to_normal(gain / error, noise.df)
    p = min(1.0, spent[pairs - 1] + crossing(planned, alpha, pairs, z))
    half = from_normal(bound, noise.df) * error if math.isfinite(bound) else math.inf
    decision, reason = _decide(z, bound, bounds[-1], pairs, planned, expected / (noise.sigma * math.sqrt(2 / planned)))
    return Look(
        decision=decision,
        gain=gain,
        low=gain - half,
        high=gain + half,
        z=z,
        bound=bound,
        p=p,
        pairs=pairs,
        planned=planned,
        reason=reason,
    )


def _decide(z: float, bound: float, last: float, pairs: int, planned: int, drift: float) -> tuple[Ruling, str]:
    """`drift`: the mean of z at the last look, were the gain as planned."""
    if pairs < FIRST_LOOK:
        return "continue", f"{pairs} of {planned} pairs"
    if z >= bound:
        return "certified", f"z {z:.2f} is over {bound:.2f}, the bound after {pairs} of {planned} pairs"
    if pairs == planned:
        return "refuted", f"z {z:.2f} is under {bound:.2f} after all {planned} pairs"
    share = pairs / planned
    left = 1 - share
    chance = NORMAL.cdf((z * math.sqrt(share) + drift * left - last) / math.sqrt(left))
    if chance < HOPELESS:
        return (
            "refuted",
            f"z {z:.2f} after {pairs} of {planned} pairs; a chance of {chance:.0%} to get over the bound yet",
        )
    return "continue", f"z {z:.2f} after {pairs} of {planned} pairs; {bound:.2f} would do"


def spending(share: float, alpha: float) -> float:
    """The part of alpha that may be used up when `share` of the pairs is done."""
    return alpha * min(1.0, share) ** 2


@lru_cache(maxsize=64)
def boundaries(planned: int, alpha: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """For each look: the z to reach (infinite before look 2), and the alpha used up before that look."""
    return _walk(planned, alpha)[:2]


def crossing(planned: int, alpha: float, look: int, z: float) -> float:
    """The chance, under no gain, to get to `look` (from 1) without having crossed a bound, and there to reach `z`."""
    edge, density = _walk(planned, alpha)[2][look - 1]
    return _tail(edge, density, z * math.sqrt(look))


_Density = tuple[float, tuple[float, ...]]  # its upper edge, and weighted values from there down in steps of _STEP


@lru_cache(maxsize=64)
def _walk(planned: int, alpha: float) -> tuple[tuple[float, ...], tuple[float, ...], tuple[_Density, ...]]:
    """The sum of the pairs' differences as a walk with normal steps: at each look the bound, the alpha used up
    before, and the density of the walks that have crossed no bound before that look's step (Armitage, McPherson, Rowe).
    """
    bounds: list[float] = []
    used = [0.0]
    densities: list[_Density] = [(0.0, (1.0,))]  # before the first step: all at 0
    for look in range(1, planned + 1):
        edge, density = densities[-1]
        root = math.sqrt(look)
        if look < FIRST_LOOK:
            bound, after = math.inf, 0.0
        else:
            after = spending(look / planned, alpha)
            bound = _solve(edge, density, after - used[-1]) / root
        bounds.append(bound)
        used.append(after)
        densities.append(_step(edge, density, min(bound, _REACH) * root, -_REACH * root))
    return tuple(bounds), tuple(used), tuple(densities)


def _tail(edge: float, density: tuple[float, ...], above: float) -> float:
    """The chance that the next step ends above."""
    return math.fsum(w * NORMAL.cdf(edge - i * _STEP - above) for i, w in enumerate(density))


def _solve(edge: float, density: tuple[float, ...], chance: float) -> float:
    low, high = -_REACH * 10, _REACH * 10
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(edge, density, middle) > chance else (low, middle)
    return high


def _step(edge: float, density: tuple[float, ...], top: float, bottom: float) -> _Density:
    """The density after one more step, below `top`, with the weights of Simpson's rule."""
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
