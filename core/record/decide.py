"""The decision rule: is a difference between two results more than chance? (DESIGN §8)"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.record.metric import Metric, format_delta


@dataclass(frozen=True, slots=True)
class Decision:
    """`verdict` with the signed change of the metric (`delta`) and its reason in words."""

    verdict: Literal["kept", "discarded"]
    delta: float
    reason: str


def calibrate(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation of the baseline's runs; sigma is 0.0 with a single run.

    Raises ValueError when there is nothing finite to compare with.
    """
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        raise ValueError("no baseline run gave a finite metric")
    mean = math.fsum(finite) / len(finite)
    if len(finite) < 2:
        return mean, 0.0
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in finite) / (len(finite) - 1))


def decide(
    metric: Metric, incumbent: float, value: float, sigma: float, keep_sigmas: float, *, simpler: bool = False
) -> Decision:
    """Compare a candidate's result with the incumbent's under the session's noise.

    Kept when the gain exceeds `keep_sigmas` × `sigma`. With no noise at all (sigma 0) any gain is kept, and an
    exactly equal result is kept when the code became simpler.
    """
    gain = metric.gain(incumbent, value)
    delta = value - incumbent
    bar = keep_sigmas * sigma
    change = f"{format_delta(delta)} {metric.name}"
    if gain > bar and gain > 0:
        times = f"{gain / sigma:.1f}σ" if sigma > 0 else "σ is 0"
        return Decision("kept", delta, f"{change}: better by more than {keep_sigmas:g}σ ({times})")
    if gain == 0 and simpler and sigma == 0:
        return Decision("kept", delta, f"{change}: equal, from fewer lines")
    if gain > 0:
        return Decision("discarded", delta, f"{change}: better, but within {keep_sigmas:g}σ ({gain / sigma:.1f}σ)")
    if sigma > 0 and -gain <= bar:
        return Decision("discarded", delta, f"{change}: no better, within the noise")
    return Decision("discarded", delta, f"{change}: {'worse' if gain < 0 else 'equal'}")
