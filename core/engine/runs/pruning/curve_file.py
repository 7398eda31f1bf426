"""The curve that a run has printed, as points over its schedule"""

from __future__ import annotations

import math
from pathlib import Path

from core.record.budget import RunBudget

MAX_BYTES = 4 << 20  # that are read of a curve; the shim writes far fewer


def points(path: Path, budget: RunBudget, cut: float = 0.0) -> list[tuple[float, float]]:
    """(share of the budget, loss) of each line of `curve.tsv`; [] without one. What is no such line is left out.

    Where the clock, which is the harness's own, goes back, it started anew: only what follows counts.
    """
    try:
        with path.open("rb") as file:
            lines = file.read(MAX_BYTES).split(b"\n")[:-1]
    except OSError:
        return []
    found: list[tuple[float, float]] = []
    last = -math.inf
    for line in lines:
        try:
            seconds, step, loss = line.split(b"\t")
            at, number, value = float(seconds), float(int(step)), float(loss)
        except (ValueError, OverflowError):
            continue
        if not 0 <= at < math.inf:
            continue
        if at < last:
            found.clear()
        last = at
        whole = budget.seconds - cut if budget.seconds is not None else float(budget.steps or 0)
        done = at if budget.seconds is not None else number
        if whole > 0:
            found.append((done / whole, value))
    return found
