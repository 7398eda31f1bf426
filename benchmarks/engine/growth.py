"""Cost of each step at experiment 100, 1,000 and 10,000, in processor time.

    python -m benchmarks growth [EXPERIMENTS [WORD]]

Sessions of 100, of 1,000 and of so many experiments (10,000), each with its runs and repeats, by the real fold and log.
Each step is done in all of them, in turn, and the medians are compared: where nothing grows with the session they are
equal. WORD: only the rows whose name contains it. The last rows are processes: commands, the app up to its first whole
screen, and an engine that goes on with the session for a few experiments, of which its own processor time counts,
without that of git and of the runs.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.engine.grown_project import grown_project, more_experiments
from benchmarks.engine.support import product, time_command, workplace
from benchmarks.prompt_size import brief_of, request
from benchmarks.screen.panes import Screen
from benchmarks.screen.terminal import Terminal, table
from core.client.live import Client
from core.engine.journal import Journal
from core.engine.verdict import Judge
from core.program.program import parse
from core.record import events as e
from core.record.events import Event
from core.record.fold import fold
from core.research.llm.history import Hypotheses
from core.research.scripted import script_index
from core.session.log import Log
from core.session.paths import SessionPaths
from core.stats.sigma import baseline_wanted
from core.views import lineage
from tests.long_session import SIGMA, LongSession, fill, folded
from tests.recorded import PROGRAM

SIZES = (100, 1000)
TIMES = 15  # of each step
STARTS = 5  # of each process
TARGET = 1.2  # ratio up to which a cost counts as not growing
Row = tuple[str, list[float]]  # name, milliseconds in each session


@dataclass(frozen=True, slots=True)
class Step:
    """What is measured, with what is made for it beforehand."""

    run: Callable[[Any], object]
    ready: Callable[[], object] = lambda: None

    def cost(self) -> float:
        """Milliseconds of the processor."""
        made = self.ready()
        gc.collect()
        began = time.process_time()
        self.run(made)
        return 1000 * (time.process_time() - began)


def compared(steps: Sequence[Step], times: int = TIMES) -> list[float]:
    """Median milliseconds of each step, done in turn; the first time of each is not counted."""
    found: list[list[float]] = [[] for _ in steps]
    gc.disable()
    try:
        for turn in range(times + 1):
            for step, spans in zip(steps, found, strict=True):
                spent = step.cost()
                if turn:
                    spans.append(spent)
    finally:
        gc.enable()
    return [statistics.median(spans) for spans in found]


class Session:
    """A session of `experiments` on disk and in memory, and what is done in it."""

    def __init__(self, folder: Path, experiments: int) -> None:
        self.experiments = experiments
        self.paths = SessionPaths(folder, "long")
        self.paths.folder.mkdir(parents=True)
        (folder / "program.md").write_text(PROGRAM.format(experiments=experiments))
        self.story = LongSession(experiments)
        log = Log.create(self.paths.database)
        fill(log, self.story.opening())
        fill(log, self.story.moments())
        log.close()
        self.log = Log.append_to(self.paths.database)
        self.numbers, self.side = count(experiments + 1), 1
        self.apart = folded(experiments)  # the same, in memory alone
        self.hypotheses = Hypotheses()
        program = parse((folder / "program.md").read_text())
        settings: Any = SimpleNamespace(program=program, researcher=SimpleNamespace(can_repair=True, name="claude"))
        setup: Any = SimpleNamespace(paths=self.paths, commit=self.story.commit(0), repo=None)
        self.judge = Judge(setup, settings, Journal(self.log))

    def facts(self) -> list[e.Body]:
        """Some facts of one more experiment, as an engine logs them one after the other."""
        number, story = next(self.numbers), self.story
        started = e.ExperimentStarted(
            experiment=number, parent=story.best, parent_commit=story.commit(story.best), researcher="claude"
        )
        bodies: list[e.Body] = [started, e.Committed(number, story.commit(number), story.commit(story.best))]
        bodies += [body for _, some in story.ran(number, "candidate", 3.0) for body in some]
        return bodies

    def begun(self, *metrics: float) -> int:
        """A new experiment that got these results, by how much worse than the best, and is to be judged."""
        best, number = self.log.state.best_metric or 0.0, next(self.numbers)
        commit, parent = self.story.commit(number), self.log.state.best
        bodies: list[e.Body] = [
            e.ExperimentStarted(
                experiment=number, parent=parent, parent_commit=self.story.commit(parent), researcher="claude"
            ),
            e.Committed(number, commit, self.story.commit(parent)),
        ]
        for place, worse in enumerate(metrics):
            if place:
                bodies.append(e.Judged(
                    experiment=number, verdict="provisional", metric=best, delta=0.0, reason="", commit=commit, runs=1
                ))  # fmt: skip
            kind: e.RunKind = "repeat" if place else "candidate"
            bodies += [body for _, some in self.story.ran(number, kind, best + worse) for body in some]
        self.log.append(bodies, self.story.time)
        return number

    def best_ran(self) -> None:
        """One more run of the best, not far from its first."""
        state, self.side = self.log.state, -self.side
        runs = self.story.ran(state.best, "repeat", state.experiments[state.best].values[0] + self.side * SIGMA)
        self.log.append([body for _, some in runs for body in some], self.story.time)

    # --- steps ---

    def fold_facts(self, bodies: list[e.Body]) -> None:
        for body in bodies:
            fold(self.apart, Event(self.apart.seq + 1, self.apart.time + 1, body))

    def log_facts(self, bodies: list[e.Body]) -> None:
        for body in bodies:
            self.log.append([body])

    def verdict(self, number: int) -> None:
        """All that an engine does for the verdict on what is no better, and what follows from it."""

        async def work() -> None:
            then = await self.judge.judge(number)
            assert then == "done", then
            await self._follow()

        asyncio.run(work())

    def look_again(self, _: object) -> None:
        """All that follows from one more run of the best."""

        async def work() -> None:
            await self.judge.journal.write(*self.judge.new_noise())
            await self.judge.look_again()
            await self._follow()

        asyncio.run(work())

    async def _follow(self) -> None:
        await self.judge.reopen(())
        self.judge.wants_repeat(self.log.state.best)
        baseline_wanted(self.log.state, self.judge.program.policy)

    def follow_hypotheses(self, _: object) -> None:
        self.hypotheses.learn(self.log.state)
        self.hypotheses.nearest("Change the warm-up by a factor of 0.51", 0)

    def prompt(self, root: Path) -> Step:
        brief = brief_of(self.log.state.copy(), self.experiments + 1, root)
        return Step(lambda _: request(brief))

    def open_log(self, _: object) -> None:
        self.log.close()
        self.log = Log.append_to(self.paths.database)
        self.judge.journal.log = self.log


def steps(sessions: Sequence[Session], wanted: Callable[[str], bool]) -> Iterator[Row]:
    """The steps that need no process of their own."""
    root = Path(__file__).parents[2]
    named: dict[str, Callable[[Session], Step]] = {
        "facts of an experiment, folded": lambda s: Step(s.fold_facts, s.facts),
        "facts of an experiment, logged": lambda s: Step(s.log_facts, s.facts),
        "verdict on a candidate": lambda s: Step(s.verdict, lambda: s.begun(0.2)),
        "verdict after a repeat": lambda s: Step(s.verdict, lambda: s.begun(-0.006, 0.2)),
        "verdict after the best ran again": lambda s: Step(s.look_again, s.best_ran),
        "copy of the State, for a brief": lambda s: Step(lambda _: s.log.state.copy()),
        "hypotheses, followed": lambda s: Step(s.follow_hypotheses, lambda: s.begun(0.2)),
        "next line of a script": lambda s: Step(lambda _: script_index(s.log.state, s.experiments + 10**6)),
        "prompt of a language model": lambda s: s.prompt(root),
        "lineage": lambda s: Step(lambda _: lineage(s.log.state)),
        "log opened by an engine": lambda s: Step(s.open_log),
        "log opened by the app": lambda s: Step(lambda _: Client(s.paths).load()),
    }
    for name, make in named.items():
        if wanted(name):
            yield name, compared([make(one) for one in sessions])


def panes(folder: Path, sizes: Sequence[int], wanted: Callable[[str], bool]) -> Iterator[Row]:
    """One update of each pane after an event."""
    if wanted("pane"):
        found = asyncio.run(Screen.compare([folder / str(size) for size in sizes], sizes, TIMES))
        yield from ((f"pane: {name}", costs) for name, costs in found.items())


def first_screen(project: Path, marker: str) -> float:
    """Milliseconds of the processor until the whole screen is painted."""
    terminal = Terminal(product("attach", "-C", str(project), "long"))
    try:
        terminal.wait_for(marker.encode())
        return 1000 * sum(terminal.process.cpu_times()[:2])
    finally:
        terminal.close()


def commands(sessions: Sequence[Session], wanted: Callable[[str], bool]) -> Iterator[Row]:
    for name in ("status", "leaderboard", "leaderboard --json"):
        if wanted(name):
            argv = product(*name.split(), "long")
            found = [time_command(argv, one.paths.project, STARTS) for one in sessions]
            yield f"command: {name}", [1000 * statistics.median(cost.cpu for cost in costs) for costs in found]
    if wanted("app: first whole screen"):
        spans: list[list[float]] = [[] for _ in sessions]
        for _ in range(STARTS):
            for one, found_ in zip(sessions, spans, strict=True):
                found_.append(first_screen(one.paths.project, f"{one.log.state.total:,}"))
        yield "app: first whole screen", [statistics.median(some) for some in spans]


def engines(folder: Path, sizes: Sequence[int], wanted: Callable[[str], bool]) -> Iterator[Row]:
    """An engine that goes on with a session: its start, and its cost for each of a few experiments."""
    if wanted("engine"):
        found = [more_experiments(*grown_project(folder / f"engine{size}", size)) for size in sizes]
        yield "engine: start", [1000 * start for start, _ in found]
        yield "engine: an experiment", [1000 * each for _, each in found]


def main(experiments: int, word: str) -> None:
    sizes = (*(size for size in SIZES if size < experiments), experiments)

    def wanted(name: str) -> bool:
        return word in name

    body = []
    with workplace() as folder:
        sessions = [Session(folder / f"plain{size}", size) for size in sizes]
        groups = (steps(sessions, wanted), panes(folder, sizes, wanted), commands(sessions, wanted),
                  engines(folder, sizes, wanted))  # fmt: skip
        for name, costs in (row for group in groups for row in group):
            ratio = costs[-1] / costs[0] if costs[0] else 1.0
            body.append([name, *(f"{cost:.2f}" for cost in costs), f"{ratio:.2f}", "" if ratio <= TARGET else "grows"])
            print("  ".join(body[-1]), file=sys.stderr, flush=True)
        for one in sessions:
            one.log.close()
    print(table(["CPU ms", *(f"{size:,} experiments" for size in sizes), "ratio", ""], body))


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 10_000, given[1] if len(given) > 1 else "")
