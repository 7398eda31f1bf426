"""Path of one experiment to its verdict: checks, approval, runs, judgement, repeats; and the baseline's."""

from __future__ import annotations

import asyncio
import contextlib

from core.engine.ending import Ending
from core.engine.journal import Journal
from core.engine.lifecycle import Lifecycle
from core.engine.runs.run import Runs
from core.engine.runs.slots import Urgency
from core.engine.session_settings import SessionSettings
from core.engine.startup.setup import Setup
from core.engine.verdict import Judge
from core.lab.shim.rmtree import remove_tree
from core.record import events as e
from core.record.metric import format_metric
from core.record.sample import mean
from core.record.state import BASELINE, HUMAN, State, who
from core.stats.noise import estimate

MAX_TAIL_LINES = 12  # of a crashed baseline's output in the reason
MAX_BASELINE_TRIES = 3  # of one baseline run


class Experiments:
    """Takes experiments to their verdicts. Each step reads where the experiment is from the State, so that a new
    engine continues where the log of the last one ends.
    """

    def __init__(
        self, setup: Setup, settings: SessionSettings, journal: Journal, lifecycle: Lifecycle, runs: Runs, judge: Judge
    ) -> None:
        self._setup = setup
        self._settings = settings
        self._journal = journal
        self._lifecycle = lifecycle
        self._runs = runs
        self._judge = judge
        self._skipped: set[int] = set()

    @property
    def _state(self) -> State:
        return self._journal.state

    def skip(self, number: int) -> None:
        """The verdict on `number` will be skipped, whatever its run gives."""
        self._skipped.add(number)

    # --- the baseline ---

    async def run_baseline(self) -> None:
        """Run the unchanged code until its metric and noise are known. Ends the session when it gives no number."""
        if BASELINE not in self._state.experiments:
            await self._journal.write(
                e.ExperimentStarted(
                    experiment=BASELINE, parent=BASELINE, parent_commit=self._setup.commit, researcher="baseline"
                )
            )
        await self._adopt(BASELINE)
        missing = self._settings.program.baseline_runs - len(self._baseline_values())
        runs = [asyncio.create_task(self._baseline_run()) for _ in range(missing)]
        try:
            for run in asyncio.as_completed(runs):
                finished = await run
                if finished.metric is None and not self._lifecycle.stopping:
                    output = "\n".join([finished.reason, *finished.log_tail.splitlines()[-MAX_TAIL_LINES:]])
                    reason = f"the baseline gave no number, so there is nothing to compare with: {output}"
                    self._lifecycle.end(Ending("crashed", reason))
                if finished.metric is None:
                    return
        except asyncio.CancelledError:
            for task in runs:
                task.cancel()
            raise
        finally:
            await asyncio.gather(*runs, return_exceptions=True)
        values = self._baseline_values()
        own, noise = estimate([values]), estimate([values], self._state.prior)
        await self._journal.write(
            e.Calibrated(mean(values), own.sigma, tuple(values)),
            e.NoiseEstimated(sigma=noise.sigma, low=noise.low, high=noise.high, df=noise.df),
        )
        await self._runs.score_hidden(BASELINE)

    async def _baseline_run(self) -> e.RunFinished:
        """One run of the unchanged code, started again when it was cut off for a reason outside the code."""
        for _ in range(MAX_BASELINE_TRIES):
            finished = await self._runs.execute(BASELINE, "baseline", self._setup.commit, Urgency.BASELINE)
            if finished.ended != "abandoned" or self._lifecycle.stopping:
                break
        return finished

    def _baseline_values(self) -> list[float]:
        runs = self._state.experiments[BASELINE].runs
        return [r.metric for r in runs if r.ended == "done" and r.metric is not None]

    # --- an experiment ---

    async def run_to_verdict(self, number: int) -> bool:
        """Check, approve, run and judge a committed experiment; again when the best has changed meanwhile.

        Returns whether it was judged and is not the best.
        """
        await self._adopt(number)
        if not await self._ready(number):
            return False
        while not self._lifecycle.stopping:
            x = self._state.experiments[number]
            if not x.has_result:
                urgency = Urgency.REPEAT if x.rebased or x.values else Urgency.CANDIDATE
                await self._runs.execute(number, "repeat" if x.values else "candidate", x.commit or "", urgency)
                if not self._state.experiments[number].has_result:
                    continue
            then = await self._judge.judge(number, skipped=number in self._skipped)
            if then in ("done", "repair"):
                self._remove_weights(number)
                return True
            if then == "kept":
                await self.refresh(number)
                return False
            if then in ("candidate", "both"):
                await self._repeat(number, with_best=then == "both")
        return False

    async def refresh(self, number: int) -> None:
        """What a kept experiment still needs: its score on the hidden slice, and repeats that correct its metric."""
        await self._adopt(number)
        if self._state.experiments[number].hidden is None:
            await self._runs.score_hidden(number)
        while self._judge.wants_repeat(number) and not self._lifecycle.stopping:
            await self._repeat(number)

    async def run_again(self, number: int) -> None:
        """One more run of a judged experiment with a fresh seed, pooled with the earlier ones."""
        commit = self._state.experiments[number].commit or self._setup.commit
        run = await self._runs.execute(number, "repeat", commit, Urgency.REPEAT)
        if number != BASELINE:
            self._remove_weights(number)
        x = self._state.experiments[number]
        facts: list[e.Body] = []
        if run.metric is not None:
            pooled = f"{format_metric(x.metric)} over {len(x.values)} runs"
            facts.append(e.Noted("info", f"{who(number)} repeated: {format_metric(run.metric)}, {pooled}", number))
        await self._journal.write(*facts, *self._judge.new_noise())

    async def _adopt(self, number: int) -> None:
        """Take over the runs of `number` that an earlier engine left in flight."""
        left = [r for r in self._state.experiments[number].runs if r.phase is not None and r.run not in self._runs.live]
        await asyncio.gather(*(self._runs.adopt(r.run, number, r.slot, r.seed) for r in left))

    async def _repeat(self, number: int, *, with_best: bool = False) -> None:
        """Another run with a fresh seed; `with_best`: the best runs too, under the machine's present conditions."""
        state = self._state
        runs = [self._runs.execute(number, "repeat", state.experiments[number].commit or "", Urgency.REPEAT)]
        if with_best and state.best != number:
            runs.append(self._runs.execute(state.best, "repeat", state.best_commit or "", Urgency.REPEAT))
        await asyncio.gather(*runs)

    def _remove_weights(self, number: int) -> None:
        """Keep the weights of kept experiments only; logs and curves stay."""
        x = self._state.experiments[number]
        for run in x.runs if x.verdict != "kept" else ():
            with contextlib.suppress(OSError):
                remove_tree(self._setup.paths.run(run.run) / "out")

    # --- before its first run ---

    async def _ready(self, number: int) -> bool:
        """Whether the checks and, in approval mode, a person let the experiment run as it is now."""
        while True:
            commit = self._state.experiments[number].commit
            if not await self._checked(number) or not await self._approved(number):
                return False
            if self._state.experiments[number].commit == commit:
                return True  # else a person approved it with other edits, which are checked too

    def _events_of_proposal(self, number: int) -> list[e.Body]:
        """Events of the experiment since its present proposal was committed."""
        bodies = [event.body for event in self._journal.log.events_of(number)]
        committed = max((i for i, body in enumerate(bodies) if isinstance(body, e.Committed)), default=-1)
        return bodies[committed + 1 :]

    async def _checked(self, number: int) -> bool:
        x, checks = self._state.experiments[number], self._settings.program.checks
        if x.rebased or any(r.commit == x.commit for r in x.runs):
            return True
        passed = {b.name for b in self._events_of_proposal(number) if isinstance(b, e.Checked) and b.ok}
        for name, command in checks.items():
            if name in passed:
                continue
            checked = await self._runs.place.check(number, name, command, x.commit or "")
            await self._journal.write(checked)
            if not checked.ok:
                reason = f"the check {name!r} failed: {checked.output.strip() or 'no output'}"
                await self._judge.failed(x, False, reason)
                return False
        if not checks and not passed:
            await self._journal.write(e.Checked(experiment=number, name="parse", ok=True, seconds=0.0))
        return True

    async def _approved(self, number: int) -> bool:
        x = self._state.experiments[number]
        if x.rebased or x.researcher == HUMAN or any(r.commit == x.commit for r in x.runs):
            return True
        if number not in self._state.approvals:
            given = any(isinstance(body, e.ApprovalGiven) for body in self._events_of_proposal(number))
            if given or not self._state.approve:
                return True
            await self._journal.write(e.ApprovalRequested(number))
        while number in self._state.approvals:
            await self._journal.changed()
        return self._state.experiments[number].verdict is None
