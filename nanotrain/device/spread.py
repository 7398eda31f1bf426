"""How far the logits of one model lie apart when a device computes them twice: measured once for each card and torch.

On a card whose kernels give the same bits every time the spread is 0, and the probes' limits are the same as ever.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotrain.corpus import write_atomically

BFLOAT16_BITS = 7  # of the fraction
MAX_TOP = 32.0  # a model cannot get wider limits by larger logits
MARGIN = 2.0  # times the measured spread: it is the largest of some millions of logits
MAX_SPREAD = 4.0  # a card with more computes wrongly


def unit(tops: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The distance between two neighbouring bfloat16 numbers of this size."""
    sizes = np.clip(np.asarray(tops, dtype=np.float64), 2.0**-20, MAX_TOP)
    return np.asarray(2.0 ** (np.floor(np.log2(sizes)) - BFLOAT16_BITS))


class Tolerance:
    """The largest change of a logit that the device itself can cause: `floor`, or more by the device's `spread`.

    `spread` is counted in units of the last bfloat16 digit of the largest logit at the same position; infinite while it
    is measured. `seen` is the largest met.
    """

    def __init__(self, floor: float, spread: float = 0.0) -> None:
        self.floor, self.spread, self.seen = floor, spread, 0.0

    def worst(
        self, moves: NDArray[np.floating[Any]], tops: NDArray[np.floating[Any]], times: float = 1.0
    ) -> tuple[tuple[int, ...], float, float]:
        """(index, value, limit) of the move that is the largest beside its limit, `times` the tolerance.

        `tops` are the largest absolute logits at the positions of `moves`.
        """
        units = times * unit(tops)
        self.seen = max(self.seen, float((moves / units).max()))
        if math.isinf(self.spread):
            return (0,) * moves.ndim, 0.0, math.inf
        limits = np.maximum(times * self.floor, MARGIN * self.spread * units)
        index = np.unravel_index(int((moves / limits).argmax()), moves.shape)
        return tuple(map(int, index)), float(moves[index]), float(limits[index])


def remembered(path: Path, machine: str, code: bytes, measure: Callable[[], float | None]) -> float:
    """The spread of `machine` from a JSON file, or measured with the pristine `code` and saved there if possible.

    0 when it cannot be measured: then the limits are the tightest.
    """
    name = f"{machine}, {hashlib.sha256(code).hexdigest()[:16]}"
    try:
        known = dict(json.loads(path.read_text()))
        if isinstance(known.get(name), float):
            return float(known[name])
    except (OSError, ValueError, TypeError):
        known = {}
    found = measure()
    if found is None:
        return 0.0
    known[name] = round(found, 3)
    with contextlib.suppress(OSError):  # a cache that cannot be written: it is measured again each time
        write_atomically(path, json.dumps(known, indent=1).encode())
    return float(known[name])
