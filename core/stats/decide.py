"""The decision rule: is a difference between two results more than chance? (DESIGN §8, docs/decisions.md)

`judge` weighs all runs of a candidate against the leader. Its first run may keep it at once, quarantine it, discard it
or leave it provisional; every repeat is pooled with the runs before and judged again, by a sequential rule on the
chance that the change gains nothing. `Sample.number` is what a leader may claim: shrunk by the luck that chose it, and
corrected by the candidates that came after it, since a change that does next to nothing is a repeat of its leader."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.record.evidence import Claim, Sample, mean
from core.record.metric import Metric, format_delta, format_metric
from core.stats.noise import NORMAL, Noise

Ruling = Literal["kept", "provisional", "quarantined", "discarded"]


Repeat = Literal["candidate", "both"]


# What changes do, in sigmas, before anything was run (share, mean, standard deviation): half do next to nothing, half
# do something, more often harm, and one in a hundred does what has no scale: without that kind a true gain of 40 sigma
# would count for 37, and the next run of the same code would beat it by 3. The first kind is the one that also measures
# its leader: what the others do is too wide to say where it stands. The figures of docs/decisions.md say what it costs
# when this is wrong.
EFFECTS: tuple[tuple[float, float, float], ...] = ((0.5, 0.0, 0.4), (0.49, -2.0, 4.0), (0.01, 0.0, 50.0))


HIDDEN_GAP = 3.0  # sigmas that a gain may shrink by on the hidden slice before it is warned of and not certified


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rule's parameters, from `[decide]` in program.md. Sigmas are those of a single run."""

    keep: float = 3.0  # sigmas of gain that are kept at once
    quarantine: float = 10.0  # sigmas of gain that are repeated before they are believed
    repeats: int = 3  # at most so many extra runs of a provisional candidate
    min_effect: float = 0.0  # a gain must exceed this, in the metric's unit
    simplicity: float = 1.0  # sigmas a result from fewer lines may be worse and still count as equal; 0: off
    alpha: float = 0.25  # a repeated one is kept when the chance that it gains nothing is at most this
    beta: float = 0.3  # discarded when that chance is at least this; both meet in the middle at the last repeat
    refresh: int = 24  # a leader is run again after standing against so many candidates for each fresh run it has


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`verdict` with the change of the metric as seen (`delta`, signed), its reason in words, what to run next if it
    is not settled (the candidate once more, or leader and candidate side by side), what a kept one may claim, and what
    its leader may claim in the light of a discarded one.
    """

    verdict: Ruling
    delta: float
    reason: str
    repeat: Repeat | None = None
    claim: Claim | None = None
    leader: Claim | None = None


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

    `lines_saved`: how many lines fewer than the leader's, counted on the syntax tree. `drift`: the machine's speed
    moves, so a repeat of the candidate needs the leader beside it.
    """
    repeat: Repeat = "both" if drift else "candidate"
    delta, sigma = candidate.mean - incumbent.number, noise.sigma
    gain = metric.gain(incumbent.number, candidate.mean)
    saved = max(0, lines_saved) if policy.simplicity > 0 else 0
    said = _said(metric, delta, sigma, candidate.n)
    if noise.df == 0 and policy.repeats > 0 and gain > policy.min_effect:
        return Decision(
            verdict="provisional",
            delta=delta,
            reason=f"{said}: better, but nothing was repeated yet; run again",
            repeat=repeat,
        )
    if sigma == 0:
        return _exact(said, gain, delta, policy, saved, Claim(candidate.mean, candidate.n, candidate.n))
    suspect = metric.gain(incumbent.number, candidate.values[0]) > policy.quarantine * sigma
    if suspect and candidate.n == 1:
        reason = f"{said}: over {policy.quarantine:g}σ is too good to believe; to be repeated before it may lead"
        return Decision(verdict="quarantined", delta=delta, reason=reason, repeat=repeat)
    # A first run that good is judged by its repeats alone: one freak number must not carry the mean.
    judged = candidate.values[1:] if suspect else candidate.values
    gain = metric.gain(incumbent.number, mean(judged))
    asked = policy.min_effect / sigma - (policy.simplicity if saved else 0.0)
    belief = believe(gain / sigma, 1 / incumbent.weight, 1 / len(judged), asked)
    ruling, why = _sequential(gain, sigma, belief.idle, len(judged), policy)
    if ruling == "provisional":
        return Decision(verdict=ruling, delta=delta, reason=f"{said}: {why}", repeat=repeat)
    upwards = math.copysign(sigma, metric.gain(0.0, 1.0))
    if ruling == "discarded":
        # Only a leader that was chosen for its results is corrected: nothing flatters the baseline's own runs.
        leader = belief.of_leader(incumbent, upwards) if incumbent.claim else None
        return Decision(
            verdict=ruling,
            delta=delta,
            reason=f"{said}: {'no better' if gain <= 0 and not saved else why}",
            leader=leader,
        )
    number = incumbent.number + upwards * belief.level
    if saved and gain <= policy.keep * sigma:
        why += f", from {saved} fewer {'line' if saved == 1 else 'lines'} ({policy.simplicity:g}σ allowed for them)"
    why += f"; counts as {format_metric(number)}"
    return Decision(
        verdict="kept", delta=delta, reason=f"{said}: {why}", claim=Claim(number, 1 / belief.variance, candidate.n)
    )


def refresh_due(leader: Sample, stood: int, policy: Policy) -> bool:
    """Whether the leader should run once more, having stood against `stood` candidates: one that leads by luck
    stands long, so the longer it stands the more its number must be its own.
    """
    fresh = leader.n - leader.chosen_on
    return policy.refresh > 0 and stood >= policy.refresh * (1 + fresh)


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """In sigmas: where a candidate stands above the leader's number (`level`, with its `variance`), the chance that its
    change does not gain what was asked (`idle`), and where the leader itself stands above its number.
    """

    level: float
    variance: float
    idle: float
    leader: float
    leader_variance: float

    def of_leader(self, leader: Sample, sigma: float) -> Claim:
        """What the leader may claim by now; `sigma` has the sign of what is better."""
        return Claim(leader.number + sigma * self.leader, 1 / self.leader_variance, leader.n)


def believe(gain: float, leader: float, own: float, asked: float = 0.0) -> Belief:
    """What a difference of means says, in sigmas, when changes do what EFFECTS says.

    `leader` and `own`: variances of the two means, in sigmas squared. Bayes' rule for a mixture of normals: each of
    EFFECTS explains the gain in its own way, and counts as far as it does. As far as the change did next to nothing
    (the first of them) the result is a measurement of the leader, and moves it; else it says nothing of the leader.
    """
    parts = []
    for place, (share, center, spread) in enumerate(EFFECTS):
        before = leader + spread**2  # variance of where the candidate stands, were this the kind of change it is
        total = before + own
        log = math.log(share) - ((gain - center) ** 2 / total + math.log(total)) / 2
        pull = before / total
        effect = center + (gain - center) * spread**2 / total
        width = spread * math.sqrt(1 - spread**2 / total)
        learnt = leader / total if place == 0 else 0.0
        parts.append((
            log, center + pull * (gain - center), pull * own, NORMAL.cdf((asked - effect) / width),
            learnt * (gain - center), leader * (1 - learnt),
        ))  # fmt: skip
    most = max(part[0] for part in parts)
    weights = [math.exp(part[0] - most) for part in parts]
    whole = math.fsum(weights)

    def average(values: Sequence[float]) -> float:
        return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / whole

    def moments(center: int, width: int) -> tuple[float, float]:
        middle = average([part[center] for part in parts])
        return middle, average([part[width] + (part[center] - middle) ** 2 for part in parts])

    level, variance = moments(1, 2)
    leader_level, leader_variance = moments(4, 5)
    idle = average([part[3] for part in parts])
    return Belief(level=level, variance=variance, idle=idle, leader=leader_level, leader_variance=leader_variance)


def _sequential(gain: float, sigma: float, idle: float, runs: int, policy: Policy) -> tuple[Ruling, str]:
    """Keep, go on or discard. The bounds on the chance of no gain close in on each other with every repeat."""
    if runs == 1 and gain > policy.keep * sigma and gain > policy.min_effect:
        return "kept", f"over {policy.keep:g}σ"
    done = min(1.0, (runs - 1) / policy.repeats) if policy.repeats > 0 else 1.0
    middle = (policy.alpha + policy.beta) / 2
    low, high = policy.alpha + (middle - policy.alpha) * done, policy.beta + (middle - policy.beta) * done
    chance = f"{idle:.0%} chance that it gains {'too little' if policy.min_effect else 'nothing'}"
    if idle <= low and (runs > 1 or done >= 1):
        return "kept", f"{chance} ({low:.0%} is allowed)"
    if idle >= high or done >= 1:
        return "discarded", f"{chance} ({low:.0%} is allowed)"
    left = policy.repeats + 1 - runs
    return "provisional", f"{chance}; to be repeated (at most {left} more)"


def _exact(said: str, gain: float, delta: float, policy: Policy, saved: int, claim: Claim) -> Decision:
    """Without noise any gain is a gain."""
    if gain > policy.min_effect:
        return Decision(
            verdict="kept", delta=delta, reason=f"{said}: better, and runs of the same code agree exactly", claim=claim
        )
    if gain >= 0 and saved > 0:
        return Decision(verdict="kept", delta=delta, reason=f"{said}: equal, from {saved} fewer lines", claim=claim)
    word = "worse" if gain < 0 else "equal" if gain == 0 else f"better, but by no more than {policy.min_effect:g}"
    return Decision(verdict="discarded", delta=delta, reason=f"{said}: {word}")


def _said(metric: Metric, delta: float, sigma: float, runs: int) -> str:
    size = f" ({abs(delta) / sigma:.1f}σ)" if sigma > 0 else ""
    return f"{format_delta(delta)} {metric.name}{size}" + (f" over {runs} runs" if runs > 1 else "")


# Below: the former rule, until the engine has changed over.


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
