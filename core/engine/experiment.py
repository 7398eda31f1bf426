"""Path of one experiment to its verdict: checks, approval, runs, judgement, repeats; and the baseline's."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict, dataclass, field

from core.engine.ending import Ending
from core.engine.lifecycle import Lifecycle
from core.engine.proposing.reapplication import Reapplication
from core.engine.runs.run import Runs, side_by_side
from core.engine.runs.slots import Urgency
from core.engine.startup.setup import EnginePart, timed_words
from core.engine.verdict import Judge
from core.lab.shim.rmtree import remove_tree
from core.program.timed_metric import timed_unit
from core.record import events as e
from core.record.metric import format_metric
from core.record.sample import mean
from core.record.state import BASELINE, HUMAN, NO_BASELINE, who
from core.stats.noise import estimate, in_turn_noise, session_noise
from core.stats.silence import silence_line

MAX_TAIL_LINES = 12  # of a crashed baseline's output in the reason
SMOKE = "smoke"  # the check that is a short start of a run
MAX_BASELINE_TRIES = 3  # of one baseline run


@dataclass(eq=False)
class Experiments(EnginePart):
    """Takes experiments to their verdicts. Each step reads from the State where the experiment is."""

    lifecycle: Lifecycle
    runs: Runs
    judge: Judge
    reapplication: Reapplication
    _checking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)  # several would disturb what runs
    _skipped: set[int] = field(default_factory=set, init=False)

    def skip(self, number: int) -> None:
        """The verdict on `number` will be skipped, whatever its run gives."""
        self._skipped.add(number)

    # --- the baseline ---

    async def run_baseline(self) -> None:
        """Run the unchanged code until its metric and noise are known. Ends the session when it gives no number."""
        if BASELINE not in self.state.experiments:
            await self.journal.write(
                e.ExperimentStarted(
                    experiment=BASELINE, parent=BASELINE, parent_commit=self.setup.commit, researcher="baseline"
                )
            )
        await self._adopt(BASELINE)
        begun = any(r.ended == "done" for r in self.state.experiments[BASELINE].runs)
        if self.state.timed and not begun and not self._gave_number(await self._baseline_run("warmup")):
            return
        missing = self.program.baseline_runs - len(self._baseline_values())
        runs = [asyncio.create_task(self._baseline_run()) for _ in range(missing)]
        try:
            for run in asyncio.as_completed(runs):
                if not self._gave_number(await run):
                    return
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is not None and not this.cancelling():
                return  # a run that waited for a slot when the session began to stop; those that run go on to their end
            for task in runs:
                task.cancel()
            raise
        finally:
            await asyncio.gather(*runs, return_exceptions=True)
        values = self._baseline_values()
        known = self.state.timed
        seen = not known and any(timed_unit(r.printed) for r in self.state.experiments[BASELINE].runs)
        prior = self.state.prior
        noise = in_turn_noise(values, [], mean(values), prior) if known or seen else session_noise(values, prior=prior)
        await self.journal.write(
            e.Calibrated(metric=mean(values), sigma=estimate([values]).sigma, values=tuple(values), timed=seen),
            e.NoiseEstimated(**asdict(noise)),
        )
        if seen:
            printed = next(r.printed for r in self.state.experiments[BASELINE].runs if r.printed)
            how = timed_words(self.settings.slots).replace("a warm-up run first, then ", "from now on ")
            text = f"{self.state.metric.name} is a time or a speed, for it is printed as {printed}: {how}"
            await self.journal.write(e.Noted("warning", text, BASELINE))
        if said := silence_line(self.state):
            await self.journal.write(e.Noted("warning", said, BASELINE))
        await self.runs.score_hidden(BASELINE)

    def _gave_number(self, finished: e.RunFinished) -> bool:
        """Whether a run of the unchanged code gave a number; without one the session ends."""
        if finished.metric is None and not self.lifecycle.stopping:
            output = "\n".join([finished.reason, *finished.log_tail.splitlines()[-MAX_TAIL_LINES:]])
            reason = f"{NO_BASELINE}: {output}"
            self.lifecycle.end(Ending("crashed", reason))
        return finished.metric is not None

    async def _baseline_run(self, kind: e.RunKind = "baseline") -> e.RunFinished:
        """One run of the unchanged code, started again when it was cut off for a reason outside the code."""
        for _ in range(MAX_BASELINE_TRIES):
            finished = await self.runs.execute(BASELINE, kind, self.setup.commit, Urgency.BASELINE)
            if finished.ended != "abandoned" or self.lifecycle.stopping:
                break
        return finished

    def _baseline_values(self) -> list[float]:
        runs = self.state.experiments[BASELINE].runs
        return [r.metric for r in runs if r.kind == "baseline" and r.ended == "done" and r.metric is not None]

    # --- an experiment ---

    async def run_to_verdict(self, number: int) -> bool:
        """Check, approve, run and judge a committed experiment; again when the best has changed meanwhile.

        Returns whether it was judged and is not the best.
        """
        await self._adopt(number)
        if not await self._ready(number):
            return False
        while self.state.timed and self.state.baseline is None:
            await self.journal.changed()  # there is nothing to run beside yet, and it would warm up or cool the machine
        while not self.lifecycle.stopping:
            x = self.state.experiments[number]
            if not x.has_result:
                urgency = Urgency.CANDIDATE if number in self.state.queue else Urgency.REPEAT
                await self.runs.execute(number, "repeat" if x.values else "candidate", x.commit or "", urgency)
                if not self.state.experiments[number].has_result and number not in self._skipped:
                    continue
                self.lifecycle.wake()  # the task may wait for a baseline now, and a stopping session for nothing more
            then = await self.judge.judge(number, skipped=number in self._skipped)
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
        if self.state.experiments[number].hidden is None:
            await self.runs.score_hidden(number)
        while self.judge.wants_repeat(number) and not self.lifecycle.stopping:
            await self._repeat(number)
            await self.judge.look_again()

    async def run_again(self, number: int) -> None:
        """One more run of a judged experiment with a fresh seed, pooled with the earlier ones."""
        commit = self.state.experiments[number].commit or self.setup.commit
        run = await self.runs.execute(number, "repeat", commit, Urgency.REPEAT)
        if number != BASELINE:
            self._remove_weights(number)
        x = self.state.experiments[number]
        facts: list[e.Body] = []
        if run.metric is not None:
            pooled = f"{format_metric(x.metric)} over {len(x.values)} runs"
            facts.append(e.Noted("info", f"{who(number)} repeated: {format_metric(run.metric)}, {pooled}", number))
        await self.journal.write(*facts, *self.judge.new_noise())
        await self.judge.look_again()

    async def _adopt(self, number: int) -> None:
        """Take over the runs of `number` that an earlier engine left in flight."""
        left = [r for r in self.state.experiments[number].runs if r.phase is not None and r.run not in self.runs.live]
        await asyncio.gather(*(self.runs.adopt(r.run, number, r.slot, r.seed) for r in left))

    async def _repeat(self, number: int, *, with_best: bool = False) -> None:
        """Another run with a fresh seed; `with_best`: the best runs too, under the machine's present conditions."""
        state = self.state
        runs = [self.runs.execute(number, "repeat", state.experiments[number].commit or "", Urgency.REPEAT)]
        if with_best and state.best != number:
            runs.append(self.runs.execute(state.best, "repeat", state.best_commit or "", Urgency.REPEAT))
        await side_by_side(*runs)

    def _remove_weights(self, number: int) -> None:
        """Keep the weights of kept experiments only; logs and curves stay."""
        x = self.state.experiments[number]
        for run in x.runs if x.verdict != "kept" else ():
            with contextlib.suppress(OSError):
                remove_tree(self.paths.run(run.run) / "out")

    # --- before its first run ---

    async def _ready(self, number: int) -> bool:
        """Whether the experiment, on the present parent, passes the checks and, in approval mode, a person lets it run.

        Checked again is what a person approved with other edits, and what was re-applied on another parent.
        """
        while True:
            parent = self.state.parent
            if not await self.reapplication.bring_up(number):
                return False
            commit = self.state.experiments[number].commit
            if not await self._checked(number) or not await self._approved(number):
                return False
            if self.state.experiments[number].commit == commit and self.state.parent == parent:
                return True

    def _events_since(self, number: int, *kinds: type[e.Body]) -> list[e.Body]:
        """Events of the experiment since the last one of these kinds."""
        bodies = [event.body for event in self.journal.log.events_of(number)]
        last = max((i for i, body in enumerate(bodies) if isinstance(body, kinds)), default=-1)
        return bodies[last + 1 :]

    async def _checked(self, number: int) -> bool:
        x, checks = self.state.experiments[number], dict(self.program.checks)
        if self.runs.ahead.covers_smoke():
            checks.pop(SMOKE, None)
        if number not in self.state.queue or any(r.commit == x.commit for r in x.runs):
            return True
        events = self._events_since(number, e.Committed, e.Rebased)
        passed = {b.name for b in events if isinstance(b, e.Checked) and b.ok}
        for name, command in checks.items():
            if name in passed:
                continue
            async with self._checking:
                checked = await self._check(number, name, command)
            await self.journal.write(checked)
            if not checked.ok:
                reason = f"the check {name!r} failed: {checked.output.strip() or 'no output'}"
                await self.judge.failed(x, False, reason)
                return False
        if not checks and not passed:
            await self.journal.write(e.Checked(experiment=number, name="parse", ok=True, seconds=0.0))
        return True

    async def _check(self, number: int, name: str, command: str) -> e.Checked:
        """The result of one check; again after a person has put the sandbox right where that was the cause."""
        commit = self.state.experiments[number].commit or ""
        while True:
            checked = await self.runs.place.check(number, name, command, commit)
            if checked.ok or not await self.runs.place.broken_sandbox():
                return checked
            while self.state.state != "running":
                await self.journal.changed()

    async def _approved(self, number: int) -> bool:
        x = self.state.experiments[number]
        if number not in self.state.queue or x.researcher == HUMAN or any(r.commit == x.commit for r in x.runs):
            return True
        if number not in self.state.approvals:
            given = any(isinstance(body, e.ApprovalGiven) for body in self._events_since(number, e.Committed))
            if given or not self.state.approve:
                return True
            await self.journal.write(e.ApprovalRequested(number))
        while number in self.state.approvals:
            await self.journal.changed()
        return self.state.experiments[number].verdict is None
