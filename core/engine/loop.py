"""The loop: think, check, run, score, decide, keep or revert; for as long as the budget lasts.

One task thinks ahead while the slots are busy; each experiment that has a commit is carried to its verdict by a task
of its own; the baseline is carried the same way. Everything a task knows it reads from the journal's State, so that a
task started by a new engine goes on where the log says the old one was.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from functools import partial
from typing import Any

from core.clock import now
from core.engine.commands.certification import Errands
from core.engine.commands.change_settings import Changes
from core.engine.journal import Journal
from core.engine.proposing.agent_workspace import EngineWorkshop
from core.engine.proposing.lookahead import Ahead
from core.engine.proposing.proposer import Thinker
from core.engine.runs.run import Runs
from core.engine.runs.slots import Slots, Urgency
from core.engine.session_settings import SessionSettings
from core.engine.startup.preparation import prepare_session
from core.engine.startup.setup import Setup
from core.engine.verdict import Judge
from core.lab.shim.rmtree import remove_tree
from core.record import events as e
from core.record.budget import SessionBudget
from core.record.errors import CommandRefused
from core.record.sample import mean
from core.record.state import BASELINE, HUMAN, State
from core.stats.noise import estimate

TAIL_LINES = 12  # of a crashed baseline's output in the reason
BASELINE_TRIES = 3
WIND_UP_SECONDS = 30.0  # for killed jobs to be gone


class Loop:
    """One session's loop under one engine. `run` returns the state the session ends in and why."""

    def __init__(self, setup: Setup, settings: SessionSettings, journal: Journal) -> None:
        self.setup = setup
        self.settings = settings
        self.journal = journal
        self.slots = Slots(settings.slots)
        self.runs = Runs(setup, settings, journal, self.slots)
        self.thinker = Thinker(setup, settings, journal)
        self.thinker.briefing.workshop = partial(EngineWorkshop, setup, settings, self.runs.place)
        self.thinker.counted = self.dollar_watch
        self.judge = Judge(setup, settings, journal)
        self.ahead = Ahead(self)
        self.skipped: set[int] = set()
        self.stopping = ""
        self.exhausted = ""  # why no more experiments begin
        self.errands = Errands(setup, settings, journal, self.runs)
        self._errands: set[asyncio.Task[None]] = set()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._end: asyncio.Future[tuple[e.SessionState, str]] = asyncio.get_running_loop().create_future()
        self.awake = asyncio.Event()
        self.changes = Changes(self)

    @property
    def state(self) -> State:
        return self.journal.state

    async def run(self) -> tuple[e.SessionState, str]:
        """Prepare, recover what an earlier engine left, and go on until something ends the session."""
        if not await prepare_session(
            self.setup, self.settings, self.journal, self.runs.place, self.hold, self._end.done
        ):
            return self._end.result()
        self.thinker.briefing.info = self.runs.place.prepared.info
        await self.journal.write(e.StateChanged("running"))
        self.slots.open()
        self._begin_errand()
        self._carry_on()
        thinker = self._watch(self.ahead.think_on())
        try:
            return await asyncio.shield(self._end)
        finally:
            await self._wind_up(thinker)

    async def _wind_up(self, thinker: asyncio.Task[None]) -> None:
        """Leave nothing running: jobs are killed and logged as abandoned, everything that waits is cancelled."""
        self.stopping = self.stopping or "the session ended"
        self.slots.drain()
        thinker.cancel()
        for errand in self._errands:
            errand.cancel()
        for live in list(self.runs.live.values()):
            live.end("stop")
        tasks = list(self._tasks.items())
        for number, task in tasks:
            if not any(live.experiment == number for live in self.runs.live.values()):
                task.cancel()
        ending = [thinker, *self._errands, *(task for _, task in tasks)]
        await asyncio.wait(ending, timeout=WIND_UP_SECONDS)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def end(self, state: e.SessionState, reason: str) -> None:
        """The session ends like this; only the first word counts."""
        if not self._end.done():
            self.slots.drain()  # nothing more starts
            self._end.set_result((state, reason))

    def _watch(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task whose unexpected failure ends the engine instead of being lost."""
        task = asyncio.create_task(work)

        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None and not self._end.done():
                error = task.exception()
                assert error is not None
                self._end.set_exception(error)

        task.add_done_callback(done)
        return task

    async def hold(self, reason: str) -> None:
        """Pause for a person: what is wrong touches every verdict."""
        self.slots.close()
        if self.state.state == "running":
            await self.journal.write(e.StateChanged("paused", reason))

    # The baseline and the experiments that wait in the log

    def _carry_on(self) -> None:
        state = self.state
        if state.baseline is None:
            self._carry(BASELINE, self._baseline())
        for number in state.live:
            if number != BASELINE and state.experiments[number].commit:
                self.carry(number)
        judged = {n for n in state.running.values() if n not in state.live}
        if state.best not in state.live and self.judge.wants_repeat(state.best):
            judged.add(state.best)
        for number in judged:
            self._carry(number, self._lead(number))

    def carry(self, number: int) -> None:
        """Take a committed experiment to its verdict; one that is under way is left alone."""
        if number not in self._tasks:
            self._carry(number, self._experiment(number))

    def _carry(self, number: int, work: Coroutine[Any, Any, None]) -> None:
        task = self._watch(work)
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._forget(number))

    def run_errand(self, work: Coroutine[Any, Any, None]) -> None:
        """Something asked for by a person, beside the loop; the session does not end before it has."""
        task = self._watch(work)
        self._errands.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._errands.discard(task)
            self.wake()

        task.add_done_callback(done)

    def _begin_errand(self) -> None:
        """An engine started for one errand thinks of nothing and goes when it is done."""
        name, _, number = (self.setup.errand or "").partition(":")
        if not name:
            return
        self.exhausted = f"{name} is done"
        try:
            if name == "certify":
                self.run_errand(self.errands.certify(self.errands.may_certify(int(number) if number else None)))
            else:
                self.run_errand(self.errands.reproduce(self.errands.may_reproduce(int(number)).number))
        except CommandRefused as refusal:
            self.end("stopped", refusal.what)

    def _forget(self, number: int) -> None:
        self._tasks.pop(number, None)
        self.wake()

    def wake(self) -> None:
        """Look again at whether to think, and at whether anything is left to do."""
        self.awake.set()
        if self._end.done():
            return
        stop_at = self.state.stop_at
        if stop_at is not None and self.state.judged >= stop_at and not self.stopping:
            self._wind_down(f"stopped after {stop_at} experiments, as asked")
            if self.runs.live:
                self.run_errand(self._say_stopping())
        busy = [n for n in self._tasks if not self._tasks[n].done()] or self._errands
        if self.stopping and not self.runs.live and not self.judge.busy:
            self.end("stopped", self.stopping)
        # An engine started for an errand leaves what was being thought about to the next one.
        elif self.exhausted and not (self.stopping or busy or (self.ahead.busy and not self.setup.errand)):
            self.end("finished", self.exhausted)

    async def stop(self, reason: str) -> None:
        """Start nothing more; the session ends once what runs has ended."""
        self._wind_down(reason)
        await self._say_stopping()
        self.wake()

    def _wind_down(self, reason: str) -> None:
        self.stopping = reason
        self.slots.drain()
        self.ahead.cancel()

    async def _say_stopping(self) -> None:
        if self.state.state != "stopping":
            await self.journal.write(e.StateChanged("stopping", self.stopping))

    async def _baseline(self) -> None:
        if BASELINE not in self.state.experiments:
            await self.journal.write(
                e.ExperimentStarted(
                    experiment=BASELINE, parent=BASELINE, parent_commit=self.setup.commit, researcher="baseline"
                )
            )
        await self._adopt(BASELINE)
        missing = self.settings.program.baseline_runs - len(self._values())
        runs = [asyncio.create_task(self._baseline_run()) for _ in range(missing)]
        try:
            for run in asyncio.as_completed(runs):
                finished = await run
                if finished.metric is None and not self.stopping:
                    tail = "".join(f"\n{line}" for line in finished.log_tail.splitlines()[-TAIL_LINES:])
                    said = f"the baseline gave no number, so there is nothing to compare with: {finished.reason}{tail}"
                    self.end("crashed", said)
                if finished.metric is None:
                    return
        except asyncio.CancelledError:
            for task in runs:
                task.cancel()
            raise
        finally:
            await asyncio.gather(*runs, return_exceptions=True)
        values = self._values()
        own, noise = estimate([values]), estimate([values], self.state.prior)
        await self.journal.write(
            e.Calibrated(mean(values), own.sigma, tuple(values)),
            e.NoiseEstimated(sigma=noise.sigma, low=noise.low, high=noise.high, df=noise.df),
        )
        await self.runs.score_hidden(BASELINE)

    async def _baseline_run(self) -> e.RunFinished:
        """One run of the unchanged code; one that was cut off through no fault of the code's is run again."""
        for _ in range(BASELINE_TRIES):
            finished = await self.runs.execute(BASELINE, "baseline", self.setup.commit, Urgency.BASELINE)
            if finished.ended != "abandoned" or self.stopping:
                break
        return finished

    def _values(self) -> list[float]:
        runs = self.state.experiments[BASELINE].runs
        return [r.metric for r in runs if r.ended == "done" and r.metric is not None]

    async def _adopt(self, number: int) -> None:
        """Take over the runs of `number` that an earlier engine left in flight."""
        left = [r for r in self.state.experiments[number].runs if r.phase is not None and r.run not in self.runs.live]
        await asyncio.gather(*(self.runs.adopt(r.run, number, r.slot, r.seed) for r in left))

    async def _experiment(self, number: int) -> None:
        """Carry one committed experiment to its verdict: checks, approval, run, judgement, again if the best moved."""
        await self._adopt(number)
        if not await self._ready(number):
            return
        while not self.stopping:
            x = self.state.experiments[number]
            if not x.has_result:
                urgency = Urgency.REPEAT if x.rebased or x.values else Urgency.CANDIDATE
                await self.runs.execute(number, "repeat" if x.values else "candidate", x.commit or "", urgency)
                if not self.state.experiments[number].has_result:
                    continue
            then = await self.judge.judge(number, skipped=number in self.skipped)
            if then in ("done", "mend"):
                self.clean(number)
                self._refresh_leader()
                return
            if then == "leader":
                return await self._lead(number)
            if then in ("candidate", "both"):
                await self._repeat(number, beside=then == "both")
        self.wake()

    async def _repeat(self, number: int, *, beside: bool = False) -> None:
        """Another run with a fresh seed; `beside`: the incumbent runs too, as the machine is now."""
        state = self.state
        runs = [self.runs.execute(number, "repeat", state.experiments[number].commit or "", Urgency.REPEAT)]
        if beside and state.best != number:
            runs.append(self.runs.execute(state.best, "repeat", state.best_commit or "", Urgency.REPEAT))
        await asyncio.gather(*runs)

    def _refresh_leader(self) -> None:
        best = self.state.best
        if best not in self._tasks and not self.stopping and self.judge.wants_repeat(best):
            self._carry(best, self._lead(best))

    async def _lead(self, number: int) -> None:
        """What a kept experiment still needs: a look at the hidden slice, and repeats for an honest number."""
        await self._adopt(number)
        if self.state.experiments[number].hidden is None:
            await self.runs.score_hidden(number)
        while self.judge.wants_repeat(number) and not self.stopping:
            await self._repeat(number)

    async def _ready(self, number: int) -> bool:
        """Whether the checks and, where one is asked, a person let the experiment run as it is now."""
        while True:
            commit = self.state.experiments[number].commit
            if not await self._checked(number) or not await self._approved(number):
                return False
            if self.state.experiments[number].commit == commit:
                return True  # else a person approved it with other edits, which are checked too

    def _said_of(self, number: int) -> list[e.Body]:
        """What the log says of the experiment's present proposal."""
        bodies = [event.body for event in self.journal.log.events_of(number)]
        proposed = max((i for i, body in enumerate(bodies) if isinstance(body, e.Committed)), default=-1)
        return bodies[proposed + 1 :]

    async def _checked(self, number: int) -> bool:
        x = self.state.experiments[number]
        if x.rebased or any(r.commit == x.commit for r in x.runs):
            return True
        done = {body.name for body in self._said_of(number) if isinstance(body, e.Checked) and body.ok}
        for name, command in self.settings.program.checks.items():
            if name in done:
                continue
            checked = await self.runs.place.check(number, name, command, x.commit or "")
            await self.journal.write(checked)
            if not checked.ok:
                reason = f"the check {name!r} failed: {checked.output.strip() or 'no output'}"
                await self.judge.failed(x, False, reason)
                return False
        if not self.settings.program.checks and not done:
            await self.journal.write(e.Checked(experiment=number, name="parse", ok=True, seconds=0.0))
        return True

    async def _approved(self, number: int) -> bool:
        x = self.state.experiments[number]
        if x.rebased or x.researcher == HUMAN or any(r.commit == x.commit for r in x.runs):
            return True
        if number not in self.state.approvals:
            if not self.state.approve or any(isinstance(b, e.ApprovalGiven) for b in self._said_of(number)):
                return True
            await self.journal.write(e.ApprovalRequested(number))
            self.wake()  # it waits for a person: another may be thought about for the other slots
        while number in self.state.approvals:
            await self.journal.changed()
        return self.state.experiments[number].verdict is None

    def clean(self, number: int) -> None:
        """Weights are kept for kept experiments only; logs and curves stay."""
        x = self.state.experiments[number]
        for run in x.runs:
            if x.verdict != "kept":
                with contextlib.suppress(OSError):
                    remove_tree(self.setup.paths.run(run.run) / "out")

    def dollar_watch(self, next_usd: float = 0.0) -> None:
        """When the dollars do not allow another answer (a model may talk for ever), the thought ends in its middle.

        `next_usd`: what that answer may cost.
        """
        budget = SessionBudget(usd=self.settings.budget.usd)
        spent = budget.exhausted(seconds=0.0, experiments=0, usd=self.state.usd, next_usd=next_usd, unit="answer")
        if spent and not self.exhausted and self.ahead.busy:
            self.exhausted = spent
            self.ahead.cancel()
            self.wake()

    async def budget_watch(self) -> None:
        """Called each second: when the hours are over, thinking and waiting end, and what runs is still judged."""
        self.dollar_watch()
        hours = self.settings.budget.hours
        if hours is None or self.exhausted or self.state.seconds(now()) < hours * 3600:
            return
        self.exhausted = f"the budget of {hours:g} hours is spent"
        self.ahead.cancel()
        for number in list(self._tasks):
            if number != BASELINE and not self.holds(number):
                await self.abandon(number, "the session's hours were over before it ran")
        self.wake()

    # What commands need

    def refuse_when_ending(self) -> None:
        """Raises CommandRefused when it is too late to ask for anything."""
        if self.stopping:
            raise CommandRefused("the session is stopping")

    def backlog(self) -> int:
        """Experiments with a commit that wait for a slot, and for nobody else."""
        holding = {live.experiment for live in self.runs.live.values()} | self.judge.busy | set(self.state.approvals)
        return sum(n not in holding for n in self._tasks if n != BASELINE)

    def holds(self, number: int) -> bool:
        """Whether the experiment is in a slot, or being judged."""
        return number in self.judge.busy or any(live.experiment == number for live in self.runs.live.values())

    async def abandon(self, number: int, reason: str, verdict: e.Verdict = "abandoned") -> None:
        """End an experiment that holds no slot."""
        task = self._tasks.get(number)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(task, return_exceptions=True)
        if number in self.state.live:
            await self.judge.settle(number, verdict, reason)
