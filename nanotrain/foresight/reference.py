"""The loss of a plain guess at each target, from counts in the training text: how hard a token is, by trusted code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_TOKENS = 1 << 20  # of training text that are counted
BUCKETS = 1 << 21  # of contexts and of contexts with their next token; two that meet count as one
BACKED_OFF = 20.0  # tokens of a context that weigh as much as the guess without its first token
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
Tokens = NDArray[np.uint16]


def guesses(rows: Tokens, training_rows: Tokens, vocab: int) -> NDArray[np.float64]:
    """(orders, rows, T): nats of each target of `rows` (n, T + 1) by its frequency, and by the one or two before it."""
    text = training_rows[: max(1, MAX_TOKENS // training_rows.shape[1])]
    counts = 1.0 + np.bincount(text.reshape(-1), minlength=vocab)
    chance = (counts / counts.sum())[rows[:, 1:]]
    found = [chance]
    for order in (1, 2):
        with_next, alone = (np.bincount(_keys(text, length), minlength=BUCKETS) for length in (order + 1, order))
        here = slice(order - 1, None)  # targets with as many tokens before them
        seen, hits = alone[_keys(rows, order, drop=1)], with_next[_keys(rows, order + 1)]
        chance = chance.copy()
        shape = chance[:, here].shape
        chance[:, here] = (hits.reshape(shape) + BACKED_OFF * chance[:, here]) / (seen.reshape(shape) + BACKED_OFF)
        found.append(chance)
    return -np.log(np.stack(found))


def _keys(rows: Tokens, length: int, drop: int = 0) -> NDArray[np.int64]:
    """The bucket of every `length` neighbouring tokens of each row, without the last `drop` ones; flattened."""
    wide = rows[:, : rows.shape[1] - drop].astype(np.uint64) + np.uint64(1)
    key = np.zeros((len(rows), wide.shape[1] - length + 1), dtype=np.uint64)
    for place in range(length):
        key = (key + wide[:, place : place + key.shape[1]]) * MULTIPLIER
    return (key.reshape(-1) >> np.uint64(64 - 21)).astype(np.int64)
