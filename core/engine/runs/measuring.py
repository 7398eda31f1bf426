"""The number of a run that has ended: from its scorer or its output, and whether it counts."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from functools import partial

from core.clock import now
from core.engine.runs.card_faults import CardFaults
from core.engine.runs.counted.many_names import MAX_MANY, many_names_words
from core.engine.runs.counted.overrun import MAX_CUTS, is_better, next_cut, over_budget
from core.engine.runs.counted.siblings import far_words
from core.engine.runs.live_run import Live, with_words
from core.engine.runs.scoring_beside import ScoringBeside
from core.engine.runs.slots import Slots
from core.engine.runs.telemetry import memory_words
from core.engine.runs.workplace import Workplace
from core.engine.startup.setup import EnginePart
from core.lab import scorer
from core.lab.git.fixed_files import beyond, changed_words, rejection
from core.lab.gpu.card_health import speaks_of_device, speaks_of_memory
from core.lab.shim.clocks.new_names import NewNames
from core.program.printed_metric import Printed
from core.program.program import Program
from core.record import events as e
from core.record.errors import LabError, ScorerFault
from core.record.state import BASELINE, who


@dataclass(eq=False)
class Measuring(EnginePart):
    """Takes the number of a run, refuses it, or has the run measured again. Each step returns the end as it is then."""

    slots: Slots
    place: Workplace
    faults: CardFaults
    beside: ScoringBeside

    async def compared(self, live: Live, finished: e.RunFinished) -> e.RunFinished:
        """`finished`, or its end without a number, when others took its processors: then it is run again."""
        if finished.ended != "done" or self.program.run_budget(self.setup.kind).clock == "cpu":
            return finished
        if not (words := far_words(self.state, live.experiment, finished.share, live.shares)):
            return finished
        live.shares = (*live.shares, finished.share or 0.0)
        return await self._again(live, finished, words)

    async def at_budget(self, live: Live, finished: e.RunFinished) -> e.RunFinished:
        """`finished`, or its end without a number, where it gained and used more time than it has: then it is run again
        with its clock cut by as much. A command with the clock of its process knows of no cut, and ends as overtime.
        """
        budget, metric = self.program.run_budget(self.setup.kind).seconds, finished.metric
        if metric is None or budget is None or live.experiment == BASELINE or self.program.scored_at_limit:
            return finished
        used, whole = finished.used or finished.seconds, not self.place.overlaps
        over = over_budget(self.state, used, budget, whole=whole)
        if not over or live.is_reference or not is_better(self.state, live.experiment, metric):
            return finished
        words = f"it used {used:.1f} s of its budget of {budget:g} s"
        if whole or live.cuts >= MAX_CUTS:
            words += f", also when it was given {budget - live.cut:.1f} s" if live.cuts else ""
            hint = "" if live.cuts else "\n  hint: let it end in time: what it gains by more time does not count"
            return replace(finished, ended="overtime", metric=None, reason=words + hint)
        live.cuts, live.cut = live.cuts + 1, next_cut(live.cut, over, budget)
        words += f": run again with a clock of {budget - live.cut:.1f} s, not counted"
        return await self._again(live, finished, words)

    async def few_names(self, live: Live, finished: e.RunFinished) -> e.RunFinished:
        """`finished`, or its end without a number, where it gained while the kernel learned very many names: then it is
        run again. What it could have read in them is gone by then; with as many in each try it is rejected.
        """
        if finished.metric is None or live.experiment == BASELINE or live.is_reference:
            return finished
        words = many_names_words(self.state, finished.new_names)
        if not words or not is_better(self.state, live.experiment, finished.metric):
            return finished
        if live.many_names >= MAX_MANY:
            reason = f"{words}, as in {MAX_MANY} tries before: an earlier run may have left data there"
            hint = "\n  hint: if another program walks many folders now (a backup), propose it again later"
            return replace(finished, ended="rejected", metric=None, reason=reason + hint)
        live.many_names += 1
        words += ", where an earlier run may have left data: measured again, not counted"
        return await self._again(live, finished, words)

    async def _again(self, live: Live, finished: e.RunFinished, words: str) -> e.RunFinished:
        """The end without a number of a run that is measured again, which is said with the cause in `words`."""
        live.again = True
        await self.journal.write(
            e.Noted("warning", f"run {live.run} of {who(live.experiment)}: {words}", live.experiment)
        )
        return replace(finished, ended="abandoned", metric=None, reason=words)

    async def read_metric(self, live: Live, finished: e.RunFinished) -> e.RunFinished:
        """The metric that a run without a scorer has printed. It counts when the run ended by itself with exit code 0,
        or at its time budget where program.md says so; else the reason tells both, the end and the number.
        """
        if finished.ended in ("abandoned", "startup_timeout"):
            return finished
        log, pattern = self.paths.run(live.run) / "output.log", self.program.pattern or ""
        earlier = next((r.printed for r in self.state.experiments[BASELINE].runs if r.metric is not None), "")
        done = finished.ended == "done"
        found = await asyncio.to_thread(
            scorer.self_reported, log, pattern, finished.log_tail, like=earlier, cut_off=not done
        )
        if finished.ended == "overtime" and self.program.scored_at_limit:
            if found.value is None:
                return replace(finished, reason=f"{finished.reason}: {found.reason}")
            finished = replace(finished, ended="done")
        elif not done:
            return _uncounted(finished, found, self.program)
        elif found.value is None:
            return replace(finished, ended="crashed", reason=found.reason)
        return _with_metric(replace(finished, printed=found.text), found.value)

    async def refuse_changed(self, live: Live, finished: e.RunFinished) -> e.RunFinished:
        """Reject a run that changed files which experiments may not edit, apart from those that the unchanged code
        changes as well: these are its output.
        """
        if finished.metric is None or not finished.changed:
            return finished
        if live.experiment == BASELINE:
            if new := beyond(finished.changed, self._changed_by_baseline()):
                await self.journal.write(e.Noted("warning", changed_words(new), BASELINE))
            return finished
        live.leave_slot(self.slots)
        while self.state.baseline is None and live.ending is None:
            await self.journal.changed()
        if not (changed := beyond(finished.changed, self._changed_by_baseline())):
            return finished
        return replace(finished, ended="rejected", metric=None, reason=rejection(changed))

    def _changed_by_baseline(self) -> set[str]:
        bodies = [event.body for event in self.journal.log.events_of(BASELINE)]
        return {path for body in bodies if isinstance(body, e.RunFinished) for path in body.changed}

    async def measure(self, live: Live, seed: int, finished: e.RunFinished) -> e.RunFinished:
        """The metric from the scorer."""
        command = self.program.score
        assert command is not None
        await live.enter("scoring", self.journal)
        names = NewNames()
        on_gpu = live.slot.startswith("gpu")
        again = self.faults.quiet(live) if on_gpu and self.beside.on_card is not False else None
        watch = scorer.Watch(partial(self.beside.look, live), live.number_known.set) if on_gpu else None
        live.scoring = asyncio.create_task(
            self.place.score(command, live.run, live.slot, seed, again=again, watch=watch)
        )
        giving = asyncio.create_task(self.beside.give_clock(live))
        try:
            score = await live.scoring
        except asyncio.CancelledError:
            if live.ending is not None:
                return finished
            raise
        except ScorerFault as fault:
            reason = f"the scorer failed: it {fault.what.removeprefix('the scorer ')}"
            return await self._scorer_failed(live, replace(finished, reason=reason))
        except LabError as error:
            return replace(finished, ended="abandoned", reason=error.what)
        finally:
            live.scoring = None
            giving.cancel()
        await self.beside.ended(live)
        for words in self.place.template.told():
            await self.journal.write(e.Noted("warning", words, live.experiment))
        names.sample()
        if finished.new_names is not None and names.total is not None:
            finished = replace(finished, new_names=finished.new_names + names.total)
        finished = replace(finished, probes=dict(score.probes), wall_seconds=now() - live.started)
        if score.rejected is not None:
            return replace(finished, ended="rejected", reason=score.rejected)
        return _with_metric(finished, score.metric)

    async def _scorer_failed(self, live: Live, finished: e.RunFinished) -> e.RunFinished:
        """The end of a run whose scorer has failed twice, with the reason in `finished`: nothing is judged until a
        person has looked. A card that does not work is the cause: only its slot is set aside, and the run is repeated.
        """
        about_device = False
        if live.slot.startswith("gpu"):
            health = await self.faults.look(live, finished.reason)
            if health.trouble and live.faults < self.faults.repeats:
                return await self.faults.fault(live, finished, health.trouble)
            about_device = speaks_of_device(finished.reason)
            if speaks_of_memory(finished.reason):
                finished = with_words(finished, memory_words(live.slot, [], health))
        if self.state.baseline is None and not about_device:
            return replace(finished, ended="crashed")
        await self.place.stop_judging(finished.reason)
        return replace(finished, ended="abandoned")


def _uncounted(finished: e.RunFinished, found: Printed, program: Program) -> e.RunFinished:
    """`finished`, a run that printed its number and then failed or was killed, with both in its reason."""
    if found.value is None:
        return finished
    times = f" {found.matches} times, last" if found.matches > 1 else ""
    reason = finished.reason.removesuffix(f": {found.line.strip()}")  # the end of the output is no cause here
    if finished.ended == "overtime" and any(budget.steps for budget in program.run_budgets.values()):
        rule = "raise `limit` below [budget]"
    elif finished.ended == "overtime":
        rule = "let it end by itself in time, or raise `run` below [budget], or write there"
        rule += ' at_limit = "score": then the last number printed counts'
    else:
        rule = "a number counts only when the run ends by itself with exit code 0"
    had = f"it had printed {program.metric.name}{times} {found.text}"
    return replace(finished, reason=f"{reason}; {had}, which does not count: {rule}", printed=found.text)


def _with_metric(finished: e.RunFinished, value: float | None) -> e.RunFinished:
    if value is None or not math.isfinite(value):
        return replace(finished, ended="crashed", metric=None, reason=f"the metric is not a finite number ({value})")
    return replace(finished, metric=value)
