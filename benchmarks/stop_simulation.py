"""Early stops on simulated sessions, where the true effect of every change is known.

    python -m benchmarks simulated [SESSIONS] [EXPERIMENTS]

A session tries one change after the other on its best, by the product's own decision rule; a run returns its true value
plus noise of standard deviation 1 (sigma). Its printed curve lies above its parent's by what its result is worse, plus
what the change does to the curve and not to the result: `wander` sigmas at a fifth of the schedule, falling to half of
that at its end, and drifting on the way. In recorded sessions of 5 s this was about 2.4. A quarter of the changes are
never compared, a seventh from 0.6 of the schedule on. The rule is the product's own (`core.stats.prune`); every stopped
run is also continued, in a copy of the session, to see whether it would have been kept.

*false curves*: one candidate in ten prints a curve that is 20 sigmas too good, and half of its children do not.
*bad from N*: from that experiment on a third of the changes start slowly and end a little better: to stop them is
wrong.
"""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from benchmarks.decide_simulation import Ours, Rule, SimulatedDevice, draw
from benchmarks.screen.terminal import table
from core.record.state import COUNTS
from core.stats import prune
from core.stats.prune import CELLS, LOOKS, Finished, Profile

SLOPE = 0.018  # loss for each sigma of the result
FIRST_SEED = 70000  # the rule was tuned on recordings
AUDIT = 20  # one hopeless run in so many goes to its end
DECAY = 0.6
NEVER, LATE = 0.25, 0.14  # shares of changes whose curves are never compared, or from DECAY on
FALSE = -20.0  # sigmas by which a false curve is too good
SLOW = 15.0  # sigmas by which one that starts slowly is behind until the last tenth


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What changes do. `mix`: of effects; `false`: share of false curves; `slow_from`: of the first slow start."""

    mix: str = "typical"
    wander: float = 2.4
    false: float = 0.0
    slow_from: int | None = None


@dataclass
class Code:
    """A piece of code: its true value, the curve of a run without luck, how its own runs were, and its children's."""

    truth: float
    curve: list[float]
    false: bool = False
    runs: list[Profile] = field(default_factory=list)
    children: list[Finished] = field(default_factory=list)
    own: Finished | None = None
    tested: bool = False


@dataclass
class Tally:
    """Counts of one session, or of several."""

    runs: float = 0.0
    saved: float = 0.0
    stopped: int = 0
    wrong: int = 0  # stopped, and would have ended better than its parent by more than COUNTS
    audited: int = 0
    audits_wrong: int = 0
    keeps: int = 0
    lost: int = 0
    after: int = 0  # wrong stops since the slow ones began
    on: int = 0  # experiments since then for which stops were on
    since: int = 0
    off: int | None = None  # experiments until the stops were first off

    def add(self, other: Tally) -> None:
        for name in vars(self):
            if name != "off":
                setattr(self, name, getattr(self, name) + getattr(other, name))


class Drawn(SimulatedDevice):
    """A device whose next result has the luck that its curve had."""

    luck: float | None = None

    def run(self, truth: float) -> float:
        if self.luck is None:
            return super().run(truth)
        luck, self.luck = self.luck, None
        return truth + luck


class Session:
    """One simulated session."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.dice, self.tally = world, random.Random(seed), Tally()
        self.device = Drawn(self.dice, 10**9)
        self.rule: Rule = Ours()
        self.best = self.rule.start(self.device)
        base = Code(0.0, [0.0] * CELLS)
        base.runs = [self._run(base, value) for value in self.best.values]
        self.codes = {self.best.truth: base}  # by their true values
        self.base, self.last, self.finished = base, base, list[Finished]()

    def _run(self, code: Code, luck: float) -> Profile:
        """The curve of a run with such luck in its result, which shows more and more."""
        own = self.dice.gauss(0, 1)
        shares = [(k + 0.5) / CELLS for k in range(CELLS)]
        return tuple(
            y - SLOPE * (luck * (0.5 + 0.45 * x) + own * (1 - x) + self.dice.gauss(0, 0.5))
            for x, y in zip(shares, code.curve, strict=True)
        )

    def _change(self, parent: Code, number: int) -> tuple[Code, float]:
        """A change of the parent's code, and from which share its curve can be compared."""
        world, dice = self.world, self.dice
        effect, kind = draw(world.mix, dice), dice.random()
        since = 2.0 if kind < NEVER else DECAY if kind < NEVER + LATE else 0.0
        slow = world.slow_from is not None and number >= world.slow_from and dice.random() < 1 / 3
        effect = dice.uniform(0, 3) if slow else effect
        false = dice.random() < world.false or (parent.false and dice.random() < 0.5)
        drift, curve = dice.gauss(0, 1), []
        for k in range(CELLS):
            share = (k + 0.5) / CELLS
            drift = 0.95 * drift + dice.gauss(0, 0.31)
            apart = world.wander * (1.13 - 0.63 * share) * drift + SLOW * (slow and share < 0.9)
            apart += FALSE * (false - parent.false)
            curve.append(parent.curve[k] + SLOPE * (apart - effect))
        return Code(parent.truth + effect, curve, false), 0.0 if slow else since

    def experiment(self, number: int) -> None:
        """One change: its run, which may be stopped, and its verdict."""
        parent, tally = self._code(self.best.truth), self.tally
        code, since = self._change(parent, number)
        luck = self.dice.gauss(0, 1)
        curve, value = self._run(code, luck), code.truth + luck
        worse = self.best.number - value
        on = prune.believed(tally.audited, tally.audits_wrong)
        look = self._look(parent, curve, since)
        audit = look is not None and (not on or not parent.tested or self.dice.random() < 1 / AUDIT)
        tally.runs += 1
        self._count_slow(number, on)
        if look is not None and not audit:
            self._stop(code, luck, worse, 1 - LOOKS[look] / CELLS, number)
            return
        if audit:
            parent.tested = True
            tally.audited += 1
            tally.audits_wrong += worse < -COUNTS
        own = Finished(behind=prune.behind(curve, prune.together(parent.runs)), worse=worse, curves=len(parent.runs),
                       since=since)  # fmt: skip
        if since <= 1:
            self.finished.append(own)
            parent.children.append(own)
        code.runs, code.own = [curve], own
        self.codes[code.truth] = code
        self.device.luck = luck
        self.rule.consider(self.device, self.best, code.truth)
        before, self.best = self.best, self.rule.leads(self.best)
        tally.keeps += self.best.truth == code.truth != before.truth

        self.last = self._code(self.best.truth)

    def _code(self, truth: float) -> Code:
        """The code of the best. An earlier change on a new base is another one, with the curve of that base."""
        if truth not in self.codes:
            curve = [y - SLOPE * (truth - self.last.truth) for y in self.last.curve]
            self.codes[truth] = Code(truth, curve, self.last.false)
            self.codes[truth].runs = [self._run(self.codes[truth], self.dice.gauss(0, 1))]
        return self.codes[truth]

    def _look(self, parent: Code, curve: Profile, since: float) -> int | None:
        """The look at which the run is hopeless."""
        if since > 1:
            return None
        finished = self.finished[-100:]
        margins = prune.learn(finished)
        reference = prune.together(parent.runs)
        above: prune.Behind = (0.0,) * len(LOOKS)
        if parent is not self.base:
            others = prune.learn([one for one in finished if one is not parent.own])
            gain = self.best.number - fmean(self.rule.baseline)  # type: ignore[attr-defined]
            above = prune.bounded(reference, prune.together(self.base.runs), gain, others)
            above = prune.corrected(above, parent.children[-100:], margins)
        else:
            parent.tested = True
        gaps = tuple(
            None if g is None or a is None else g - a
            for g, a in zip(prune.behind(curve, reference), above, strict=True)
        )
        return prune.stop_at(gaps, margins, bar=-COUNTS, curves=len(parent.runs), since=since)

    def _stop(self, code: Code, luck: float, worse: float, saved: float, number: int) -> None:
        tally = self.tally
        tally.saved += saved
        tally.stopped += 1
        wrong = worse < -COUNTS
        tally.wrong += wrong
        tally.after += wrong and number >= (self.world.slow_from or 10**9)
        rule, device, best = copy.deepcopy((self.rule, self.device, self.best))
        device.luck = luck
        rule.consider(device, best, code.truth)
        if rule.leads(best).truth == code.truth:
            tally.lost += 1
            tally.keeps += 1

    def _count_slow(self, number: int, on: bool) -> None:
        tally, first = self.tally, self.world.slow_from
        if first is not None and number >= first:
            tally.since += 1
            tally.on += on
            if not on and tally.off is None:
                tally.off = number - first


WORLDS = {
    "typical": World(),
    "early": World(mix="early"),
    "late": World(mix="late"),
    "all harm much": World(mix="all harm much"),
    "typical, curves that say more": World(wander=1.0),
    "all harm much, curves that say more": World(mix="all harm much", wander=1.0),
    "typical, curves that say less": World(wander=5.0),
    "typical, false curves": World(false=0.1),
    "typical, bad from 75": World(slow_from=75),
}


def simulated(world: World, sessions: int, experiments: int) -> tuple[Tally, list[int | None]]:
    whole, offs = Tally(), list[int | None]()
    for n in range(sessions):
        session = Session(world, FIRST_SEED + n)
        for number in range(experiments):
            session.experiment(number)
        whole.add(session.tally)
        offs.append(session.tally.off)
    return whole, offs


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else ""


def main(words: Sequence[str]) -> None:
    sessions, experiments = int(words[0]) if words else 40, int(words[1]) if len(words) > 1 else 150
    rows, late = [], []
    for name, world in WORLDS.items():
        found, offs = simulated(world, sessions, experiments)
        rows.append([
            name, _percent(found.saved, found.runs), _percent(found.stopped, found.runs), str(found.keeps),
            _percent(found.lost, found.keeps), _percent(found.wrong, found.stopped),
            _percent(found.audits_wrong, found.audited), str(found.audited),
        ])  # fmt: skip
        if world.slow_from is not None:
            known = sorted(off for off in offs if off is not None)
            middle = str(known[len(known) // 2]) if known else ""
            late.append([name, f"{len(known)} of {sessions}", middle, f"{found.after / sessions:.1f}",
                         _percent(found.on, found.since)])  # fmt: skip
    print(f"{sessions} sessions of {experiments} experiments; one hopeless run in {AUDIT} is audited\n")
    print(table(["world", "time saved, %", "stopped, %", "would-be keeps", "of these lost, %", "stops wrong, %",
                 "audits wrong, %", "audits"], rows))  # fmt: skip
    print(
        "\n" + table(["a rule that went bad", "switched off", "after, median", "wrong stops a session", "on, %"], late)
    )


if __name__ == "__main__":
    main(sys.argv[1:])
