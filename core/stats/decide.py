"""The decision rule: is the difference between two results more than chance? (docs/decisions.md)

`judge` compares all runs of a candidate with the best. The first run keeps, quarantines or discards it, or leaves it
provisional; every repeat is pooled with the earlier runs and judged again, by a sequential rule on the probability that
the change gains nothing. `Sample.number` is what the best may claim: shrunk to correct for selection, then corrected by
each later candidate, since a change without effect is a repeat of the best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from core.record.metric import Metric, format_delta, format_metric
from core.record.sample import Claim, Sample, mean
from core.stats.noise import NORMAL, Noise, disagreement, estimate, to_normal, within

Outcome = Literal["kept", "provisional", "quarantined", "discarded"]
Repeat = Literal["candidate", "both"]
# Prior of a change's effect in sigmas, as components (share, mean, standard deviation): half of all changes have next
# to no effect, half have some, more often a loss, and one in a hundred has an effect of any size. Without the last
# component a true gain of 40 sigma would be shrunk to 37, and a rerun of the same code would beat its own record. Only
# the first component also measures the best; the others are too wide for that. docs/decisions.md has the error rates
# when the prior is wrong.
EFFECTS: tuple[tuple[float, float, float], ...] = ((0.5, 0.0, 0.4), (0.49, -2.0, 4.0), (0.01, 0.0, 50.0))
BELIEF = 0.5  # share of the best's number that a gain may be, while neither sigma nor the candidates' spread is known
MIN_SPREAD = 4  # results that give a spread
BASELINE_RUNS = 6  # of the baseline, with which sigma is known well enough
WORSE = 2.0  # sigmas by which a candidate is much worse than the best
WORSE_IN_A_ROW = 2  # candidates that are, for which a best runs again
BASELINE_TURNS = 3  # as often as the best is repeated, for each run that it has been given so far
MAX_HIDDEN_GAP = 3.0  # sigmas by which a gain may be smaller on the hidden slice; beyond: a warning, and no certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Parameters of the rule, from `[decide]` in program.md. Sigma is that of a single run."""

    keep: float = 3.0  # sigmas of gain that are kept at once
    quarantine: float = 10.0  # sigmas of gain that are repeated before they count
    repeats: int = 3  # maximum of extra runs of a provisional candidate
    min_effect: float = 0.0  # a gain must exceed this, in the metric's unit
    simplicity: float = 1.0  # sigmas by which a result from fewer lines may be worse and count as equal; 0: off
    alpha: float = 0.2  # after a repeat: kept when the probability of no gain is at most this
    beta: float = 0.3  # discarded when that probability is at least this; both meet in the middle at the last repeat
    refresh: int = 24  # the best runs again after so many candidates for each fresh run it has; 0: never


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict with its reason. `delta`: observed change of the metric, signed.

    `repeat`: what to run while it is provisional (the candidate, or best and candidate side by side). `claim`: of a
    kept candidate. `best_claim`: what the best may claim given a discarded candidate.
    """

    verdict: Outcome
    delta: float
    reason: str
    repeat: Repeat | None = None
    claim: Claim | None = None
    best_claim: Claim | None = None


def judge(
    metric: Metric,
    best: Sample,
    candidate: Sample,
    noise: Noise,
    policy: Policy,
    *,
    lines_saved: int = 0,
    drift: bool = False,
    others: Sequence[float] = (),
    allowance: float = math.inf,
) -> Decision:
    """The verdict on `candidate` from all its runs so far. Where the runs of one code differ by more than chance
    explains, their own scatter stands for sigma in its mean, and none of them is kept at once.

    `lines_saved`: lines fewer than those of the best, counted on the syntax tree. `drift`: the machine's speed changes,
    so that the best is repeated beside the candidate. `others`: results of all other experiments, which say what is
    plausible while no noise is known. `allowance`: the most that fewer lines may cost, in the metric's unit.
    """
    repeat: Repeat = "both" if drift else "candidate"
    delta, sigma = candidate.mean - best.number, noise.sigma
    gain = metric.gain(best.number, candidate.mean)
    saved = max(0, lines_saved) if policy.simplicity > 0 and allowance > 0 else 0
    change = _change(metric, delta, sigma, candidate.n)
    if noise.df == 0 and policy.repeats > 0 and gain > policy.min_effect:
        reason = f"{change}: {_side(metric)}, noise unknown: nothing was repeated yet; run again"
        return Decision(verdict="provisional", delta=delta, reason=reason, repeat=repeat)
    if sigma == 0:
        if within(candidate.values)[0] > 0:
            return _by_own_runs(metric, best, candidate, policy, repeat)
        return _without_noise(metric, best, candidate, policy, saved, others, repeat)
    suspect = metric.gain(best.number, candidate.values[0]) > policy.quarantine * sigma
    if suspect and candidate.n == 1:
        reason = f"{change}: a gain over {policy.quarantine:g}σ is implausible and is repeated before it counts"
        return Decision(verdict="quarantined", delta=delta, reason=reason, repeat=repeat)
    # A suspect first run is left out: one outlier must not determine the mean.
    judged = candidate.values[1:] if suspect else candidate.values
    gain = metric.gain(best.number, mean(judged))
    allowed = min(policy.simplicity, allowance / sigma) if saved else 0.0
    required = policy.min_effect / sigma - allowed
    apart = disagreement(candidate.values, sigma)
    variances = disagreement(best.values, sigma) / best.weight, disagreement(judged, sigma) / len(judged)
    posterior = posterior_of(gain / sigma, *variances, required)
    verdict, why = _sequential(gain, sigma, posterior.no_gain, len(judged), policy, at_once=apart == 1)
    own = f"; its own runs differ by {math.sqrt(apart):.1f} times the noise" if apart > 1 else ""
    why += own
    if verdict == "provisional":
        return Decision(verdict=verdict, delta=delta, reason=f"{change}: {why}", repeat=repeat)
    unit = math.copysign(sigma, metric.gain(0.0, 1.0))
    if verdict == "discarded":
        # Only a best that was selected by its results is corrected: the baseline was not.
        claim = posterior.claim_of_best(best, unit) if best.claim else None
        reason = f"{change}: {'no better' + own if gain <= 0 and not saved else why}"
        return Decision(verdict=verdict, delta=delta, reason=reason, best_claim=claim)
    number = best.number + unit * posterior.level
    if saved and gain <= policy.keep * sigma:
        why += f", from {saved} fewer {'line' if saved == 1 else 'lines'} ({allowed:.2g}σ allowed for them)"
    claim = Claim(number, 1 / posterior.variance, candidate.n)
    reason = f"{change}: {why}; counts as {format_metric(number)}"
    return Decision(verdict="kept", delta=delta, reason=reason, claim=claim)


def judge_in_turn(
    metric: Metric,
    best: Sample,
    candidate: Sample,
    noise: Noise,
    policy: Policy,
    *,
    lines_saved: int = 0,
    allowance: float = math.inf,
) -> Decision:
    """The verdict on a time or a speed, measured in turn with the best: by ratios, so that two thirds of the time and
    one and a half times the speed are the same gain. `noise` as from `in_turn_noise` at the best's number.

    A first result is never kept at once: a run after a wait may differ by its place alone, and the next has no wait.
    `alpha` is a fifth: no later candidate corrects the number of a best that was kept by luck.
    """
    unit, policy = best.number, replace(policy, alpha=policy.alpha / 5)
    if unit <= 0 or min(*best.values, *candidate.values) <= 0:
        return judge(metric, best, candidate, noise, policy, lines_saved=lines_saved, allowance=allowance)
    claim = best.claim and replace(best.claim, number=unit * (1 + math.log(best.claim.number / unit)))
    logs = [tuple(unit * (1 + math.log(v / unit)) for v in s.values) for s in (best, candidate)]
    there = replace(best, values=logs[0], claim=claim), Sample(logs[1])
    found = judge(metric, *there, noise, policy, lines_saved=lines_saved, allowance=allowance)
    delta = candidate.mean - best.number
    why = found.reason.removeprefix(_change(metric, found.delta, noise.sigma, candidate.n)).partition("; counts as")[0]
    reason = _change(metric, delta, noise.sigma, candidate.n) + why
    if found.verdict == "kept" and candidate.n == 1 and policy.repeats > 0:
        reason += "; a time or a speed is measured twice before it counts"
        return Decision(verdict="provisional", delta=delta, reason=reason, repeat="candidate")
    if found.claim is None:
        return replace(found, delta=delta, reason=reason, best_claim=None)
    number = unit * math.exp(found.claim.number / unit - 1)
    reason += f"; counts as {format_metric(number)}"
    return replace(found, delta=delta, reason=reason, claim=replace(found.claim, number=number))


def stands(metric: Metric, before: Sample, best: Sample, noise: Noise, policy: Policy) -> bool:
    """Whether a best that ran again remains better than the best `before` it. Looked at only where its own runs differ
    by more than chance explains: it is then judged by their scatter, and the probability of no gain is at most `alpha`,
    as for a keep.
    """
    if noise.sigma == 0 or (apart := disagreement(best.values, noise.sigma)) == 1:
        return True
    gain = metric.gain(before.number, best.mean) / noise.sigma
    variances = disagreement(before.values, noise.sigma) / before.weight, apart / best.n
    return posterior_of(gain, *variances).no_gain <= policy.alpha


def refresh_due(best: Sample, stood: int, policy: Policy, worse: int = 0) -> bool:
    """Whether the best should run once more, `stood` candidates having been judged since it was kept.

    The longer it stands, the more of its number should come from runs that did not select it. And at once where the
    `worse` last candidates were all much worse: half of all changes have next to no effect, so its number was luck.
    """
    turns = 1 + best.n - best.chosen_on
    lucky = best.claim is not None and worse >= WORSE_IN_A_ROW * turns
    return policy.refresh > 0 and (stood >= policy.refresh * turns or lucky)


def worse_in_a_row(metric: Metric, results: Sequence[float], sigma: float) -> int:
    """How many of the last first `results` of candidates, relative to the best, are worse by more than 2 sigma."""
    good = (n for n, one in enumerate(reversed(results)) if not metric.gain(0.0, one) < -WORSE * sigma)
    return next(good, len(results))


def simplicity_allowance(metric: Metric, best: float, peak: float, baseline: Sequence[float], policy: Policy) -> float:
    """What results from fewer lines may still cost, in the metric's unit: `simplicity` sigmas of the `baseline`'s own
    runs, less what the `best` is worse than the best number of all so far (`peak`). All of them together can cost no
    more. Infinite while the baseline has run only once.
    """
    own = estimate([baseline])
    return policy.simplicity * own.sigma - max(0.0, metric.gain(best, peak)) if own.df > 0 else math.inf


def baseline_due(runs: int, repeats: int, stood: int, policy: Policy) -> bool:
    """Whether the baseline should run once more, for sigma: it has `runs` results, `repeats` of them later ones, and
    `stood` candidates have been judged since one was kept. Where all are discarded, sigma may be too large.
    """
    return 0 < policy.refresh <= stood * BASELINE_TURNS / (1 + repeats) and runs < BASELINE_RUNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Posterior of candidate and best, in sigmas above the best's number.

    `level` with its `variance`: the candidate; `no_gain`: probability that its change gains less than required;
    `best_level` with `best_variance`: the best itself.
    """

    level: float
    variance: float
    no_gain: float
    best_level: float
    best_variance: float

    def claim_of_best(self, best: Sample, unit: float) -> Claim:
        """What the best may claim now. `unit`: sigma, with the sign of a gain."""
        return Claim(best.number + unit * self.best_level, 1 / self.best_variance, best.n)


def posterior_of(gain: float, best: float, own: float, required: float = 0.0) -> Posterior:
    """The posterior given the difference of two means, in sigmas, under the prior EFFECTS.

    `best` and `own`: variances of the two means, in sigmas squared. Bayes' rule for a mixture of normals: each
    component explains the gain with its own likelihood. In the first (next to no effect) the result is a measurement
    of the best as well, and corrects it; in the others it says nothing about the best.
    """
    parts = []
    for place, (share, center, spread) in enumerate(EFFECTS):
        before = best + spread**2  # prior variance of the candidate's level in this component
        total = before + own
        log = math.log(share) - ((gain - center) ** 2 / total + math.log(total)) / 2
        pull = before / total
        effect = center + (gain - center) * spread**2 / total
        width = spread * math.sqrt(1 - spread**2 / total)
        learnt = best / total if place == 0 else 0.0
        parts.append((
            log, center + pull * (gain - center), pull * own, NORMAL.cdf((required - effect) / width),
            learnt * (gain - center), best * (1 - learnt),
        ))  # fmt: skip
    largest = max(part[0] for part in parts)
    weights = [math.exp(part[0] - largest) for part in parts]
    whole = math.fsum(weights)

    def average(values: Sequence[float]) -> float:
        return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / whole

    def moments(center: int, width: int) -> tuple[float, float]:
        middle = average([part[center] for part in parts])
        return middle, average([part[width] + (part[center] - middle) ** 2 for part in parts])

    level, variance = moments(1, 2)
    best_level, best_variance = moments(4, 5)
    no_gain = average([part[3] for part in parts])
    return Posterior(
        level=level, variance=variance, no_gain=no_gain, best_level=best_level, best_variance=best_variance
    )


def least_gain(policy: Policy) -> float:
    """Sigmas of gain below which a first result is discarded at once, however well the best is known; at least 0."""
    low, high = 0.0, policy.keep
    bound = policy.beta if policy.repeats > 0 else (policy.alpha + policy.beta) / 2
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if posterior_of(middle, 0.0, 1.0).no_gain >= bound else (low, middle)
    return low


def _without_noise(
    metric: Metric, best: Sample, candidate: Sample, policy: Policy, saved: int, others: Sequence[float], repeat: Repeat
) -> Decision:
    """The decision while all runs of each code agree to the last digit. What would be kept is run once more first."""
    delta, gain = candidate.mean - best.number, metric.gain(best.number, candidate.mean)
    change = _change(metric, delta, 0.0, candidate.n)
    if _beyond_belief(gain, best.number, others, policy):
        if candidate.n == 1:
            reason = f"{change}: an implausible gain, noise unknown, is repeated before it counts"
            return Decision(verdict="quarantined", delta=delta, reason=reason, repeat=repeat)
        change += ", an implausible gain that a repeat gave again"
    exact = Claim(candidate.mean, candidate.n, candidate.n)
    found = _exact(change, _side(metric), gain, delta, policy, saved, exact)
    if found.verdict == "kept" and candidate.n == 1 and policy.repeats > 0:
        reason = f"{found.reason}: run once more, since a change may bring noise of its own"
        return Decision(verdict="provisional", delta=delta, reason=reason, repeat=repeat)
    return found


def _by_own_runs(metric: Metric, best: Sample, candidate: Sample, policy: Policy, repeat: Repeat) -> Decision:
    """The decision on code whose runs differ where those of no other code do: by Student's t of its own scatter, with
    a fifth of `alpha`, once it has had all repeats. The mean is without its first run, which was better, or there would
    be no second.
    """
    later, own = candidate.values[1:], estimate([candidate.values])
    delta = mean(later) - best.number
    gain = metric.gain(best.number, mean(later)) - policy.min_effect
    change = f"{_change(metric, delta, 0.0, len(later))}, the first one left out: its own runs differ"
    if gain <= 0:
        return Decision(verdict="discarded", delta=delta, reason=f"{change}, and are no better")
    left = policy.repeats - len(later)
    if left > 0:
        reason = f"{change}; to be repeated (at most {left} more)"
        return Decision(verdict="provisional", delta=delta, reason=reason, repeat=repeat)
    chance = 1 - NORMAL.cdf(to_normal(gain / own.sigma * math.sqrt(len(later)), own.df))
    allowed = policy.alpha / 5
    reason = f"{change}; {chance:.0%} chance that it gains nothing ({allowed:.0%} is allowed)"
    if chance > allowed:
        return Decision(verdict="discarded", delta=delta, reason=reason)
    claim = Claim(mean(later), len(later), candidate.n)
    return Decision(verdict="kept", delta=delta, reason=reason, claim=claim)


def _sequential(
    gain: float, sigma: float, no_gain: float, runs: int, policy: Policy, *, at_once: bool
) -> tuple[Outcome, str]:
    """Keep, continue or discard. The two bounds on the probability of no gain converge with every repeat."""
    if at_once and runs == 1 and gain > policy.keep * sigma and gain > policy.min_effect:
        return "kept", f"over {policy.keep:g}σ"
    done = min(1.0, (runs - 1) / policy.repeats) if policy.repeats > 0 else 1.0
    middle = (policy.alpha + policy.beta) / 2
    low, high = policy.alpha + (middle - policy.alpha) * done, policy.beta + (middle - policy.beta) * done
    chance = f"{no_gain:.0%} chance that it gains {'too little' if policy.min_effect else 'nothing'}"
    if no_gain <= low and (runs > 1 or done >= 1):
        return "kept", f"{chance} ({low:.0%} is allowed)"
    if no_gain >= high or done >= 1:
        return "discarded", f"{chance} ({low:.0%} is allowed)"
    left = policy.repeats + 1 - runs
    return "provisional", f"{chance}; to be repeated (at most {left} more)"


def _beyond_belief(gain: float, best: float, others: Sequence[float], policy: Policy) -> bool:
    """Whether a gain is implausible although no sigma is known: against the spread of the results so far (by their
    median absolute deviation, which a few failures do not widen), else against the best's number itself.
    """
    spread = 0.0
    if len(others) >= MIN_SPREAD:
        middle = median(others)
        spread = median(abs(v - middle) for v in others) / NORMAL.inv_cdf(0.75)
    bound = policy.quarantine * spread or BELIEF * abs(best)
    return 0 < bound < gain


def _side(metric: Metric) -> str:
    """Word for a gain of unknown noise, which may be none."""
    return "lower" if metric.direction == "min" else "higher"


def _exact(change: str, side: str, gain: float, delta: float, policy: Policy, saved: int, claim: Claim) -> Decision:
    """The decision while repeats agree to the last digit: any gain counts, and nothing is said of its chance."""
    if gain > policy.min_effect:
        reason = f"{change}: {side}, noise unknown"
        return Decision(verdict="kept", delta=delta, reason=reason, claim=claim)
    if gain >= 0 and saved > 0:
        return Decision(verdict="kept", delta=delta, reason=f"{change}: equal, from {saved} fewer lines", claim=claim)
    word = "worse" if gain < 0 else "equal" if gain == 0 else f"{side}, but by no more than {policy.min_effect:g}"
    return Decision(verdict="discarded", delta=delta, reason=f"{change}: {word}")


def _change(metric: Metric, delta: float, sigma: float, runs: int) -> str:
    size = f" ({abs(delta) / sigma:.1f}σ)" if sigma > 0 else ""
    return f"{format_delta(delta)} {metric.name}{size}" + (f" over {runs} runs" if runs > 1 else "")
