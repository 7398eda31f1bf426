"""The decision rule and simpler ones, on simulated sessions with several mixes of effects.

    python -m benchmarks decide [SESSIONS] [RUNS]

A session tries one change after the other on its best until its runs are used up. A change has a true effect, drawn
from a mix; a run returns the true value plus noise of standard deviation 1 (all figures are in that sigma). The rules
do not know sigma: they start from three baseline runs. All runs cost the same, repeats included.
"""

from __future__ import annotations

import math
import random
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean, stdev

from core.record.metric import Metric
from core.record.sample import Claim, Sample
from core.stats.decide import (
    Decision,
    Policy,
    baseline_due,
    judge,
    refresh_due,
    simplicity_allowance,
    stands,
    worse_in_a_row,
)  # fmt: skip
from core.stats.noise import Noise, session_noise

METRIC = Metric("score", "max")
BASELINE_RUNS = 3
FIRST_SEED = 20000  # the rule was tuned on other seeds
# name: shares of changes that do next to nothing (normal, 0.3 sigma), harm (exponential, mean 3), help a little
# (exponential, mean 1) and help much (2 to 8).
MIXES: dict[str, tuple[float, float, float, float]] = {
    "early": (0.30, 0.40, 0.20, 0.10),
    "typical": (0.45, 0.35, 0.15, 0.05),
    "late": (0.50, 0.42, 0.06, 0.02),
}
BELL = (-1.0, 1.5)  # a mix without kinds: normal, mean and standard deviation
NAMES = (*MIXES, "bell")
# Mixes for which the rule was not designed: most changes have no effect; nothing helps; nearly every change harms, by a
# little (-0.7 ± 0.3), or by very much (exponential, mean 10); nearly every change helps by half a sigma.
STRESS = ("exact nulls", "nothing helps", "all harm a little", "all harm much", "all help a little")


def draw(mix: str, dice: random.Random) -> float:
    """The true effect of one change; positive is better."""
    match mix:
        case "bell":
            return dice.gauss(*BELL)
        case "all harm a little":
            return dice.gauss(-0.7, 0.3) if dice.random() < 0.95 else dice.uniform(1, 5)
        case "all harm much":
            return -dice.expovariate(1 / 10) if dice.random() < 0.9 else dice.uniform(0.5, 4)
        case "all help a little":
            return dice.gauss(0.5, 0.5)
        case "exact nulls":
            shares, null = (0.60, 0.30, 0.05, 0.05), 0.0
        case "nothing helps":
            shares, null = (0.60, 0.40, 0.00, 0.00), 0.0
        case _:
            shares, null = MIXES[mix], dice.gauss(0, 0.3)
    kind = dice.choices(range(4), shares)[0]
    return (null, -dice.expovariate(1 / 3), dice.expovariate(1), dice.uniform(2, 8))[kind]


@dataclass
class SimulatedDevice:
    """A simulated device: returns results of code with a known true value, and counts runs."""

    dice: random.Random
    left: int

    def run(self, truth: float) -> float:
        self.left -= 1
        return truth + self.dice.gauss(0, 1)


@dataclass
class Change:
    """A change: its true effect, its result on code of a true value, the lines that it saves, and whose it is."""

    effect: float
    run: Callable[[float], float]
    saves: int = 0
    owner: str = "honest"


@dataclass
class Best:
    """A rule's best: the value it reports (`number`) and the true value (`truth`), which it cannot know."""

    truth: float
    number: float
    values: tuple[float, ...] = ()
    change: Change | None = None


@dataclass
class Tally:
    """Counts of one session. `claims`: number minus truth of the best after every experiment."""

    gain: float = 0.0
    tried: int = 0
    kept: int = 0
    bogus: int = 0
    claims: list[float] = field(default_factory=list)


class Rule(ABC):
    """A decision rule. `consider` runs a candidate of true value `truth`, and returns it if it is the new best."""

    def start(self, device: SimulatedDevice) -> Best:
        values = tuple(device.run(0.0) for _ in range(BASELINE_RUNS))
        self.sigma = stdev(values)
        return Best(0.0, fmean(values), values)

    def leads(self, best: Best) -> Best:
        """The best after a verdict that gave `best`, which a rule may have taken back."""
        return best

    @abstractmethod
    def consider(self, device: SimulatedDevice, best: Best, truth: float) -> Best | None: ...


class Fixed(Rule):
    """Keep on one run that beats the best's number by more than `sigmas` (0: any decrease of the loss)."""

    def __init__(self, sigmas: float) -> None:
        self.sigmas = sigmas

    def consider(self, device: SimulatedDevice, best: Best, truth: float) -> Best | None:
        value = device.run(truth)
        if value <= best.number + self.sigmas * self.sigma:
            return None
        return Best(truth, value)


class HalfGain(Rule):
    """Keep on one run that beats the bar; the bar then rises by half of the measured gain."""

    def consider(self, device: SimulatedDevice, best: Best, truth: float) -> Best | None:
        value = device.run(truth)
        return Best(truth, (best.number + value) / 2) if value > best.number else None


class RepeatOnce(Rule):
    """Run a promising result once more and keep it when the mean of the two beats the best's number."""

    def consider(self, device: SimulatedDevice, best: Best, truth: float) -> Best | None:
        values: tuple[float, ...] = (device.run(truth),)
        if values[0] > best.number:
            values = (*values, device.run(truth))
        return Best(truth, fmean(values)) if fmean(values) > best.number else None


@dataclass
class Discarded:
    """A candidate that was discarded, `sample` being its results on the best of that time; None: to be run again."""

    change: Change
    sample: Sample | None
    again: bool = False  # it was judged again once


@dataclass
class Led:
    """A best with what it takes to run and to judge it again, and the candidates discarded against it."""

    best: Best
    sample: Sample
    run: Callable[[], float]
    discarded: list[Discarded] = field(default_factory=list)


class Ours(Rule):
    """The product's own rule: `core.stats.decide`."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()

    def start(self, device: SimulatedDevice) -> Best:
        best = super().start(device)
        self.begin(best, lambda: device.run(0.0))
        return best

    def begin(self, best: Best, run: Callable[[], float]) -> None:
        """Start from a baseline that has run."""
        self.baseline = best.values
        self.bests: list[tuple[float, ...]] = []  # results of earlier bests
        self.others: list[tuple[float, ...]] = []  # of discarded candidates that were repeated
        self.results: list[float] = []  # first results, relative to the best of their time
        self.run_baseline = run
        self.led = [Led(best, Sample(best.values), run)]  # the best last
        self.peak = self.best.number
        self.stood = 0

    @property
    def best(self) -> Sample:
        return self.led[-1].sample

    @best.setter
    def best(self, sample: Sample) -> None:
        self.led[-1].sample = sample

    def noise(self, *candidate: float) -> Noise:
        leading = [self.best.values] if self.best.claim else []
        return session_noise(self.baseline, [*self.bests, *leading], [*self.others, candidate], results=self.results)

    def worse(self) -> int:
        since = self.results[len(self.results) - self.stood :]
        return worse_in_a_row(METRIC, since, self.noise().sigma)

    def consider(self, device: SimulatedDevice, best: Best, truth: float) -> Best | None:
        return self.verdict(Change(truth - best.truth, lambda base: device.run(base + truth - best.truth)))

    def leads(self, best: Best) -> Best:
        return self.led[-1].best

    def verdict(self, change: Change) -> Best | None:
        """The verdict on a new candidate; the new best, which may be a candidate of before that was judged again."""
        if (new := self._judge(Discarded(change, None))) is not None:
            return new
        before = self.best.values
        self._refresh()
        if self.best.values == before:
            return None  # as the engine does: what was discarded is looked at when the best has other results
        for other in list(self.led[-1].discarded):
            if not other.again and (other.sample is None or self._decide(other).verdict != "discarded"):
                other.again = True
                self.led[-1].discarded.remove(other)
                if (new := self._judge(other)) is not None:
                    return new
        return None

    def _decide(self, of: Discarded) -> Decision:
        assert of.sample is not None
        noise = self.noise(*of.sample.values)
        allowed = simplicity_allowance(METRIC, self.best.number, self.peak, self.baseline, self.policy)
        saves = of.change.saves
        return judge(METRIC, self.best, of.sample, noise, self.policy, lines_saved=saves, allowance=allowed)

    def _judge(self, it: Discarded) -> Best | None:
        """Run the candidate until it is kept or discarded."""
        led, new = self.led[-1], it.sample is None
        base, change, before = led.best.truth, it.change, it.sample.values if it.sample else ()
        it.sample = it.sample or Sample((change.run(base),))
        while (decision := self._decide(it)).verdict not in ("kept", "discarded"):
            it.sample = Sample((*it.sample.values, change.run(base)))
        if new:
            self.results.append(it.sample.values[0] - self.best.number)
        if before in self.others:
            self.others.remove(before)
        if decision.verdict == "kept":
            if self.best.claim:
                self.bests.append(self.best.values)
            best = Best(base + change.effect, 0.0, (), change)
            sample = Sample(it.sample.values, it.sample.n, decision.claim)
            self.led.append(Led(best, sample, lambda: change.run(base)))
            self.stood, best.number = 0, self.best.number
            self.peak = max(self.peak, best.number)
            return best
        if it.sample.n > 1:
            self.others.append(it.sample.values)
        led.discarded.append(it)
        self.best = replace(self.best, claim=decision.best_claim or self.best.claim)
        self.stood += 1
        led.best.number = self.best.number
        return None

    def _refresh(self) -> None:
        """Run the baseline or the best again where that is due; a best that does not stand is taken back, and what was
        discarded on top of it is to be run again.
        """
        if baseline_due(len(self.baseline), len(self.baseline) - BASELINE_RUNS, self.stood, self.policy):
            self.baseline = (*self.baseline, self.run_baseline())
            if not self.best.claim:
                self.best = Sample(self.baseline)
        elif refresh_due(self.best, self.stood, self.policy, self.worse()):
            self.best = replace(self.best, values=(*self.best.values, self.led[-1].run()))
            if not self.best.claim:
                self.baseline = self.best.values
            elif not stands(METRIC, self.led[-2].sample, self.best, self.noise(), self.policy):
                self.others.append(self.best.values)
                gone, self.stood = self.led.pop(), 0
                self.led[-1].discarded += [Discarded(it.change, None) for it in gone.discarded if not it.again]
        self.led[-1].best.number = self.best.number


def session(rule: Rule, mix: str, runs: int, seed: int) -> Tally:
    """One session of `runs` runs. The same seed gives the same changes to every rule."""
    ideas, device = random.Random(f"{seed} ideas"), SimulatedDevice(random.Random(f"{seed} noise"), runs)
    tally, best = Tally(), rule.start(device)
    while device.left > 0:
        effect = draw(mix, ideas)
        new = rule.consider(device, best, best.truth + effect)
        tally.tried += 1
        if new is not None:
            tally.kept += 1
            tally.bogus += (new.change.effect if new.change else new.truth - best.truth) <= 0
        best = rule.leads(new or best)
        tally.claims.append(best.number - best.truth)
    tally.gain = best.truth
    return tally


@dataclass
class Row:
    """Of one rule on one mix, over its sessions: true gain in sigmas for 100 runs, share of keeps that gained nothing,
    the best's number beyond its truth over the session and at its end. `tallies` are the sessions', in seed order.
    """

    tallies: list[Tally]
    runs: int

    @property
    def gains(self) -> list[float]:
        return [100 * t.gain / self.runs for t in self.tallies]

    @property
    def gain(self) -> float:
        return fmean(self.gains)

    @property
    def kept(self) -> float:
        return fmean(t.kept for t in self.tallies)

    @property
    def bogus(self) -> float:
        return sum(t.bogus for t in self.tallies) / max(1, sum(t.kept for t in self.tallies))

    @property
    def claim(self) -> float:
        return fmean(fmean(t.claims) for t in self.tallies)

    def of(self, greedy: Row) -> float:
        return self.gain / greedy.gain if greedy.gain > 0 else math.nan


def measure(make: Callable[[], Rule], mix: str, runs: int, sessions: int) -> Row:
    return Row([session(make(), mix, runs, seed) for seed in range(FIRST_SEED, FIRST_SEED + sessions)], runs)


def off(values: Sequence[float]) -> float:
    """Half width of the 95% interval of a mean."""
    return 1.96 * stdev(values) / math.sqrt(len(values))


@dataclass
class Whole:
    """One rule over all mixes, each with the half width of its 95% interval: the mean of the mixes' shares of greedy's
    gain, the bogus share of all keeps, the mean over-claim. Sessions of a mix have the same changes under every rule,
    so shares are compared in pairs.
    """

    share: tuple[float, float]
    bogus: tuple[float, float]
    claim: tuple[float, float]


def whole(rows: dict[str, Row], greedy: dict[str, Row]) -> Whole:
    shares, errors, claims = [], [], []
    for mix, row in rows.items():
        share, base = row.of(greedy[mix]), greedy[mix].gain
        shares.append(share)
        errors.append(off([(a - share * b) / base for a, b in zip(row.gains, greedy[mix].gains, strict=True)]))
        claims.append(off([fmean(t.claims) for t in row.tallies]))
    tallies = [t for row in rows.values() for t in row.tallies]
    bogus, kept = sum(t.bogus for t in tallies) / sum(t.kept for t in tallies), fmean(t.kept for t in tallies)
    return Whole(
        (fmean(shares), math.hypot(*errors) / len(rows)),
        (bogus, off([(t.bogus - bogus * t.kept) / kept for t in tallies])),
        (fmean(row.claim for row in rows.values()), math.hypot(*claims) / len(rows)),
    )


RULES: dict[str, Callable[[], Rule]] = {
    "keep any decrease": lambda: Fixed(0),
    "half the gain": HalfGain,
    "repeat once": RepeatOnce,
    "fixed 2 sigma": lambda: Fixed(2),
    "fixed 3 sigma": lambda: Fixed(3),
    "ours": Ours,
}
WIDTH = 16


def line(name: str, *cells: str) -> None:
    print(f"  {name:24}" + "".join(f"{cell:>{WIDTH}}" for cell in cells), flush=True)


def main(sessions: int, runs: int) -> None:
    print(
        f"{sessions} sessions of {runs} runs for each mix and rule; gain and over-claim in sigmas of one run; ±: 95%\n"
    )
    rows: dict[str, dict[str, Row]] = {name: {} for name in RULES}
    for mix in (*NAMES, *STRESS):
        line(mix.upper(), "gain/100 runs", "of greedy", "tried", "kept", "bogus", "over-claim")
        for name, make in RULES.items():
            row = rows[name][mix] = measure(make, mix, runs, sessions)
            greedy = rows["keep any decrease"][mix]
            share = f"{row.of(greedy):.0%}" if greedy.gain > 0.5 else "-"
            tried = fmean(t.tried for t in row.tallies)
            line(name, f"{row.gain:.2f} ±{off(row.gains):.2f}", share, f"{tried:.0f}", f"{row.kept:.1f}",
                 f"{row.bogus:.1%}", f"{row.claim:+.2f}")  # fmt: skip
    known = {mix: rows["keep any decrease"][mix] for mix in NAMES}
    print()
    line(f"MEAN OF {len(NAMES)} MIXES", "of greedy", "bogus", "over-claim")
    for name, found in rows.items():
        said(name, {mix: found[mix] for mix in NAMES}, known)
    trade(max(2, sessions // 3), runs, known)
    errors(sessions * 20)


def said(name: str, rows: dict[str, Row], greedy: dict[str, Row], *more: str) -> None:
    w = whole(rows, greedy)
    line(name, f"{w.share[0]:.1%} ±{w.share[1]:.1%}", f"{w.bogus[0]:.1%} ±{w.bogus[1]:.1%}",
         f"{w.claim[0]:+.2f} ±{w.claim[1]:.2f}", *more)  # fmt: skip


POLICIES = {
    "the default": Policy(),
    "alpha 0.10": Policy(alpha=0.10),
    "alpha 0.15": Policy(alpha=0.15),
    "beta 0.40": Policy(beta=0.40),
    "keep 2": Policy(keep=2.0),
    "keep 4": Policy(keep=4.0),
    "repeats 0": Policy(repeats=0),
    "repeats 1": Policy(repeats=1),
    "min_effect 0.5": Policy(min_effect=0.5),
    "refresh 0": Policy(refresh=0),
    "refresh 8": Policy(refresh=8),
}


def trade(sessions: int, runs: int, greedy: dict[str, Row]) -> None:
    """Results of other parameters, from a third of the sessions, which is enough for the differences."""
    first = {mix: Row(row.tallies[:sessions], runs) for mix, row in greedy.items()}
    print()
    line("OURS WITH", "of greedy", "bogus", "over-claim", "runs a try")
    for name, policy in POLICIES.items():
        rows = {mix: measure(partial(Ours, policy), mix, runs, sessions) for mix in NAMES}
        tried = sum(t.tried for row in rows.values() for t in row.tallies)
        said(name, rows, first, f"{sessions * len(NAMES) * runs / tried:.2f}")


def errors(times: int) -> None:
    """The rule's error rates for one change of known effect, if the best's number is right to half a sigma and sigma is
    known from 8 repeats.
    """
    print()
    line("ONE CHANGE, TRUE GAIN", "kept at once", "kept", "runs")
    for effect in (-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0):
        dice = random.Random(f"{FIRST_SEED} {effect}")
        kept = once = runs = 0
        for _ in range(times):
            sigma = math.sqrt(dice.gammavariate(4, 1 / 4))
            best = Sample((dice.gauss(0, 0.5),), 1, Claim(dice.gauss(0, 0.5), 4.0, 1))
            values: tuple[float, ...] = ()
            verdict = "provisional"
            while verdict in ("provisional", "quarantined"):
                values = (*values, dice.gauss(effect, 1))
                verdict = judge(
                    METRIC, best, Sample(values), Noise(sigma=sigma, df=8, low=sigma, high=sigma), Policy()
                ).verdict
            kept += verdict == "kept"
            once += verdict == "kept" and len(values) == 1
            runs += len(values)
        line(f"{effect:+.1f} sigma", f"{once / times:.1%}", f"{kept / times:.1%}", f"{runs / times:.2f}")


if __name__ == "__main__":
    main(*(int(word) for word in [*sys.argv[1:], *("300", "300")[len(sys.argv) - 1 :]]))
