"""One run in a slot: checkout, start, clock, scoring, and the event that says how it ended."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from core.clock import now
from core.engine.ending import RUN_SKIPPED, RUN_WITHDRAWN, RunEnding
from core.engine.runs.ahead.next_start import NextStarts
from core.engine.runs.card_faults import BEFORE_CLOCK, CardFaults
from core.engine.runs.card_watch import CardWatch
from core.engine.runs.counted.overrun import cut_of, seconds_used
from core.engine.runs.counted.siblings import LEAST_WORK
from core.engine.runs.hints.known import Crash
from core.engine.runs.hints.wrong_torch import torch_is_named
from core.engine.runs.live_run import Live
from core.engine.runs.measuring import Measuring
from core.engine.runs.pruning.pruner import Pruner
from core.engine.runs.run_key import RunKey, make_folder
from core.engine.runs.scoring_beside import ScoringBeside
from core.engine.runs.slots import Slots, Turn, Urgency
from core.engine.runs.telemetry import DeviceSampler, facts
from core.engine.runs.workplace import Workplace, start
from core.engine.startup.setup import EnginePart
from core.git import end_commands
from core.lab import environment, runner, scorer
from core.lab.git.restore import restore_worktree
from core.lab.shim.rmtree import remove_tree
from core.lab.versions import versions_for
from core.record import events as e
from core.record.errors import AutoresearchError, LabError
from core.record.pulse import DeviceReading, SlotReading
from core.record.state import BASELINE, Experiment, Run, State, who
from core.session.disk import read_json
from core.stats.decide import MAX_HIDDEN_GAP

LONG_CHECKOUT_SECONDS = 1.0
FAILED = ("crashed", "overtime", "resources", "startup_timeout")  # ends of a run that its reason explains
MAX_REFERENCE_TRIES = 2
MIN_FREE_BYTES = 64 << 20  # with less, what a run left in its worktree is removed before scoring


@dataclass(eq=False)
class Runs(EnginePart):
    """Executes runs. One call of `execute` is one run in one slot."""

    slots: Slots
    place: Workplace
    cards: CardWatch
    live: dict[int, Live] = field(default_factory=dict, init=False)  # by run
    card_repeats: int = field(default=2, init=False)  # of a run whose card did not work; its code may be what breaks it
    _sampler: DeviceSampler = field(default_factory=DeviceSampler, init=False)

    def __post_init__(self) -> None:
        self._next_run = self.state.next_run
        self._key = RunKey(self.paths.name, self.setup.seed)
        parts = self.setup, self.settings, self.journal, self.slots
        self.faults = CardFaults(*parts, self.cards, self.live, self.card_repeats)
        self.measuring = Measuring(*parts, self.place, self.faults, ScoringBeside(*parts, self.place, self.live))
        self.pruner = Pruner(*parts[:3], self.place, self._key)
        self.ahead = NextStarts(*parts, self.place, self.live)

    def of(self, experiment: int) -> list[Live]:
        """Runs of `experiment` in a slot at present. One that starts up while it waits for its slot is not."""
        return [live for live in self.live.values() if live.experiment == experiment and not live.waits]

    def early(self) -> list[int]:
        """Experiments of which a run starts up, or has, before its slot is its own."""
        return [live.experiment for live in self.live.values() if live.waits]

    async def execute(
        self, experiment: int, kind: e.RunKind, commit: str, urgency: Urgency, *, seed: int | None = None
    ) -> e.RunFinished:
        """Wait for a slot, run (again after a pause cut it off or its card did not work), score, log the end. `seed`
        None: a fresh one.

        Where the metric is a time or a speed, the code that it is compared with runs before it, in the same slot.
        """
        before: Live | None = None
        while True:
            live = await self._execute(experiment, kind, commit, urgency, seed, before)
            if not live.again:
                assert live.finished is not None
                return live.finished
            if (
                live.ending is not None
                and live.ending.kind == "withdrawn"
                and self._has_changed(experiment, kind, commit)
            ):
                assert live.finished is not None
                return live.finished
            if live.measured_again != (before.measured_again if before else (0, 0, 0)):
                seed = live.seed  # a fresh one would let a run that is not counted choose
            before = live

    def _has_changed(self, experiment: int, kind: e.RunKind, commit: str) -> bool:
        """Whether a candidate has another commit by now, which is to be run in place of this one."""
        return kind == "candidate" and self.state.experiments[experiment].commit not in (None, commit)

    async def _execute(
        self, experiment: int, kind: e.RunKind, commit: str, urgency: Urgency, seed: int | None, before: Live | None
    ) -> Live:
        turn = await self.slots.turn(urgency, experiment, early=self.ahead.possible(before))
        reference = self._reference(experiment) if kind in ("candidate", "repeat", "reproduce") else None
        if reference is None:
            return await self._in_slot(turn, experiment, kind, commit, seed, before=before)
        at, number = reference
        text = ""
        try:
            for _ in range(MAX_REFERENCE_TRIES):
                beside = await self._in_slot(
                    turn, experiment, "reference", at, None, counts_as=number, beside=True, before=before
                )
                ended = beside.finished
                assert ended is not None
                if ended.reason == RUN_SKIPPED.reason:
                    return beside
                if beside.again or not self.slots.is_open:
                    beside.again = True
                    return beside
                if ended.metric is not None:
                    break
                text = f"{who(experiment)} is compared as measured: the run beside it gave no number: {ended.reason}"
            else:
                await self.journal.write(e.Noted("warning", text, experiment))
            return await self._in_slot(turn, experiment, kind, commit, seed, beside=True, before=before)
        finally:
            self.slots.give_back(turn)

    def _reference(self, experiment: int) -> tuple[str, float] | None:
        """Commit and number of the code beside which a time or a speed of `experiment` is measured: the best, or the
        baseline for the best itself. None for other metrics.
        """
        state = self.state
        number = BASELINE if experiment == state.best else state.best
        if not state.timed or state.baseline is None or number == experiment:
            return None
        at_best = state.best_commit or self.setup.commit, state.best_metric
        commit, counts_as = (self.setup.commit, state.baseline.metric) if number == BASELINE else at_best
        return None if counts_as is None else (commit, counts_as)

    async def _in_slot(
        self,
        turn: Turn,
        experiment: int,
        kind: e.RunKind,
        commit: str,
        seed: int | None,
        *,
        counts_as: float | None = None,
        beside: bool = False,
        before: Live | None = None,
    ) -> Live:
        """One run in a slot that was acquired, with its end. `beside`: the caller keeps the slot for the next run;
        `before`: the last run for the same purpose, from which no verdict followed.
        """
        run, slot = self._next_run, turn.slot
        self._next_run += 1
        live = self.live[run] = Live(
            run=run, experiment=experiment, slot=slot, worktree=self.paths.worktrees / self._key.name(run),
            owns_slot=not beside, turn=turn, is_reference=kind == "reference",
            cut=before.cut if before else cut_of(self.state.experiments[experiment], commit),
        )  # fmt: skip
        if before is not None:
            live.go_on_from(before)
        cut = 0.0 if live.is_reference else live.cut
        if turn.waits:
            turn.mine.add_done_callback(lambda mine: self._turn_came(live, kind, commit))
        try:
            seed = live.seed = self._key.seed(run) if seed is None else seed
            await self.journal.write(
                e.RunStarted(
                    run=run, experiment=experiment, kind=kind, slot=slot, seed=seed, commit=commit,
                    budget=str(self.program.run_budget(self.setup.kind)), counts_as=counts_as, cut=cut,
                )
            )  # fmt: skip
            if not await self._start(live, commit, seed, cut):
                return live
            await self._see_through(live, seed)
            return live
        except asyncio.CancelledError:
            if live.finished is None and (live.ending is None or live.waits) and run in self.state.running:
                await self._withdraw(live)
            raise
        finally:
            self._end(live)

    async def _start(self, live: Live, commit: str, seed: int, cut: float) -> bool:
        """Lay out the run's worktree and start its process. False when it could not be started, and has ended."""
        run, slot = live.run, live.slot
        live.card_errors = await asyncio.to_thread(self.cards.begin, slot)
        if broken := await self.place.broken_seal():
            await self._finish(live, _never_ran(live, "abandoned", broken))
            return False
        try:
            make_folder(self.paths, run, self._key.name(run))
            await self._checkout(live, commit)
            live.fixed = await asyncio.to_thread(self.place.fixed_files, run)
            self.place.compilers = await asyncio.to_thread(self.versions)
            spec = self.place.spec(run, slot, seed, commit)
            live.cores = spec.cores
            if cut and spec.seconds is not None:
                spec = replace(spec, seconds=spec.seconds - cut)
            if trouble := self.place.cache_trouble:
                text = f"the compile cache is left aside, so this run compiles anew: {trouble}"
                await self.journal.write(e.Noted("warning", text, live.experiment))
            spec = self.ahead.spec(live, spec)
            self.ahead.begun(live)
            live.job = await start(spec)
        except AutoresearchError as error:
            never = _never_ran(live, "crashed", str(error))
            if live.ending is None and (broken := await self.place.broken_sandbox()):
                never, live.again = _never_ran(live, "abandoned", broken), True
            if live.ending is not None:
                never = _cut_off(never, live.ending)
            await self._finish(live, never)
            return False
        if spec.ahead and not live.waits:
            live.job.take_turn()
        if live.ending is not None:
            live.end(live.ending)
        return True

    def _turn_came(self, live: Live, kind: e.RunKind, commit: str) -> None:
        """The slot of a run that started up before is its own now, or its turn was taken back."""
        if live.finished is not None or live.ending is not None or live.run not in self.live:
            return
        if live.waits or self._has_changed(live.experiment, kind, commit):
            live.end(RUN_WITHDRAWN)
        elif live.job is not None:
            live.job.take_turn()

    async def _withdraw(self, live: Live) -> None:
        """End a start whose experiment is not to be run, or not now."""
        if live.job is not None:
            await live.job.kill(f"was {RUN_WITHDRAWN.reason}")
        await self._finish(live, _cut_off(_never_ran(live, "abandoned", ""), RUN_WITHDRAWN))

    def adopt(self, run: int, experiment: int, slot: str, seed: int) -> Coroutine[Any, Any, e.RunFinished | None]:
        """Take over a run that an earlier engine left in flight: it has its slot from this call on, before what waits
        gets one. To be awaited; None when it is gone, or had started up before its turn: it is logged as abandoned.
        """
        job = runner.adopt(self.paths.run(run))
        spec: dict[str, Any] = read_json(self.paths.run(run) / "spec.json")
        logged = next(one for one in self.state.experiments[experiment].runs if one.run == run)
        live = Live(
            run=run, experiment=experiment, slot=slot, worktree=self.paths.worktree(run), job=job, owns_slot=False,
            cut=logged.cut, is_reference=logged.kind == "reference", cores=spec.get("cores"),
            adopted=True,
        )  # fmt: skip
        if job is not None:
            live.go_on_as(logged.phase or "starting")
        before = any(one.slot == slot and one.run < run for one in self.state.live_runs())
        other_tier = spec.get("tier") != self.setup.sandbox.tier
        early = logged.phase in BEFORE_CLOCK and (before or other_tier)
        left = logged.phase == "scoring" and self.place.overlaps  # the next run may have the slot
        if job is not None:
            live.owns_slot = not (early or left) and self.slots.take(slot)
            self.live[run] = live
        return self._adopted(live, seed, early=early)

    async def _adopted(self, live: Live, seed: int, *, early: bool) -> e.RunFinished | None:
        if live.job is None:
            await self._finish(live, _never_ran(live, "abandoned", "left unfinished when the engine ended"))
            return None
        try:
            if early:
                await self._withdraw(live)
                return None
            live.fixed = await asyncio.to_thread(self.place.fixed_files, live.run, resumed=True)
            return await self._see_through(live, seed)
        finally:
            self._end(live)

    def _end(self, live: Live) -> None:
        self.live.pop(live.run, None)
        live.leave_slot(self.slots)
        if live.fixed is not None:
            live.fixed.close()
        live.leave_clock(self.slots)

    async def _take_clock(self, live: Live) -> None:
        """Wait until no other run of the slot is measured or scored, then give the run its data."""
        lock = self.slots.clocks.get(live.slot)
        if lock is None or live.owns_clock or live.job is None:
            return
        self.ahead.ready(live)
        live.clock = asyncio.create_task(_turn_and_clock(live.turn, lock))
        try:
            live.owns_clock = await live.clock
        except asyncio.CancelledError:
            if not live.clock.cancelled():
                raise
            return  # the run ended before its turn came
        if live.owns_clock:
            live.job.release()

    async def _see_through(self, live: Live, seed: int) -> e.RunFinished:
        """Wait for the end of the run's process, score it, and log the result."""
        job = live.job
        assert job is not None
        phases: asyncio.Queue[str | None] = asyncio.Queue()
        writer = asyncio.create_task(self._log_phases(live, phases))
        readings: list[DeviceReading] = []
        watching = asyncio.create_task(self._sampler.follow(live.slot, readings, lambda: live.phase == "training"))
        pruning = asyncio.create_task(self.pruner.follow(live))
        try:
            result = await job.wait(phases.put_nowait)
            live.ended_at = now()
            changed = await asyncio.to_thread(live.fixed.changed) if live.fixed is not None else ()
            await asyncio.to_thread(self.make_room, live.run, result.ended == "done")
        finally:
            watching.cancel()
            pruning.cancel()
            if live.clock is not None and not live.clock.done():
                live.clock.cancel()
            phases.put_nowait(None)
            await writer
        if live.ending is not None and live.ending.kind == "pruned" and result.ended != "killed":
            live.ending, live.audit = None, True  # it had ended by itself: its number counts
        finished = replace(self._as_event(live, result), changed=changed, stopped_at=live.stopped_at, audit=live.audit)
        await self.ahead.ended(live, result, readings)
        if live.ending is None and result.exit_code and (broken := await self.place.broken_sandbox()):
            finished, live.again = replace(finished, ended="abandoned", reason=broken), True
        elif result.ahead and live.ending is None:
            finished = self.ahead.judged(live, finished)
        else:
            finished = await self.faults.blame(live, finished, readings)
        if self.place.overlaps:
            live.leave_slot(self.slots)
        finished = replace(finished, device=await asyncio.to_thread(self._facts, live.slot, readings))
        if live.ending is None:
            if self.program.score is None:
                finished = await self.measuring.refuse_changed(live, await self.measuring.read_metric(live, finished))
                finished = await self.measuring.compared(live, finished)
            elif finished.ended == "done":
                finished = await self.measuring.compared(live, finished)
                if not live.again:
                    finished = await self.measuring.measure(live, seed, finished)
            finished = await self.measuring.at_budget(live, finished)
            finished = await self.measuring.few_names(live, finished)
            if finished.metric is not None:
                self.cards.forgive(live.slot)
            if finished.metric is not None and (broken := await self.place.broken_seal()):
                finished = replace(finished, ended="abandoned", metric=None, reason=broken)
        if live.ending is not None:
            finished = _cut_off(finished, live.ending)
        return await self._finish(live, finished)

    async def _checkout(self, live: Live, commit: str) -> None:
        """Lay out the worktree. A checkout that takes long is a phase of the run. Raises LabError."""
        work = asyncio.create_task(asyncio.to_thread(self.place.checkout, live.worktree, commit))
        work.add_done_callback(lambda done: done.cancelled() or done.exception())  # after a cancellation nobody waits
        try:
            await asyncio.wait({work}, timeout=LONG_CHECKOUT_SECONDS)
            if not work.done():
                await live.enter("checkout", self.journal)
            await work
        except asyncio.CancelledError:
            end_commands(live.worktree)
            work.cancel()
            raise
        if live.phase == "checkout":
            await live.enter("starting", self.journal)

    def make_room(self, run: int, scored: bool) -> None:
        """Free disk space before the end is logged: a run may have filled the disk."""
        paths = self.paths
        with suppress(OSError, LabError):
            if not scored:
                self.repo.remove_worktree(paths.worktree(run))
                remove_tree(paths.run(run) / "out")
            elif shutil.disk_usage(paths.folder).free < MIN_FREE_BYTES:
                restore_worktree(paths.worktree(run))

    async def _finish(self, live: Live, finished: e.RunFinished) -> e.RunFinished:
        hinted = "\n  hint: " in finished.reason and not torch_is_named(finished.reason)
        explained = hinted or (finished.exit_code == 0 and live.phase != "scoring")
        if finished.ended in FAILED and finished.metric is None and not explained:
            finished = await asyncio.to_thread(self._with_hint, live, finished)
        live.finished = finished
        if live.ending is not None and live.ending.kind in ("paused", "withdrawn") and finished.ended == "abandoned":
            live.again = True
        believed = self.pruner.believed
        await self.journal.write(finished)
        if believed != self.pruner.believed:
            await self.journal.write(self.pruner.doubt())
        if live.experiment == BASELINE and self.state.baseline is None and finished.ended in (*FAILED, "rejected"):
            self.slots.close()  # there is nothing to compare with: the session ends, and no other run begins
        await asyncio.to_thread(self.repo.remove_worktree, self.paths.worktree(live.run))
        return finished

    def _with_hint(self, live: Live, finished: e.RunFinished) -> e.RunFinished:
        """`finished` with what is known here about its reason, as every place shows it."""
        folder, scoring = self.paths.run(live.run), live.phase == "scoring"
        output = finished.reason if scoring else runner.output_end(folder / "output.log", finished.log_tail)
        commit = next(run.commit for run in self.state.experiments[live.experiment].runs if run.run == live.run)
        crash = Crash(reason=finished.reason.partition("\n")[0], output=output)
        hint = self.place.hint(crash, "score" if scoring else "run", folder, self.paths.worktree(live.run), commit)
        said = finished.reason.partition("\n  hint: ")[0]
        return replace(finished, reason=f"{said}\n  hint: {hint}") if hint else finished

    async def _log_phases(self, live: Live, phases: asyncio.Queue[str | None]) -> None:
        logged = {"starting", "ready", live.phase}
        while (phase := await phases.get()) is not None:
            if phase != live.phase:
                live.phase, live.phase_since = phase, now()
            if phase in ("ready", "training"):
                await self._take_clock(live)
            if phase not in logged:
                logged.add(phase)
                known: Any = phase
                await self.journal.write(e.RunPhaseChanged(live.run, live.experiment, known))

    def _facts(self, slot: str, readings: list[DeviceReading]) -> dict[str, Any]:
        """Conditions of the result besides its code: seal, readings of the device, driver, libraries."""
        if not readings:
            readings.append(self._sampler.read(slot))
        return {"sealed": self.place.seal_digest[:16], **facts(readings), "versions": self.versions()}

    def versions(self) -> dict[str, str]:
        """Versions of the training command's Python and libraries and of the driver. Slow at the first call."""
        setup = self.setup
        try:
            python = environment.python_of(self.program.run, setup.environment, setup.project)
        except AutoresearchError:
            return {}
        return versions_for(python, setup.environment)

    def _as_event(self, live: Live, result: runner.RunResult) -> e.RunFinished:
        ended_at = min(now(), result.ended_at) if live.adopted else live.ended_at
        before = self.slots.ended.get(live.slot)
        if result.clock_started is not None:
            self.slots.ended[live.slot] = result.ended_at
        gap = result.clock_started - before if before and result.clock_started else None
        used = seconds_used(result.seconds, result.cpu_seconds, live.cores)
        compared = live.experiment != BASELINE or result.wanted * result.seconds >= LEAST_WORK
        return e.RunFinished(
            run=live.run, experiment=live.experiment, ended=result.ended, metric=None, seconds=round(result.seconds,
            3), wall_seconds=round(result.wall_seconds, 3),
            exit_code=result.exit_code, steps=result.steps, tokens=result.tokens, reason=result.reason,
            log_tail=result.log_tail, peak_memory=result.peak_memory, gap=None if gap is None else round(gap, 3),
            share=result.share if compared else None, used=round(used, 3), ended_at=round(ended_at, 3),
            on_clock=None if result.on_clock is None else round(result.on_clock, 3), before_clock=result.before_clock,
            new_names=result.new_names,
        )  # fmt: skip

    async def score_hidden(self, experiment: int) -> None:
        """Score a finished run of `experiment` on the hidden slice, and log how its gain there compares."""
        program, state = self.program, self.state
        x = state.experiments[experiment]
        run = next((r for r in x.runs if r.commit == x.commit and r.metric is not None), None)
        if program.score_hidden is None or run is None or not (self.paths.run(run.run) / "out").is_dir():
            return
        slot, began = await self.slots.acquire(Urgency.REPEAT), now()
        worktree = self.paths.worktree(run.run)
        try:
            async with self.slots.clocks[slot]:
                await asyncio.to_thread(self.place.checkout, worktree, run.commit)
                score = await self.place.score(program.score_hidden, run.run, slot, run.seed, "score_hidden.log")
        except AutoresearchError as error:
            await self.journal.write(e.Noted("warning", f"the hidden slice was not scored: {error.what}", experiment))
            return
        finally:
            await asyncio.to_thread(self.repo.remove_worktree, worktree)
            self.slots.release(slot)
        found = _hidden_scored(state, x, run, score)
        await self.journal.write(replace(found, slot=slot, seconds=round(now() - began, 3)))

    def readings(self) -> tuple[SlotReading, ...]:
        """Present activity of each slot."""
        by_slot = {live.slot: live for live in sorted(self.live.values(), key=lambda live: not live.waits)}
        names = dict.fromkeys((*self.slots.names, *by_slot))  # a removed slot is shown until its run has ended
        return tuple(_reading(name, by_slot.get(name)) for name in names)


async def side_by_side(*runs: Coroutine[Any, Any, e.RunFinished]) -> list[e.RunFinished]:
    """Wait for the end of several runs. Where a stop cancels one that waits for a slot, CancelledError is raised once
    the others have ended: the end of their task is what a stopping session waits for.
    """
    ends = await asyncio.gather(*runs, return_exceptions=True)
    finished = [end for end in ends if not isinstance(end, BaseException)]
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return finished


def _reading(slot: str, live: Live | None) -> SlotReading:
    if live is None:
        return SlotReading(slot=slot)
    phase, seconds = live.phase, now() - live.phase_since
    part = live.job.fraction if live.job is not None and phase == "training" else None
    x, run = live.experiment, live.run
    return SlotReading(slot=slot, experiment=x, run=run, phase=phase, fraction=part, seconds=seconds)


def _hidden_scored(state: State, x: Experiment, run: Run, score: scorer.Score) -> e.HiddenScored:
    """Gain on the hidden slice against the gain on the visible one, both relative to the baseline."""
    if score.metric is None or run.metric is None:
        warning = f"rejected on the hidden slice: {score.rejected}"
        return e.HiddenScored(experiment=x.number, metric=None, gap=math.inf, warning=warning)
    base = state.experiments[BASELINE]
    of_base = next((r.metric for r in base.runs if r.metric is not None), None)
    sigma = state.sigma
    if x.number == BASELINE or base.hidden is None or of_base is None or not sigma:
        return e.HiddenScored(experiment=x.number, metric=score.metric, gap=None)
    gap = (state.metric.gain(of_base, run.metric) - state.metric.gain(base.hidden, score.metric)) / sigma
    words = f"#{x.number} gains {gap:.1f}σ less on the hidden slice than on the visible one"
    warning = words if gap > MAX_HIDDEN_GAP else ""
    return e.HiddenScored(experiment=x.number, metric=score.metric, gap=gap, warning=warning)


def _never_ran(live: Live, ended: e.Ended, reason: str) -> e.RunFinished:
    return e.RunFinished(
        run=live.run, experiment=live.experiment, ended=ended, metric=None, seconds=0, wall_seconds=0, reason=reason
    )


def _cut_off(finished: e.RunFinished, ending: RunEnding) -> e.RunFinished:
    """`finished`, a run that the engine itself has ended."""
    if ending == RUN_SKIPPED:
        return replace(finished, ended="killed", metric=None, reason=RUN_SKIPPED.reason, stopped_at=None, audit=False)
    if ending.kind == "pruned":
        left = 1 / (finished.stopped_at or 1.0) - 1
        saved = round(left * finished.training_seconds, 3)
        return replace(finished, ended="killed", metric=None, reason=ending.reason, saved=saved)
    reason = ending.reason if ending.kind == "withdrawn" else f"{ending.reason} before its end"
    return replace(finished, ended="abandoned", metric=None, reason=reason, stopped_at=None, audit=False)


async def _turn_and_clock(turn: Turn | None, lock: asyncio.Lock) -> bool:
    """Wait until the slot is the run's own, then until no other run of it is measured or scored.

    False when the turn was taken back.
    """
    if turn is not None:
        await asyncio.wait({turn.mine})
        if turn.mine.cancelled():
            return False
    return await lock.acquire()
