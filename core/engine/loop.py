"""Tasks of a running session: their start, their waking, and their end.

One task thinks ahead, one follows the parent of proposals, one carries the baseline, and each committed experiment has
one that takes it to its verdict.
They read what they need from the State, so that a new engine continues where the log of the last one ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.engine.ending import RUN_SKIPPED, RUN_STOPPED, SessionEnding
from core.engine.experiment import Experiments
from core.engine.lifecycle import Lifecycle
from core.engine.proposing.lookahead import Lookahead
from core.engine.proposing.proposer import MERGE
from core.engine.runs.run import Runs
from core.engine.startup.setup import EnginePart
from core.engine.verdict import Judge
from core.git import end_commands
from core.ordered import Order, starting
from core.record import events as e
from core.record.state import BASELINE, Experiment
from core.stats.sigma import baseline_wanted

WIND_UP_SECONDS = 30.0  # for killed runs to end

Work = Coroutine[Any, Any, None]
MERGES: Order[Experiment] = Order(lambda x: (x.parent,) if x.researcher == MERGE else None)


@dataclass(eq=False)
class Loop(EnginePart):
    """Runs one session's tasks under one engine. A task that fails unexpectedly ends the engine."""

    lifecycle: Lifecycle
    runs: Runs
    judge: Judge
    experiments: Experiments
    lookahead: Lookahead
    _tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict, init=False)  # of experiments, by number
    _side_tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _merging: set[int] = field(default_factory=set, init=False)  # bests that were merged, or could not be

    async def run(self, prepare: Callable[[], Coroutine[Any, Any, bool]]) -> SessionEnding:
        """Continue what the log holds until the session ends. `prepare` is False when it has ended already."""
        own = [self._watch(self._watch_for_end())]
        try:
            if await prepare():
                self._continue_log()
                own.append(self._watch(self.runs.ahead.watch()))
                own.append(self._watch(self.lookahead.think_on(self.carry)))
                own.append(self._watch(self._follow_parent()))
            return await asyncio.shield(self.lifecycle.ended)
        finally:
            await self._wind_up(own)

    async def _wind_up(self, own: list[asyncio.Task[None]]) -> None:
        """Leave nothing running: runs are killed and logged as abandoned, everything that waits is cancelled."""
        if not self.lifecycle.stopping:
            self.lifecycle.stop("the session ended")
        for task in (*own, *self._side_tasks):
            task.cancel()
        for live in list(self.runs.live.values()):
            live.end(RUN_STOPPED)
        end_commands(self.paths.folder)  # checkouts for checks and agents
        for number, task in self._tasks.items():
            if not self.runs.of(number):
                task.cancel()
        ending = [*own, *self._side_tasks, *self._tasks.values()]
        await asyncio.wait(ending, timeout=WIND_UP_SECONDS)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        end_commands(Path("/"))  # of threads that nobody waits for any more

    # --- tasks ---

    def _watch(self, work: Work, forget: Callable[[], object] = lambda: None) -> asyncio.Task[None]:
        """A task whose unexpected failure ends the engine; `forget` is called at its end."""

        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.lifecycle.fail(error)
            forget()
            self.lifecycle.wake()

        task = asyncio.create_task(work)
        task.add_done_callback(done)
        return task

    def run_beside(self, work: Work) -> None:
        """Run work that a person asked for beside the experiments; a session that finishes waits for it."""
        task = self._watch(work, lambda: self._side_tasks.discard(task))
        self._side_tasks.add(task)

    def carry(self, number: int) -> None:
        """Take a committed experiment to its verdict; one that has a task is left alone."""
        if number not in self._tasks:
            self._start(number, self._to_verdict(number))

    def _start(self, number: int, work: Work) -> None:
        self._tasks[number] = self._watch(work, lambda: self._tasks.pop(number, None))

    async def _to_verdict(self, number: int) -> None:
        repeats = await self.experiments.run_to_verdict(number)
        await self._merge(number)
        await self._reopen()
        if repeats:
            best, free = self.state.best, not self.lifecycle.stopping
            if best not in self._tasks and free and self.judge.wants_repeat(best):
                self._start(best, self._refresh(best))
            elif BASELINE not in self._tasks and free and baseline_wanted(self.state, self.program.policy):
                self._start(BASELINE, self.experiments.run_again(BASELINE))

    async def _refresh(self, best: int) -> None:
        await self.experiments.refresh(best)
        await self._reopen()

    async def _reopen(self) -> None:
        """Judge again what was discarded against a number of the best that no longer holds."""
        for number in () if self.lifecycle.stopping else await self.judge.reopen(self._tasks):
            self.carry(number)

    async def _merge(self, leader: int) -> None:
        """Try the best together with the one that it overtook, unless that was done, or lies in conflict with it."""
        x = self.state.experiments.get(leader)
        if x is None or leader != self.state.best or not x.overtook or leader in self._merging:
            return
        self._merging.add(leader)
        merges = self.state.experiments.places(MERGES)
        if (part := starting(merges, leader)).start < part.stop:
            return
        if (merged := await self.lookahead.merge(leader, x.overtook)) is not None:
            self.carry(merged)

    def _continue_log(self) -> None:
        """Start a task for everything that the log holds unfinished."""
        state = self.state
        if state.baseline is None:
            self._start(BASELINE, self.experiments.run_baseline())
        judged = {n for n in state.running.values() if n not in state.live}
        if state.best not in state.live and self.judge.wants_repeat(state.best):
            judged.add(state.best)
        for number in judged:
            self._start(number, self._refresh(number))
        for number in sorted(state.live, key=lambda n: n not in state.running.values()):  # these have their slots
            if number != BASELINE and state.experiments[number].commit:
                self.carry(number)
        if not self.setup.only_task:
            self.run_beside(self._merge(state.best))

    # --- the end ---

    async def _watch_for_end(self) -> None:
        while not self.lifecycle.ended.done():
            self._look_for_end()
            await self.lifecycle.woken()

    def _look_for_end(self) -> None:
        """End the session when it is about to end and nothing is left to do."""
        stop_at = self.state.stop_at
        if stop_at is not None and self.state.judged >= stop_at and not self.lifecycle.stopping:
            self._start_nothing(f"stopped after {stop_at} experiments, as asked")
            if self.runs.live:
                self.run_beside(self._log_stopping())
        if self.lifecycle.stopping:
            judging = self.judge.busy and (self.state.baseline is not None or BASELINE in self._tasks)
            busy = bool(self.runs.live or judging)  # without a baseline to come, what has run is judged when continued
        else:
            # A person's experiment has a commit in the log for a moment before it has a task.
            committed = any(self.state.experiments[n].commit for n in self.state.live)
            busy = bool(committed or self._tasks or self._side_tasks or self.lookahead.busy)
        if self.lifecycle.ending is not None and not busy:
            self.lifecycle.end(self.lifecycle.ending)

    async def stop(self, reason: str, *, now: bool) -> int:
        """Start nothing more, and end once what runs has ended; `now` kills it. Returns the number of these runs."""
        running = [live for live in self.runs.live.values() if not live.waits]
        self._start_nothing(reason)
        await self._log_stopping()
        for live in running if now else ():
            live.end(RUN_STOPPED)
        self.lifecycle.wake()
        return len(running)

    def _start_nothing(self, reason: str) -> None:
        self.lifecycle.stop(reason)
        self.lookahead.cancel()

    async def _log_stopping(self) -> None:
        if self.state.state != "stopping" and self.lifecycle.ending is not None:
            await self.journal.write(e.StateChanged("stopping", self.lifecycle.ending.reason))

    async def watch_budget(self) -> None:
        """Called each second. When the budget's time is spent, waiting ends too, and what runs is still judged."""
        if self.lookahead.watch_budget():
            for number in list(self._tasks):
                if number != BASELINE and not self._in_work(number):
                    await self._abandon(number, "the session's budget was spent before it ran")

    # --- experiments that wait ---

    async def _follow_parent(self) -> None:
        """Begin waiting experiments again when proposals build on another experiment: they are re-applied on it."""
        parent = self.state.parent
        while True:
            if self.state.parent == parent or self.lifecycle.stopping:
                await self.journal.changed()
                continue
            parent = self.state.parent
            for number in (*self.state.ready, *self.runs.early()):
                if number in self._tasks and not self._in_work(number):
                    await self._cancel(number)
                    if number in self.state.ready:
                        self.carry(number)

    def _in_work(self, number: int) -> bool:
        """Whether the experiment is in a slot, or being judged."""
        return number in self.judge.busy or bool(self.runs.of(number))

    async def skip(self, number: int) -> None:
        """End the experiment wherever it is: thought about, waiting, or running."""
        self.experiments.skip(number)
        for live in self.runs.of(number):
            live.end(RUN_SKIPPED)
        if number in self.lookahead.about:
            self.lookahead.skip(number)
        elif not self._in_work(number):
            await self._abandon(number, "skipped before it ran", "skipped")

    async def _abandon(self, number: int, reason: str, verdict: e.Verdict = "abandoned") -> None:
        """End an experiment that holds no slot."""
        await self._cancel(number)
        if number in self.state.live:
            await self.judge.settle(number, verdict, reason)

    async def _cancel(self, number: int) -> None:
        """End the task of an experiment that holds no slot."""
        task = self._tasks.get(number)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
