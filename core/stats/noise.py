"""Sigma: the noise of one run, estimated from repeats, with its interval (docs/decisions.md)"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from core.record.sample import Prior

NORMAL = NormalDist()
COVERAGE = 0.9  # of the interval from `Noise.low` to `Noise.high`


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
    squares, df = [], 0.0
    for group in groups:
        finite = [v for v in group if math.isfinite(v)]
        if len(finite) < 2:
            continue
        # Differences to the first value: equal results then give exactly 0.
        shifted = [v - finite[0] for v in finite]
        mean = math.fsum(shifted) / len(shifted)
        squares += [(v - mean) ** 2 for v in shifted]
        df += len(finite) - 1
    if prior is not None and df > 0 and not any(squares):
        prior = None  # equal repeats say nothing of the noise, and an earlier session's is not this code's
    if prior is not None:
        squares.append(prior.df * prior.sigma**2)
        df += prior.df
    if df == 0:
        return Noise(sigma=0.0, df=0.0, low=0.0, high=math.inf)
    sigma = math.sqrt(math.fsum(squares) / df)
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

    It is a share of the number. `groups` were measured so; `baseline` alone, where the scatter is smaller by √2.
    """
    logs = [[level * math.log(v) for v in group if v > 0] for group in groups]
    return estimate([[math.sqrt(2) * level * math.log(v) for v in baseline if v > 0], *logs], prior)


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
