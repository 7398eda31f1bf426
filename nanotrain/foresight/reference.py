"""The loss of a plain guess at each target, from counts in the training text: how hard a token is, by trusted code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_TOKENS = 1 << 20  # of training text that are counted
BUCKETS = 1 << 20  # of pairs of tokens; pairs that meet in one count together
BACKED_OFF = 20.0  # pairs with a first token that weigh as much as the frequency of the second
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
Tokens = NDArray[np.uint16]


def guesses(rows: Tokens, training_rows: Tokens, vocab: int) -> NDArray[np.float64]:
    """(2, rows, T): nats of each target of `rows` (n, T + 1) by its frequency, alone and after the token before."""
    text = training_rows[: max(1, MAX_TOKENS // training_rows.shape[1])]
    counts = 1.0 + np.bincount(text.reshape(-1), minlength=vocab)
    chance = (counts / counts.sum())[rows[:, 1:]]
    pairs = np.bincount(_buckets(text), minlength=BUCKETS)[_buckets(rows)].reshape(chance.shape)
    firsts = np.bincount(text[:, :-1].reshape(-1), minlength=vocab)[rows[:, :-1]]
    after = (pairs + BACKED_OFF * chance) / (firsts + BACKED_OFF)
    return np.asarray(-np.log(np.stack([chance, after])))


def _buckets(rows: Tokens) -> NDArray[np.int64]:
    """The bucket of every two neighbouring tokens of each row, flattened."""
    wide = rows.astype(np.uint64)
    keys = ((wide[:, :-1] << np.uint64(16)) + wide[:, 1:] + np.uint64(1)) * MULTIPLIER
    return np.asarray((keys.reshape(-1) >> np.uint64(64 - 20)).astype(np.int64))
