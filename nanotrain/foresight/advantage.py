"""Tests of a look ahead that assume the worst: whatever one process was asked and answered, the other one knows.

Each compares answers that could not use the future with others of the same model, at places that the system's entropy
chose. Its value is a sum of independent terms, one a row or an answer, whose mean is 0 for any model that does not look
ahead, whatever the distribution of its losses; in standard errors.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Nats: a gain at easy tokens would be lost in the scatter of the hard ones, and all of it in that of one absurd loss.
LOSS_CAPS = (16.0, 8.0, 4.0, 2.0, 1.0)
CHANCES = (1e-1, 1e-2, 1e-3, 1e-4)  # a probability counts where it is above
MAX_STANDARD_ERRORS = 6.0


def standard_errors(terms: Floats, variance: float) -> float:
    """The sum of independent terms in standard errors, by their squares or by the `variance` expected of the sum.

    The larger of the two: where what is rare happens not to be met, the squares are small.
    """
    size = math.sqrt(max(float((terms * terms).sum()), variance))
    return float(terms.sum()) / size if size > 0 else 0.0


def residuals(losses: Floats, guesses: Floats) -> Floats:
    """`losses` (rows, T) without what the `guesses` (n, rows, T) of trusted code explain of them."""
    features = np.stack([np.ones(losses.size), *guesses.reshape(len(guesses), -1)], axis=1)
    fitted = np.linalg.lstsq(features.T @ features, features.T @ losses.reshape(-1), rcond=None)[0]
    return np.asarray(losses - (features @ fitted).reshape(losses.shape))


def of_the_scored(clean: Floats, cuts: NDArray[np.int64], scored: Floats, guesses: Floats) -> float:
    """The scored losses (rows, T) against those of answers before whose time no process was shown their target.

    `clean` (passes, rows) are losses at the position before each of `cuts`, which are anywhere in the row by chance.
    """
    worst, rows = -math.inf, np.arange(len(scored))
    for cap in LOSS_CAPS:
        capped = np.minimum(scored, cap)
        rest = residuals(capped, guesses)
        terms, variance = np.zeros(len(scored)), len(cuts) * float(rest.var(axis=1).sum())
        for losses, ends in zip(clean, cuts, strict=True):
            terms += np.minimum(losses, cap) - (capped - rest)[rows, ends - 1] - rest.mean(axis=1)
        worst = max(worst, standard_errors(terms, variance))
    return worst


def of_the_unasked(asked: NDArray[np.bool_], chance: Floats, scored: Floats, guesses: Floats) -> float:
    """The scored losses (rows, T) at positions that no witness was asked for, against those at `asked` ones.

    `chance` (T,) is the probability of a position to be asked for.
    """
    worst = -math.inf
    for cap in LOSS_CAPS:
        rest = residuals(np.minimum(scored, cap), guesses)
        rest -= rest.mean(axis=0)
        variance = float((chance * (1 - chance) * rest * rest).sum())
        worst = max(worst, standard_errors(((asked - chance) * rest).sum(axis=1), variance))
    return worst


def of_the_shown(shown: Floats, others: Floats) -> float:
    """Probabilities (n,) of the exchanged token that was shown next, against those of others (n, K) that were not.

    Both kinds are drawn alike, so a model that does not look ahead gives them the same chance.
    """
    worst, every = -math.inf, np.concatenate([shown[:, None], others], axis=1)
    for chance in CHANCES:
        sizes = np.log1p(every / chance)
        variance = float(sizes.var(axis=1, ddof=1).sum()) * (1 + 1 / others.shape[1])
        worst = max(worst, standard_errors(sizes[:, 0] - sizes[:, 1:].mean(axis=1), variance))
    return worst
