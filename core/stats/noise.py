"""Sigma: the noise of one run, estimated from repeats, with its interval (docs/decisions.md)"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, median

from core.record.sample import Prior

NORMAL = NormalDist()
COVERAGE = 0.9  # of the interval from `Noise.low` to `Noise.high`
WILD = 0.01  # probability of a scatter of one code's runs beyond which it is its own, not the session's
FACTOR = 2.0  # by which the scatter of one experiment's runs may be apart from sigma; what is beyond it is cut off
MIN_RESULTS = 20  # of different code, that give a scatter
MAX_RESULTS = 100  # the newest ones, of which it is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Standard deviation of a single run, in the metric's unit, with a 90% interval.

    `df`: degrees of freedom, including those of a prior. Without any repeat df and sigma are 0 and `high` is infinite.
    Equal repeats give exactly sigma 0 and high 0: the noise is unknown.
    """

    sigma: float
    df: float
    low: float
    high: float

    def as_prior(self, most: float = 2.0) -> Prior | None:
        """Prior for the next session, worth at most `most` repeats, so that its own repeats soon outweigh it."""
        return Prior(self.sigma, min(self.df, most)) if self.df > 0 and self.sigma > 0 else None


def estimate(groups: Iterable[Sequence[float]], prior: Prior | None = None) -> Noise:
    """Sigma from `groups` of results; each group holds runs of the same code.

    The pooled variance within the groups: a group of n runs has n - 1 degrees of freedom, a single run none. A prior is
    pooled in the same way with its own. Results that are not finite are left out.
    """
    squares, df = 0.0, 0.0
    for own, runs in map(within, groups):
        squares += own
        df += runs
    if prior is not None and df > 0 and squares == 0:
        prior = None  # equal repeats say nothing of the noise, and an earlier session's is not this code's
    if prior is not None:
        squares += prior.df * prior.sigma**2
        df += prior.df
    return _noise(squares, df)


def session_noise(
    baseline: Sequence[float],
    bests: Iterable[Sequence[float]] = (),
    others: Iterable[Sequence[float]] = (),
    prior: Prior | None = None,
    results: Sequence[float] = (),
    *,
    share: float = 1.0,
) -> Noise:
    """Sigma of a session. From a baseline alone no single experiment moves it by more than a factor of 1.6, whatever
    its runs return; where it decides whether the runs of others agree with sigma, by more (docs/decisions.md).

    It starts from the runs of the baseline, with a `prior` that agrees with them (is in their 90% interval). `bests`:
    results of each experiment that became the best, in that order. Each is pooled with no more degrees of freedom than
    came before it, and its variance is cut off at a factor of 4 either way (FACTOR squared). `others`: of those that
    did not. They are cut off likewise, and all together have at most `share` times the degrees of freedom of the rest;
    with an infinite share their median may widen where they are cut off. With a finite one, bests and others whose own
    runs disagree with that sigma by more than chance explains are then left out: they are judged by their own scatter.

    `results`: first results of different code, relative to the best of their time. They scatter by the noise and by
    their effects, so sigma cannot be more than their `scatter`.
    """
    return limited(repeats(baseline, bests, others, prior, share=share), results)


def repeats(
    baseline: Sequence[float],
    bests: Iterable[Sequence[float]] = (),
    others: Iterable[Sequence[float]] = (),
    prior: Prior | None = None,
    *,
    share: float = 1.0,
) -> tuple[float, float]:
    """What `session_noise` has from repeats alone: sum of squares and degrees of freedom."""
    alone = estimate([baseline])
    agreed = prior is not None and (alone.df == 0 or alone.low <= prior.sigma <= alone.high)
    start = estimate([baseline], prior if agreed else None)
    own = [tuple(group) for group in bests], [tuple(group) for group in others]
    squares, df = _pooled(start, *own, share)
    if squares and share < math.inf:
        sigma = math.sqrt(squares / df)
        agreeing = [[group for group in groups if disagreement(group, sigma) == 1] for groups in own]
        squares, df = _pooled(start, agreeing[0], agreeing[1], share)
    return squares, df


def limited(known: tuple[float, float], results: Sequence[float]) -> Noise:
    """Sigma from a sum of squares and its degrees of freedom, but no more than the scatter of the `results`."""
    squares, df = known
    limit = scatter(results)
    return _noise(min(squares, df * limit**2) if limit else squares, df)


def _pooled(
    start: Noise, bests: Sequence[tuple[float, ...]], others: Sequence[tuple[float, ...]], share: float
) -> tuple[float, float]:
    """Sum of squares of `start` with those of bests and others, cut off, and its degrees of freedom."""
    squares, df = start.df * start.sigma**2, start.df
    for own, runs in map(within, bests):
        if runs:
            weight = min(runs, df) if squares else runs
            squares += weight * _cut(own / runs, squares / df if squares else 0.0)
            df += weight
    found = [(own / runs, runs) for own, runs in map(within, others) if runs]
    whole = sum(runs for _, runs in found)
    if found and df == 0:  # nothing that is trusted ran twice
        df = min(2.0, whole)
        squares = df * median(variance for variance, _ in found)
    elif found and squares:
        around = squares / df
        if share == math.inf:  # the baseline's few runs may be too near each other: most candidates are believed, too
            around = max(around, median(variance for variance, _ in found) / chi_square(0.5, 1))
        level = math.fsum(runs * _cut(variance, around) for variance, runs in found) / whole
        weight = min(whole, share * df)
        squares += weight * level
        df += weight
    return squares, df


def disagreement(values: Sequence[float], sigma: float) -> float:
    """Variance of the runs of one code in sigmas squared, where it is more than chance explains (1%); else 1."""
    squares, df = within(values)
    apart = squares / sigma**2  # chi-square with df degrees of freedom
    return apart / df if df > 0 and apart > chi_square(1 - WILD, df) else 1.0


def within(group: Sequence[float]) -> tuple[float, float]:
    """Sum of squares about the mean of a group, and its degrees of freedom; results that are not finite are left out.

    It is computed from differences to the first value: equal results then give exactly 0.
    """
    return _within(tuple(group))


@lru_cache(maxsize=1 << 14)  # each verdict looks at all groups of the session
def _within(group: tuple[float, ...]) -> tuple[float, float]:
    finite = [v for v in group if math.isfinite(v)]
    if len(finite) < 2:
        return 0.0, 0.0
    shifted = [v - finite[0] for v in finite]
    mean = math.fsum(shifted) / len(shifted)
    return math.fsum((v - mean) ** 2 for v in shifted), len(shifted) - 1.0


def _cut(variance: float, around: float) -> float:
    """`variance`, within a factor of FACTOR squared of `around`; 0: there is nothing yet to compare with."""
    return min(max(variance, around / FACTOR**2), around * FACTOR**2) if around else variance


def scatter(results: Sequence[float]) -> float:
    """Robust scatter of the newest results, as the sigma of a normal law: from the shortest interval that holds half of
    them, so that the other half, whatever it is, hardly changes it. 0 for too few.

    Source: P. Rousseeuw and A. Leroy, A robust scale estimator based on the shortest half (1988).
    """
    found = sorted(results[-MAX_RESULTS:])
    half = (len(found) + 1) // 2
    if len(found) < MIN_RESULTS:
        return 0.0
    return min(b - a for a, b in zip(found, found[half:], strict=False)) / (2 * NORMAL.inv_cdf(0.75))


def _noise(squares: float, df: float) -> Noise:
    """Sigma from a sum of squares with so many degrees of freedom."""
    if df == 0:
        return Noise(sigma=0.0, df=0.0, low=0.0, high=math.inf)
    sigma = math.sqrt(squares / df)
    tail = (1 - COVERAGE) / 2
    return Noise(
        sigma=sigma,
        df=df,
        low=sigma / math.sqrt(chi_square(1 - tail, df) / df),
        high=sigma / math.sqrt(chi_square(tail, df) / df),
    )


def in_turn_noise(
    baseline: Sequence[float], groups: Iterable[Sequence[float]], level: float, prior: Prior | None = None
) -> Noise:
    """Sigma of a time or a speed that is measured in turn with another run, for code whose number is `level`.

    It is a share of the number. `groups` were measured so; `baseline` alone, where the scatter is smaller by √2, and
    which is not repeated: the groups have all their degrees of freedom, but are cut off as in `session_noise`.
    """
    logs = [[level * math.log(v) for v in group if v > 0] for group in groups]
    return session_noise(
        [math.sqrt(2) * level * math.log(v) for v in baseline if v > 0], others=logs, prior=prior, share=math.inf
    )


def chi_square(p: float, df: float) -> float:
    """p-quantile of chi-square with `df` degrees of freedom (exact for 1 and 2; else Wilson and Hilferty, to 1%)."""
    if df == 1:
        return NORMAL.inv_cdf((1 + p) / 2) ** 2
    if df == 2:
        return -2 * math.log1p(-p)
    spread = 2 / (9 * df)
    return df * max(1e-3, 1 - spread + NORMAL.inv_cdf(p) * math.sqrt(spread)) ** 3


def to_normal(t: float, df: float) -> float:
    """The z with the same tail probability as `t` of Student's t with `df` degrees of freedom (Wallace)."""
    if df == math.inf or t == 0:
        return t
    shrink = (8 * df + 1) / (8 * df + 3)
    return math.copysign(shrink * math.sqrt(df * math.log1p(t * t / df)), t)


def from_normal(z: float, df: float) -> float:
    """The inverse of `to_normal`."""
    if df == math.inf or z == 0:
        return z
    stretched = z * (8 * df + 3) / (8 * df + 1)
    return math.copysign(math.sqrt(df * math.expm1(min(600.0, stretched * stretched / df))), z)
