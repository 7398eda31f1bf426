"""Long sessions as an engine logs them: every experiment with its runs, repeats and claims, by a fixed draw.

    for time, bodies in long_session(10_000): ...    # facts that are logged together
    state = folded(1_000)                            # only in memory

`tests.recorded` tells short stories for screens; here each verdict is of so many results, as the decision rule asks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from core.record import events as e
from core.record.events import Body, Event
from core.record.fold import fold
from core.record.proposal import KINDS
from core.record.state import BASELINE, State
from core.session.log import Log

START = 1_790_000_000.0  # Unix seconds
SIGMA = 0.004
NAMES = ("warm-up", "weight decay", "head size", "batch size", "rotary base", "embedding scale", "momentum", "window")
Moment = tuple[float, list[Body]]


def commit_of(number: int) -> str:
    """A made-up commit id."""
    return f"{number + 1:040x}"


@dataclass(slots=True)
class LongSession:
    """The facts of a session: of a hundred experiments about four are kept, nine repeated, eight crash, three are
    refused. `first`: the number that they begin with, after those that a log holds already.
    """

    experiments: int
    seed: int = 1
    first: int = 1
    commit: Callable[[int], str] = commit_of
    time: float = START
    run: int = 1
    best: int = BASELINE
    best_metric: float = 2.0
    best_runs: int = 3
    draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

    def opening(self) -> Iterator[Moment]:
        """Start, baseline and its noise."""
        budget: dict[str, float | int | None] = {}
        yield self._at(0.0, e.SessionStarted(
            session="long", project="/p", branch="b", commit=self.commit(0), metric="val_bpb", direction="min",
            self_reported=False, run_budget="20s", budget=budget, edit=("train.py",), seed=1, version="",
        ), e.EngineStarted(
            pid=1, boot_id="boot", researcher="claude", model="model", slots=("cpu0", "cpu1"), sandbox="A",
            sandbox_note="", device="cpu, 2 cores",
        ), e.StateChanged("running"))  # fmt: skip
        yield self._at(1.0, e.ExperimentStarted(
            experiment=0, parent=0, parent_commit=self.commit(0), researcher="baseline",
        ))  # fmt: skip
        for value in (2.0 - SIGMA, 2.0, 2.0 + SIGMA):
            yield from self.ran(0, "baseline", value)
        values = (2.0 - SIGMA, 2.0, 2.0 + SIGMA)
        noise = e.NoiseEstimated(sigma=SIGMA, low=0.578 * SIGMA, high=4.41 * SIGMA, df=2.0)
        yield self._at(0.1, e.Calibrated(metric=2.0, sigma=SIGMA, values=values), noise)

    def moments(self) -> Iterator[Moment]:
        """Every experiment from `first` on."""
        for number in range(self.first, self.first + self.experiments):
            yield from self._experiment(number)

    def _at(self, after: float, *bodies: Body) -> Moment:
        self.time += after
        return self.time, list(bodies)

    def _experiment(self, n: int) -> Iterator[Moment]:
        draw = self.draw
        what, factor = draw.choice(NAMES), draw.uniform(0.3, 3)
        yield self._at(0.2, e.ExperimentStarted(
            experiment=n, parent=self.best, parent_commit=self.commit(self.best), researcher="claude", model="model",
        ))  # fmt: skip
        proposed = e.Proposed(
            experiment=n, hypothesis=f"Change the {what} by a factor of {factor:.2f}: #{max(0, n - 3)} was limited",
            rationale="why", expected=-0.004, kind=draw.choice(KINDS), diff="-a\n+b\n", files=("train.py",), added=2,
            removed=2, seconds=3.0, model="model", lines=draw.choice((0, 0, 0, 2, -1)),
            extra={"ideas": [f"Tie the {draw.choice(NAMES)} to {n} steps"]} if n % 9 == 0 else {},
        )  # fmt: skip
        spent = e.Spent(experiment=n, input_tokens=12_000, output_tokens=800, cached_tokens=9_000, usd=0.004)
        fate = draw.random()
        if fate < 0.03:
            yield self._at(3.0, e.ProposalRefused(n, 1, "not editable"), spent)
            yield self._judged(n, "rejected", None, None, 0)
            return
        committed = e.Committed(n, self.commit(n), self.commit(self.best))
        yield self._at(3.0, proposed, spent, committed, e.Checked(experiment=n, name="parse", ok=True, seconds=0.0))
        if fate < 0.11:
            yield from self.ran(n, "candidate", None)
            yield self._judged(n, "crashed", None, None, 0)
        elif fate < 0.15 or n == 1:
            yield from self._kept(n)
        else:
            yield from self._not_kept(n, repeated=fate < 0.24)

    def _kept(self, n: int) -> Iterator[Moment]:
        """Kept on its first run, then run once more as the best."""
        value = self.best_metric - SIGMA * (3.1 + self.draw.random())
        yield from self.ran(n, "candidate", value)
        yield self._judged(n, "kept", value, value - self.best_metric, 1, claim=value + SIGMA, claim_runs=1.0)
        again = value + SIGMA * (1 + self.draw.gauss(0, 0.5))
        yield from self.ran(n, "repeat", again)
        self.best, self.best_metric = n, value + SIGMA

    def _not_kept(self, n: int, *, repeated: bool) -> Iterator[Moment]:
        value = self.best_metric + SIGMA * (self.draw.uniform(-0.5, 6.0) if not repeated else -1.5)
        yield from self.ran(n, "candidate", value)
        if repeated:
            yield self._judged(n, "provisional", value, value - self.best_metric, 1)
            other = self.best_metric + SIGMA * self.draw.uniform(0.5, 2.0)
            yield from self.ran(n, "repeat", other)
            value = (value + other) / 2
        yield self._judged(n, "discarded", value, value - self.best_metric, 2 if repeated else 1)

    def ran(self, n: int, kind: e.RunKind, metric: float | None) -> Iterator[Moment]:
        """One run with this result; without one it crashes."""
        run, self.run = self.run, self.run + 1
        yield self._at(0.1, e.RunStarted(
            run=run, experiment=n, kind=kind, slot=f"cpu{run % 2}", seed=run, commit=self.commit(n), budget="20s",
        ))  # fmt: skip
        yield self._at(1.0, e.RunPhaseChanged(run, n, "training"))
        done = metric is not None
        yield self._at(20.0, e.RunFinished(
            run=run, experiment=n, ended="done" if done else "crashed", metric=metric, seconds=20.0, wall_seconds=21.0,
            exit_code=0 if done else 1, steps=800, tokens=819_200, reason="" if done else "ValueError: shapes",
            log_tail="step 00010 | loss 3.2\n", peak_memory=400_000_000, gap=0.3, share=0.9, used=20.0,
            before_clock=2.0, new_names=3,
        ))  # fmt: skip

    def _judged(
        self, n: int, verdict: e.Verdict, metric: float | None, delta: float | None, runs: int,
        claim: float | None = None, claim_runs: float = 0.0,
    ) -> Moment:  # fmt: skip
        commit = None if verdict == "rejected" else self.commit(n)
        return self._at(0.1, e.Judged(
            experiment=n, verdict=verdict, metric=metric, delta=delta, reason="as the rule says", commit=commit,
            runs=runs, claim=claim, claim_runs=claim_runs,
        ))  # fmt: skip


def long_session(experiments: int, seed: int = 1) -> Iterator[Moment]:
    """All facts of a session of so many experiments."""
    story = LongSession(experiments, seed)
    yield from story.opening()
    yield from story.moments()


def folded(experiments: int, seed: int = 1) -> State:
    """The State after so many experiments."""
    state = State()
    for time, bodies in long_session(experiments, seed):
        for body in bodies:
            fold(state, Event(state.seq + 1, time, body))
    return state


def fill(log: Log, moments: Iterator[Moment], together: int = 400) -> None:
    """Log the facts, many in a transaction, so that ten thousand experiments take seconds."""
    pending: list[Body] = []
    time = START
    for time, bodies in moments:
        pending += bodies
        if len(pending) >= together:
            log.append(pending, time)
            pending = []
    log.append(pending, time)
