"""False keeps where the metric is a time: candidates compared with earlier runs of the best, or run in turn with it.

    python -m benchmarks timed [SESSIONS] [CANDIDATES]

A result is the code's true time, times a factor of the machine that drifts from run to run, times noise. Both rules
judge with `core.stats.decide` and start from three baseline runs; sigma of one result is 16% in all.
"""

from __future__ import annotations

import math
import random
import sys
from dataclasses import dataclass, field

from core.record.metric import Metric
from core.record.sample import Sample
from core.stats.decide import Decision, Policy, judge, judge_in_turn, refresh_due
from core.stats.noise import estimate, in_turn_noise

SIGMA = 0.16
COLD = 0.4  # how much longer the first run of all takes
POLICY = Policy()


@dataclass
class Machine:
    """Results of code with a known true time. `drift`: share of the variance that wanders; `memory`: its correlation
    from one run to the next; `step`: after so many runs a neighbour leaves, and all code is 30% faster.
    """

    dice: random.Random
    drift: float
    step: int | None = None
    memory: float = 0.97
    cold: bool = True
    runs: int = 0
    state: float | None = None

    def run(self, truth: float) -> float:
        self.runs += 1
        wide = SIGMA * math.sqrt(self.drift)
        kick = self.dice.gauss(0, wide)
        self.state = kick if self.state is None else self.memory * self.state + math.sqrt(1 - self.memory**2) * kick
        noise = self.dice.gauss(0, SIGMA * math.sqrt(1 - self.drift))
        cold, self.cold = (COLD if self.cold else 0.0), False
        calm = 0.7 if self.step is not None and self.runs > self.step else 1.0
        return truth * calm * math.exp(self.state + noise) * (1 + cold)


@dataclass
class Session:
    """One session. `in_turn`: as the product measures a time (docs/program.md); else as it measures other metrics.
    `metric`: the time, or with the direction `max` its inverse.
    """

    machine: Machine
    in_turn: bool
    metric: Metric
    truth: float = 1.0
    groups: list[tuple[float, ...]] = field(default_factory=list)
    stood: int = 0

    def start(self) -> None:
        if self.in_turn:
            self.run(self.truth)  # the warm-up
        self.base = Sample(tuple(self.run(self.truth) for _ in range(3)))
        self.best = self.base

    def run(self, truth: float) -> float:
        took = self.machine.run(truth)
        return took if self.metric.direction == "min" else 1 / took

    def result(self, truth: float, beside: float, number: float) -> float:
        """One result as it counts; `beside`: true time of the code that runs before it, and `number` its own."""
        return number / self.run(beside) * self.run(truth) if self.in_turn else self.run(truth)

    def judged(self, candidate: Sample) -> Decision:
        groups = [*self.groups, candidate.values]
        if self.in_turn:
            noise = in_turn_noise(self.base.values, groups, self.best.number)
            return judge_in_turn(self.metric, self.best, candidate, noise, POLICY)
        return judge(self.metric, self.best, candidate, estimate([self.base.values, *groups]), POLICY)

    def consider(self, effect: float) -> bool:
        """Whether a candidate whose true time is `effect` times the best's is kept."""
        truth, values = self.truth * effect, ()  # type: tuple[float, tuple[float, ...]]
        while True:
            values = (*values, self.result(truth, self.truth, self.best.number))
            decision = self.judged(Sample(values))
            if decision.verdict in ("kept", "discarded"):
                break
        if decision.verdict == "kept":
            if self.best is not self.base:
                self.groups.append(self.best.values)
            self.best, self.truth, self.stood = Sample(values, len(values), decision.claim), truth, 0
            if self.in_turn:
                self.refresh()
            return True
        self.groups.append(values)
        if not self.in_turn and decision.best_claim:
            self.best = Sample(self.best.values, self.best.chosen_on, decision.best_claim)
        self.stood += 1
        if refresh_due(self.best, self.stood, POLICY) and not (self.in_turn and self.best is self.base):
            self.refresh()
        return False

    def refresh(self) -> None:
        """Another result of the best, beside the baseline."""
        again = self.result(self.truth, 1.0, self.base.number)
        self.best = Sample((*self.best.values, again), self.best.chosen_on, self.best.claim)


@dataclass
class Row:
    """Of candidates of one effect: share kept, runs of each, share of the sessions that keep one, and by how much the
    best's number is better than its true one at the end.
    """

    kept: float
    runs: float
    sessions: float
    over: float

    def __str__(self) -> str:
        return f"{self.kept:.1%} kept, {self.sessions:.0%} of sessions, {self.over:+.1%}, {self.runs:.1f} runs"


def measure(
    sessions: int, candidates: int, metric: Metric, drift: float, step: int | None, effect: float, *, in_turn: bool
) -> Row:
    """Candidates that are all `effect` times the best's time."""
    kept = runs = some = 0
    over = 0.0
    for seed in range(sessions):
        session = Session(Machine(random.Random(f"{seed} {drift}"), drift, step), in_turn, metric)
        session.start()
        before = session.machine.runs
        found = sum(session.consider(effect) for _ in range(candidates))
        kept, some, runs = kept + found, some + (found > 0), runs + session.machine.runs - before
        true = session.truth if metric.direction == "min" else 1 / session.truth
        over += metric.gain(math.log(true) + SIGMA**2 / 2, math.log(session.best.number))
    return Row(kept / sessions / candidates, runs / sessions / candidates, some / sessions, over / sessions)


def main(sessions: int, candidates: int) -> None:
    print(f"{sessions} sessions; sigma of one result {SIGMA:.0%}; the first run of all takes {COLD:.0%} longer")
    machines = ((0.0, None, "no drift"), (0.5, None, "half of it drifts"), (0.5, 20, "the same, 30% faster at run 20"))
    for metric in (Metric("seconds", "min"), Metric("speed", "max")):
        for drift, step, name in machines:
            for effect, words, count in (
                (1.0, f"{candidates} without effect", candidates),
                (0.8, "one, 20% faster", 1),
            ):
                print(f"\n  {metric.name}, {name}; {words}")
                for turn, how in ((False, "against earlier runs"), (True, "in turn with the best")):
                    row = measure(sessions, count, metric, drift, step, effect, in_turn=turn)
                    print(f"    {how:24}{row}", flush=True)


if __name__ == "__main__":
    main(*(int(word) for word in [*sys.argv[1:], *("500", "50")[len(sys.argv) - 1 :]]))
