"""The decision rule against an adversary who owns one candidate in ten, on simulated sessions.

    python -m benchmarks adversary [SESSIONS] [RUNS]

His candidates return what he wants, run by run. He does not know which run it is, except where a strategy says so (that
is what run numbers told before they were hashed). The same sessions are simulated without him: his candidates are then
drawn like all others. Counted are the others' candidates: keeps of changes that gain nothing (bogus), and changes that
gain two sigma or more and are not kept (lost). His own are counted apart, and compare with those of no effect at all.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean, stdev

from benchmarks.decide_simulation import NAMES, Best, Change, Ours, SimulatedDevice, draw
from core.record.sample import Prior
from core.stats.decide import Policy
from core.stats.noise import Noise, session_noise

SHARE = 0.1  # of the candidates that are his
LOST_FROM = 2.0  # sigmas of gain from which a change that is not kept counts as lost
FIRST_SEED = 24000  # the rule was tuned on other seeds
Attack = Callable[[int, random.Random], float]  # result of the n-th run of a candidate (from 0) beyond the best's truth


@dataclass(frozen=True)
class Strategy:
    """`run`: what his candidates return. `saves`: lines that they have fewer; `truth`: their true effect."""

    run: Attack
    truth: float = 0.0
    saves: int = 0


def _spoilt(n: int, dice: random.Random) -> float:
    return dice.gauss(1.6, 0.5) if n == 0 else -600.0


def _gamble(good: float, bad: float, n: int, dice: random.Random) -> float:
    return dice.gauss(good, 1) if dice.random() < 0.5 else dice.gauss(bad, 1)


def _wide(spread: float, n: int, dice: random.Random) -> float:
    return dice.gauss(0, spread)


def _heavy(n: int, dice: random.Random) -> float:
    return max(-1000.0, min(1000.0, dice.gauss(0, 1) / max(1e-3, abs(dice.gauss(0, 1)))))


def _bad_first(n: int, dice: random.Random) -> float:
    return -600.0 if n == 0 else dice.gauss(2, 1)


STRATEGIES: dict[str, Strategy] = {
    "no effect": Strategy(lambda n, dice: dice.gauss(0, 1)),
    "spoilt repeats (knows which run it is)": Strategy(_spoilt, -300.0),
    "good first run, bad repeats (knows)": Strategy(lambda n, dice: dice.gauss(3.5 if n == 0 else -1, 1), -1.0),
    "bad first run, good repeats (knows)": Strategy(_bad_first, 0.0),
    "half of the runs good, half spoilt": Strategy(partial(_gamble, 2.5, -40.0), -19.0),
    "twice the noise": Strategy(partial(_wide, 2.0), -0.01),
    "four times the noise": Strategy(partial(_wide, 4.0), -0.01),
    "heavy tails (Cauchy)": Strategy(_heavy, -0.01),
    "a small gain without any noise": Strategy(lambda n, dice: 1.2, 1.2),
    "no gain and no noise": Strategy(lambda n, dice: 0.0),
    "fewer lines, worse by 0.9 sigma": Strategy(lambda n, dice: dice.gauss(-0.9, 1), -0.9, 5),
    "fewer lines, worse by 3 sigma": Strategy(lambda n, dice: dice.gauss(-3, 1), -3.0, 5),
    "fewer lines, and noise that grows": Strategy(lambda n, dice: dice.gauss(-1, 2 + n), -1.0, 5),
}


@dataclass
class Count:
    """Of sessions: the others' candidates that gain nothing and were kept, those that gain much and were kept, at once
    or when they were judged again, and how many there were; his own and how many of them were kept without a gain;
    true gain at the end.
    """

    bogus: int = 0
    won: int = 0
    useful: int = 0
    tried: int = 0
    his: int = 0
    his_bogus: int = 0
    gains: list[float] = field(default_factory=list)

    def __add__(self, o: Count) -> Count:
        return Count(
            self.bogus + o.bogus, self.won + o.won, self.useful + o.useful, self.tried + o.tried, self.his + o.his,
            self.his_bogus + o.his_bogus, self.gains + o.gains,
        )  # fmt: skip

    @property
    def bogus_share(self) -> float:
        return self.bogus / max(1, self.tried)

    @property
    def lost_share(self) -> float:
        return 1 - self.won / max(1, self.useful)


class Session(Ours):
    """One session of the product's rule. `first_sigma`: the baseline's three runs happen to scatter by so much."""

    def __init__(self, prior: Prior | None = None, first_sigma: float | None = None) -> None:
        super().__init__(Policy())
        self.prior, self.first_sigma = prior, first_sigma

    def begin(self, best: Best, run: Callable[[], float]) -> None:
        if self.first_sigma is not None:
            middle, factor = fmean(best.values), self.first_sigma / stdev(best.values)
            best.values = tuple(middle + factor * (value - middle) for value in best.values)
        super().begin(best, run)

    def noise(self, *candidate: float) -> Noise:
        leading = [self.best.values] if self.best.claim else []
        return session_noise(
            self.baseline, [*self.bests, *leading], [*self.others, candidate], self.prior, self.results
        )


def session(rule: Session, mix: str, runs: int, seed: int, strategy: Strategy | None) -> Count:
    """One session. The same seed gives the same honest changes, and the same places to the adversary."""
    ideas, places = random.Random(f"{seed} ideas"), random.Random(f"{seed} places")
    device, his = SimulatedDevice(random.Random(f"{seed} noise"), runs), random.Random(f"{seed} his")
    count = Count()
    rule.start(device)
    while device.left > 0:
        effect, own = draw(mix, ideas), places.random() < SHARE
        change = Change(effect, _honest(device, effect), owner="own" if own else "other")
        if own and strategy is not None:
            change = Change(strategy.truth, _attack(device, strategy, his), strategy.saves, "his")
        count.his += own and strategy is not None
        if not own:
            count.tried += 1
            count.useful += effect >= LOST_FROM
        new = rule.verdict(change)
        if new is not None and new.change is not None:
            kept, useful = new.change, new.change.effect >= LOST_FROM
            count.his_bogus += kept.owner == "his" and kept.effect <= 0
            count.bogus += kept.owner == "other" and kept.effect <= 0
            count.won += kept.owner == "other" and useful
    count.gains.append(100 * rule.led[-1].best.truth / runs)
    return count


def _honest(device: SimulatedDevice, effect: float) -> Callable[[float], float]:
    return lambda base: device.run(base + effect)


def _attack(device: SimulatedDevice, how: Strategy, dice: random.Random) -> Callable[[float], float]:
    ran = iter(range(10**6))

    def run(base: float) -> float:
        device.left -= 1
        return base + how.run(next(ran), dice)

    return run


def whole(make: Callable[[], Session], runs: int, sessions: int, strategy: Strategy | None) -> Count:
    """Over all mixes of effects."""
    seeds = range(FIRST_SEED, FIRST_SEED + sessions)
    return sum((session(make(), mix, runs, seed, strategy) for mix in NAMES for seed in seeds), Count())


WIDTH = 14


def line(name: str, *cells: str) -> None:
    print(f"  {name:42}" + "".join(f"{cell:>{WIDTH}}" for cell in cells), flush=True)


def row(name: str, found: Count, without: Count, *, own: bool = True) -> None:
    his = f"{found.his_bogus / found.his:.1%}" if own and found.his else "-"
    line(name, f"{found.bogus_share:.2%}", f"{found.bogus_share / without.bogus_share:.2f}", f"{found.lost_share:.1%}",
         f"{found.lost_share / without.lost_share:.2f}", his, f"{fmean(found.gains):.1f}")  # fmt: skip


def main(sessions: int, runs: int) -> None:
    print(f"{sessions} sessions of {runs} runs for each of {len(NAMES)} mixes; one candidate in ten is his\n")
    line("HIS CANDIDATES", "others' bogus", "times", "others' lost", "times", "his bogus", "gain/100 runs")
    without = whole(Session, runs, sessions, None)
    row("(without him)", without, without)
    for name, strategy in STRATEGIES.items():
        row(name, whole(Session, runs, sessions, strategy), without)
    print()
    line("A SIGMA THAT IS WRONG AT THE START", "bogus", "times", "lost", "times", "", "gain/100 runs")
    starts: dict[str, Callable[[], Session]] = {
        "baseline scatters by twice sigma": partial(Session, first_sigma=2.0),
        "baseline scatters by half of sigma": partial(Session, first_sigma=0.5),
        "prior of 400 times sigma": partial(Session, prior=Prior(400.0, 2.0)),
        "prior of a hundredth of sigma": partial(Session, prior=Prior(0.01, 2.0)),
        "prior of twice sigma": partial(Session, prior=Prior(2.0, 2.0)),
        "prior of half of sigma": partial(Session, prior=Prior(0.5, 2.0)),
    }
    for name, make in starts.items():
        row(name, whole(make, runs, sessions, None), without, own=False)


if __name__ == "__main__":
    main(*(int(word) for word in [*sys.argv[1:], *("100", "300")[len(sys.argv) - 1 :]]))
