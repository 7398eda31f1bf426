"""The decision rule: is a difference between two results more than chance? (DESIGN §8, docs/decisions.md)

`judge` compares all runs of a candidate with all runs of the incumbent. The first run of a candidate may keep it at
once, quarantine it, discard it, or leave it provisional; every repeat is pooled with the runs before and judged
again, by Wald's sequential probability ratio test cut off after `Policy.repeats` repeats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.record.metric import Metric, format_delta
from core.record.noise import NORMAL, Noise

Ruling = Literal["kept", "provisional", "quarantined", "discarded"]
Repeat = Literal["candidate", "both"]


@dataclass(frozen=True, slots=True)
class Policy:
    """The rule's parameters, from `[decide]` in program.md. Sigmas are those of a single run."""

    keep: float = 3.0  # sigmas of gain that are kept at once
    quarantine: float = 10.0  # sigmas of gain that are repeated before they are believed
    repeats: int = 3  # at most so many extra runs of a provisional candidate
    min_effect: float = 0.0  # a gain must exceed this, in the metric's unit
    simplicity: float = 1.0  # sigmas a result from fewer lines may be worse and still count as equal; 0: off
    effect: float = 1.5  # sigmas of true gain that the sequential rule is set to find ...
    alpha: float = 0.02  # ... keeping a change that gains nothing this often ...
    beta: float = 0.3  # ... and missing one that gains `effect` this often
    leader_runs: int = 3  # a new leader is repeated up to so many runs, so that its number is not a lucky one


@dataclass(frozen=True, slots=True)
class Sample:
    """All finite results of one piece of code, in the order of its runs. `chosen_on`: the first so many decided that
    it leads; the later ones are fresh, and only they are free of the luck that made it lead.
    """

    values: tuple[float, ...]
    chosen_on: int = 0

    def __post_init__(self) -> None:
        if not self.values or not all(map(math.isfinite, self.values)):
            raise ValueError("a sample needs finite results")

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        """The pooled mean of every run."""
        return mean(self.values)

    @property
    def fresh(self) -> tuple[float, ...]:
        return self.values[self.chosen_on :]

    @property
    def number(self) -> float:
        """What may be claimed: the mean of the fresh runs; of all runs while there are none."""
        return mean(self.fresh or self.values)


def mean(values: Sequence[float]) -> float:
    # From the first value on: equal numbers then have exactly their own mean.
    return values[0] + math.fsum(v - values[0] for v in values) / len(values)


@dataclass(frozen=True, slots=True)
class Decision:
    """`verdict` with the signed change of the metric (`delta`), its reason in words, and what to run next, if
    anything: the candidate once more, or incumbent and candidate side by side. A `kept` with a repeat leads now and
    is repeated when there is room, for an honest number.
    """

    verdict: Ruling
    delta: float
    reason: str
    repeat: Repeat | None = None


def judge(
    metric: Metric,
    incumbent: Sample,
    candidate: Sample,
    noise: Noise,
    policy: Policy,
    *,
    lines_saved: int = 0,
    drift: bool = False,
) -> Decision:
    """The verdict on `candidate` from all its runs so far.

    `lines_saved`: statements fewer than the incumbent's, counted on the syntax tree. `drift`: the machine's speed
    moves, so a repeat of the candidate needs the incumbent beside it.
    """
    delta = candidate.mean - incumbent.mean
    gain = metric.gain(incumbent.mean, candidate.mean)
    sigma = noise.sigma
    simpler = lines_saved > 0 and policy.simplicity > 0
    said = _said(metric, delta, sigma, candidate.n)
    if noise.df == 0 and policy.repeats > 0 and gain > policy.min_effect:
        return Decision("provisional", delta, f"{said}: better, but nothing was repeated yet; run again", "candidate")
    if sigma == 0:
        return _exact(said, gain, delta, policy, lines_saved if simpler else 0)
    repeat: Repeat = "both" if drift else "candidate"
    suspect = metric.gain(incumbent.mean, candidate.values[0]) > policy.quarantine * sigma
    if suspect and candidate.n == 1:
        return Decision(
            "quarantined", delta, f"{said}: too good to believe over {policy.quarantine:g}σ; run again", repeat
        )
    # A first run that good is judged by its repeats alone: one freak number must not carry the mean.
    judged = candidate.values[1:] if suspect else candidate.values
    gain = metric.gain(incumbent.mean, mean(judged))
    credit = policy.simplicity * sigma if simpler else 0.0
    surplus = (gain - policy.min_effect + credit) / sigma
    ruling, why = _sequential(surplus, 1 / incumbent.n + 1 / len(judged), len(judged), policy)
    if ruling == "kept":
        if gain <= 0:
            why = f"equal within {policy.simplicity:g}σ, from {lines_saved} fewer lines"
        more = candidate.n < policy.leader_runs
        return Decision("kept", delta, f"{said}: {why}", "candidate" if more else None)
    return Decision(ruling, delta, f"{said}: {why}", repeat if ruling == "provisional" else None)


def _sequential(surplus: float, variance: float, runs: int, policy: Policy) -> tuple[Ruling, str]:
    """Keep, go on or discard, `surplus` being the gain in sigmas beyond what is asked and `variance` that of the
    difference of means, in sigmas squared.
    """
    if runs == 1 and surplus > policy.keep:
        return "kept", f"over {policy.keep:g}σ"
    # Wald's log likelihood ratio of "gains `effect`" against "gains nothing", and his two bounds.
    ratio = policy.effect * (surplus - policy.effect / 2) / variance
    if ratio >= math.log((1 - policy.beta) / policy.alpha):
        return "kept", f"over the bound of {policy.alpha:.0%} chance"
    if ratio <= math.log(policy.beta / (1 - policy.alpha)):
        return "discarded", "no better" if surplus <= 0 else "too small a gain to tell from chance"
    if runs <= policy.repeats:
        return "provisional", f"within {policy.keep:g}σ; to be repeated ({runs} of {policy.repeats})"
    if surplus >= NORMAL.inv_cdf(1 - policy.alpha) * math.sqrt(variance):
        return "kept", f"better in {runs} runs pooled"
    return "discarded", f"still within chance after {runs} runs"


def _exact(said: str, gain: float, delta: float, policy: Policy, lines_saved: int) -> Decision:
    """Without noise any gain is a gain."""
    if gain > policy.min_effect:
        return Decision("kept", delta, f"{said}: better, and runs of the same code agree exactly")
    if gain >= 0 and lines_saved > 0:
        return Decision("kept", delta, f"{said}: equal, from {lines_saved} fewer lines")
    return Decision(
        "discarded", delta, f"{said}: {'worse' if gain < 0 else 'equal' if gain == 0 else 'too small a gain'}"
    )


def _said(metric: Metric, delta: float, sigma: float, runs: int) -> str:
    size = f" ({abs(delta) / sigma:.1f}σ)" if sigma > 0 else ""
    return f"{format_delta(delta)} {metric.name}{size}" + (f" over {runs} runs" if runs > 1 else "")


# Below: the former rule, until the engine has changed over.


@dataclass(frozen=True, slots=True)
class Decided:
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
) -> Decided:
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
        return Decided("kept", delta, f"{change}: better by more than {keep_sigmas:g}σ ({times})")
    if gain == 0 and simpler and sigma == 0:
        return Decided("kept", delta, f"{change}: equal, from fewer lines")
    if gain > 0:
        return Decided("discarded", delta, f"{change}: better, but within {keep_sigmas:g}σ ({gain / sigma:.1f}σ)")
    if sigma > 0 and -gain <= bar:
        return Decided("discarded", delta, f"{change}: no better, within the noise")
    return Decided("discarded", delta, f"{change}: {'worse' if gain < 0 else 'equal'}")
