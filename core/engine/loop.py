"""The loop: think, check, run, score, decide, keep or revert; for as long as the budget lasts.

One task thinks ahead while the slots are busy; each experiment that has a commit is carried to its verdict by a task
of its own; the baseline is carried the same way. Everything a task knows it reads from the journal's State, so that a
task started by a new engine goes on where the log says the old one was.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Coroutine
from typing import Any

from core.engine.journal import Journal
from core.engine.judging import Judge
from core.engine.runs import Runs
from core.engine.setup import Setup
from core.engine.slots import Slots, Urgency
from core.engine.thinking import Thinker
from core.lab import environment, prepare
from core.record import events as e
from core.record.decide import calibrate
from core.record.errors import EditError, ProposalFailed, ResearcherMisconfigured, ScriptEnded
from core.record.state import BASELINE, Experiment, State

TAIL_LINES = 12  # of a crashed baseline's output in the reason
WIND_UP_SECONDS = 30.0  # for killed jobs to be gone


class Loop:
    """One session's loop under one engine. `run` returns the state the session ends in and why."""

    def __init__(self, setup: Setup, journal: Journal) -> None:
        self.setup = setup
        self.journal = journal
        self.slots = Slots(setup.slots)
        self.runs = Runs(setup, journal, self.slots)
        self.thinker = Thinker(setup, journal)
        self.judge = Judge(setup, journal)
        self.thinking: asyncio.Task[None] | None = None
        self.rethink = False  # the thinking was cancelled to be begun again with new guidance
        self.skipped: set[int] = set()
        self.stopping = ""
        self.proposed = 0  # by this engine
        self.exhausted = ""  # why no more experiments begin
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._end: asyncio.Future[tuple[e.SessionState, str]] = asyncio.get_running_loop().create_future()
        self._awake = asyncio.Event()

    @property
    def state(self) -> State:
        return self.journal.state

    async def run(self) -> tuple[e.SessionState, str]:
        """Prepare, recover what an earlier engine left, and go on until something ends the session."""
        if not await self._prepare():
            return self._end.result()
        await self.journal.write(e.StateChanged("running"))
        self.slots.open()
        self._carry_on()
        thinker = self._watch(self._think_on())
        try:
            return await asyncio.shield(self._end)
        finally:
            await self._wind_up(thinker)

    async def _wind_up(self, thinker: asyncio.Task[None]) -> None:
        """Leave nothing running: jobs are killed and logged as abandoned, everything that waits is cancelled."""
        self.stopping = self.stopping or "the session ended"
        self.slots.drain()
        thinker.cancel()
        for live in list(self.runs.live.values()):
            live.end("stop")
        tasks = list(self._tasks.items())
        for number, task in tasks:
            if not any(live.experiment == number for live in self.runs.live.values()):
                task.cancel()
        ending = [thinker, *(task for _, task in tasks)]
        await asyncio.wait(ending, timeout=WIND_UP_SECONDS)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def end(self, state: e.SessionState, reason: str) -> None:
        """The session ends like this; only the first word counts."""
        if not self._end.done():
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

    async def _prepare(self) -> bool:
        """The pristine checkout and the project's data. False when the session has already ended meanwhile."""
        setup = self.setup
        await self.journal.write(e.Preparing("checking out the pristine code"))
        top = await asyncio.to_thread(self.runs.checkout, setup.paths.pristine, setup.commit)
        if setup.program.prepare:
            await self.journal.write(e.Preparing(f"preparing data: {setup.program.prepare}"))
            said: list[str] = []
            argv = environment.resolve_command(setup.program.prepare, setup.trusted_environment, top)
            work = asyncio.create_task(prepare.prepare(argv, top, setup.trusted_environment, said.append))
            while not work.done():
                await asyncio.wait({work}, timeout=1.0)
                if said and not work.done():
                    await self.journal.write(e.Preparing(f"preparing data: {said[-1][:200]}"))
                    said.clear()
                if self._end.done():
                    work.cancel()
                    return False
            self.runs.prepared = work.result()
            self.thinker.info = self.runs.prepared.info
        return not self._end.done()

    # The baseline and the experiments that wait in the log

    def _carry_on(self) -> None:
        state = self.state
        if state.baseline is None:
            self._carry(BASELINE, self._baseline())
        for number in state.live:
            if number != BASELINE and state.experiments[number].commit:
                self._carry(number, self._experiment(number))

    def _carry(self, number: int, work: Coroutine[Any, Any, None]) -> None:
        task = self._watch(work)
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._forget(number))

    def _forget(self, number: int) -> None:
        self._tasks.pop(number, None)
        self.wake()

    def wake(self) -> None:
        """Look again at whether to think, and at whether anything is left to do."""
        self._awake.set()
        if self._end.done():
            return
        busy = [n for n in self._tasks if not self._tasks[n].done()]
        if self.stopping and not self.runs.live and not any(self._past_slot(n) for n in busy):
            self.end("stopped", self.stopping)
        elif self.exhausted and not self.stopping and not busy and self.thinking is None:
            self.end("finished", self.exhausted)

    def _past_slot(self, number: int) -> bool:
        return number in self.judge.busy

    async def _baseline(self) -> None:
        if BASELINE not in self.state.experiments:
            await self.journal.write(e.ExperimentStarted(BASELINE, BASELINE, self.setup.commit, "baseline"))
        await self._adopt(BASELINE)
        missing = self.setup.program.baseline_runs - len(self._values())
        runs = [
            asyncio.create_task(self.runs.execute(BASELINE, "baseline", self.setup.commit, Urgency.BASELINE))
            for _ in range(missing)
        ]
        try:
            for run in asyncio.as_completed(runs):
                finished = await run
                if finished.metric is None and not self.stopping:
                    tail = "".join(f"\n{line}" for line in finished.log_tail.splitlines()[-TAIL_LINES:])
                    said = f"the baseline gave no number, so there is nothing to compare with: {finished.reason}{tail}"
                    self.end("crashed", said)
                if finished.metric is None:
                    return
        finally:
            await asyncio.gather(*runs, return_exceptions=True)
        values = self._values()
        mean, sigma = calibrate(values)
        await self.journal.write(e.Calibrated(mean, sigma, tuple(values)))

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
        if not await self._checked(number) or not await self._approved(number):
            return
        while True:
            x = self.state.experiments[number]
            if not _has_result(x):
                if self.stopping:
                    return
                kind: e.RunKind = "candidate"
                await self.runs.execute(
                    number, kind, x.commit or "", Urgency.REPEAT if x.rebased else Urgency.CANDIDATE
                )
                if self.stopping and not _has_result(self.state.experiments[number]):
                    self.wake()
                    return
            if await self.judge.judge(number, skipped=number in self.skipped):
                self._clean(number)
                return

    async def _checked(self, number: int) -> bool:
        x = self.state.experiments[number]
        if x.runs or x.phase in ("approval", "queued"):
            return True
        for name, command in self.setup.program.checks.items():
            checked = await self.runs.check(number, name, command, x.commit or "")
            await self.journal.write(checked)
            if not checked.ok:
                reason = f"the check {name!r} failed: {checked.output.strip() or 'no output'}"
                await self.judge.settle(number, "crashed", reason)
                return False
        if not self.setup.program.checks:
            await self.journal.write(e.Checked(number, "parse", True, 0.0))
        return True

    async def _approved(self, number: int) -> bool:
        x = self.state.experiments[number]
        if not self.setup.program.approve or x.runs:
            return True
        answered = any(isinstance(event.body, e.ApprovalGiven) for event in self.journal.log.events_of(number))
        if not answered and number not in self.state.approvals:
            await self.journal.write(e.ApprovalRequested(number))
        while number in self.state.approvals:
            await self.journal.changed()
        return self.state.experiments[number].verdict is None

    def _clean(self, number: int) -> None:
        """Weights are kept for kept experiments only; logs and curves stay."""
        x = self.state.experiments[number]
        for run in x.runs:
            if x.verdict != "kept":
                shutil.rmtree(self.setup.paths.run(run.run) / "out", ignore_errors=True)

    # Thinking

    async def _think_on(self) -> None:
        failures = 0
        while True:
            await self._may_think()
            number = self._next_number()
            self.exhausted = self.exhausted or self.spent() or self.setup.researcher.ended(self.state, number) or ""
            if self.exhausted:
                self.wake()
                return  # only a new engine brings a new budget
            self.thinking = asyncio.create_task(self._think(number))
            try:
                await asyncio.wait({self.thinking})
                failures = await self._after_thinking(number, self.thinking, failures)
            finally:
                self.thinking.cancel()
                await asyncio.gather(self.thinking, return_exceptions=True)
                self.thinking = None
                self.wake()

    async def _after_thinking(self, number: int, thought: asyncio.Task[None], failures: int) -> int:
        """Deal with how a thought ended. Returns how many in a row have come to nothing."""
        if thought.cancelled():
            await self._thinking_cancelled(number)
            return failures
        error = thought.exception()
        if error is None:
            return 0
        if isinstance(error, ScriptEnded):
            self.exhausted = error.what
            await self.abandon(number, error.what)
        elif isinstance(error, (EditError, ProposalFailed)):
            await self.judge.settle(number, "rejected", error.what)
            await asyncio.sleep(min(60.0, 0.5 * failures**2))
            return failures + 1
        elif isinstance(error, ResearcherMisconfigured):
            await self._misconfigured(error)
        else:
            raise error
        return failures

    async def _think(self, number: int) -> None:
        await self.thinker.propose(number)
        self.proposed += 1
        self._carry(number, self._experiment(number))

    def _next_number(self) -> int:
        """The experiment that was being thought about when an engine ended, or a new one."""
        unproposed = [n for n in self.state.live if n != BASELINE and not self.state.experiments[n].commit]
        return unproposed[0] if unproposed else max(1, self.state.next_experiment)

    async def _may_think(self) -> None:
        """Wait until the session runs and fewer than one proposal waits for a slot."""
        while self.state.state != "running" or self._backlog() >= 1 or self.stopping:
            self._awake.clear()
            changed = asyncio.create_task(self.journal.changed())
            awake = asyncio.create_task(self._awake.wait())
            try:
                await asyncio.wait({changed, awake}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
                awake.cancel()

    def _backlog(self) -> int:
        """Experiments with a commit that hold no slot and are not being judged."""
        holding = {live.experiment for live in self.runs.live.values()} | self.judge.busy
        return sum(n not in holding for n in self._tasks if n != BASELINE)

    async def _thinking_cancelled(self, number: int) -> None:
        if self.rethink:
            self.rethink = False
        elif number in self.skipped:
            await self.judge.settle(number, "skipped", "skipped while it was being thought about")

    async def _misconfigured(self, error: ResearcherMisconfigured) -> None:
        """Nobody but a person can mend this. Before anything was ever proposed it ends the engine, else it pauses."""
        reason = f"{error.what}. {error.mend}".strip(" .")
        if not self.proposed:
            self.end("crashed", f"the researcher {self.setup.researcher.name} cannot work: {reason}")
            await asyncio.sleep(3600)
        self.slots.close()
        await self.journal.write(e.StateChanged("paused", reason))

    # Budgets

    def spent(self) -> str | None:
        """Why no further experiment may begin, or None."""
        state = self.state
        begun = state.total - sum(n != BASELINE and not state.experiments[n].commit for n in state.live)
        return self.setup.program.budget.exhausted(seconds=state.seconds(time.time()), experiments=begun, usd=state.usd)

    async def budget_watch(self) -> None:
        """Called each second: when the hours are over, thinking and waiting end, and what runs is still judged."""
        hours = self.setup.program.budget.hours
        if hours is None or self.exhausted or self.state.seconds(time.time()) < hours * 3600:
            return
        self.exhausted = f"the budget of {hours:g} hours is spent"
        self.cancel_thinking()
        for number in list(self._tasks):
            if number != BASELINE and not self.holds(number):
                await self.abandon(number, "the session's hours were over before it ran")
        self.wake()

    # What commands need

    def holds(self, number: int) -> bool:
        """Whether the experiment is in a slot, or being judged."""
        return number in self.judge.busy or any(live.experiment == number for live in self.runs.live.values())

    def cancel_thinking(self) -> None:
        if self.thinking is not None:
            self.thinking.cancel()

    async def abandon(self, number: int, reason: str, verdict: e.Verdict = "abandoned") -> None:
        """End an experiment that holds no slot."""
        task = self._tasks.get(number)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(task, return_exceptions=True)
        if number in self.state.live:
            await self.judge.settle(number, verdict, reason)


def _has_result(x: Experiment) -> bool:
    """Whether the last run of the experiment's present commit ended with something to judge."""
    runs = [r for r in x.runs if r.commit == x.commit]
    return bool(runs) and runs[-1].phase is None and runs[-1].ended not in (None, "abandoned")
