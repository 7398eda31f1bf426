"""Verdicts: comparison with the best, the event, then the move of the branch. One at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from core.engine.runs.counted.overrun import before_clock_words
from core.engine.startup.setup import EnginePart
from core.ordered import Order
from core.record import events as e
from core.record.errors import GitConflict
from core.record.metric import format_metric
from core.record.state import BASELINE, HUMAN, Experiment, Run, who
from core.stats.decide import Decision, judge, judge_in_turn
from core.stats.drift import speed_change
from core.stats.noise import Noise
from core.stats.sigma import best_wanted, noise_of, overlooked, refuted_best, simplicity_left
from core.stats.silence import gain_word

# What an experiment's task does next: nothing more, run the change on the new best, repeat it (alone or with the
# best beside it), repeat it as the new best, or let the researcher repair it.
Next = Literal["done", "rebased", "candidate", "both", "kept", "repair"]
MAX_REPAIRS = 2  # attempts at repairing one change that crashed
MAX_TAIL_LINES = 30  # of a crash's output, for the researcher


MEANS: Order[Experiment] = Order(lambda x: x.sample.mean if x.values else None)


@dataclass(eq=False)
class Judge(EnginePart):
    """Judges experiments that have a run, one at a time: a kept one moves the best."""

    busy: set[int] = field(default_factory=set, init=False)  # those being judged at present
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _moving: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _held: str = field(default="", init=False)  # why the branch was not moved
    _looked: tuple[int, tuple[float, ...]] | None = field(default=None, init=False)  # the best at the last `reopen`

    async def settle(
        self, experiment: int, verdict: e.Verdict, reason: str, metric: float | None = None, delta: float | None = None
    ) -> None:
        """Log a verdict that needs no comparison with the best."""
        commit = None if metric is None else self.state.experiments[experiment].commit
        await self.journal.write(
            e.Judged(experiment=experiment, verdict=verdict, metric=metric, delta=delta, reason=reason, commit=commit)
        )

    async def judge(self, experiment: int, *, skipped: bool = False) -> Next:
        """Judge all runs so far, log the verdict and bring git into line. Returns what the experiment needs next."""
        self.busy.add(experiment)
        try:
            while self.state.baseline is None and not skipped:
                await self.journal.changed()
            async with self._turn:
                return await self._judge(experiment, skipped)
        finally:
            self.busy.discard(experiment)

    async def _judge(self, experiment: int, skipped: bool) -> Next:
        x = self.state.experiments[experiment]
        if skipped:
            await self.settle(experiment, "skipped", "skipped by hand")
            return "done"
        run = [r for r in x.runs if r.commit == x.commit and r.ended != "abandoned"][-1]
        if run.metric is None and run.stopped_at is not None and not run.audit:
            await self.settle(experiment, "pruned", run.reason)
            return "done"
        if run.metric is None:
            return await self.failed(x, run.ended == "rejected", run.reason or "the run ended without a number")
        return await self._compare(x, run)

    async def failed(self, x: Experiment, rejected: bool, reason: str) -> Next:
        """The verdict without a metric. A crash goes back to a researcher that can repair it, twice at most."""
        repairable = x.researcher != HUMAN and self.settings.researcher.can_repair and not x.values
        if rejected:
            await self.settle(x.number, "rejected", reason)
        elif repairable and x.repairs < MAX_REPAIRS:
            await self.journal.write(e.RepairAsked(x.number, x.repairs + 1, reason))
            return "repair"
        else:
            first, line, rest = reason.partition("\n")  # the hint stands below
            tried = f" (after {x.repairs} attempts at repairing it)" if x.repairs else ""
            await self.settle(x.number, "crashed", f"{first}{tried}{line}{rest}")
        return "done"

    async def _compare(self, x: Experiment, run: Run) -> Next:
        state = self.state
        # A fork is compared with the best, as everything else is, and not with its base.
        moved, best = x.parent != state.best and not x.forked, state.best
        noise = noise_of(state)
        off = "" if state.timed else speed_change(state, run.slot)
        policy, saved = self.program.policy, 0 if x.forked else -x.lines  # counted against the parent
        others = []
        if noise.sigma == 0:  # while the noise is unknown, all results say what is plausible
            others = [mean for mean, n in state.experiments.places(MEANS) if n != x.number]

        def against(number: int, saved: int) -> Decision:
            pair = state.experiments[number].sample, x.sample
            fewer: Any = {"lines_saved": saved, "allowance": simplicity_left(state, policy)}
            if state.timed and noise.sigma > 0:
                return judge_in_turn(state.metric, *pair, noise, policy, **fewer)
            return judge(state.metric, *pair, noise, policy, drift=bool(off), others=others, **fewer)

        # What beats the new best as it stands leads as it is: a measured result is not exchanged for a hoped one.
        reference, decision = best, against(best, 0 if moved else saved)
        if moved and decision.verdict == "discarded":
            reference, decision = x.parent, against(x.parent, saved)
            if decision.verdict != "discarded":
                return await self._rebase(x, decision.delta)
        if off and len(x.values) == 1 and noise.sigma > 0:
            reason = f"{off}: repeated, not judged"
            decision = Decision(verdict="provisional", delta=decision.delta, reason=reason, repeat="both")
        against_words = "" if reference == BASELINE else f" (against #{reference})"
        then = await self._log(x, decision, against_words, overtook=best if moved else 0)
        if x.forked and then == "done" and decision.verdict == "discarded":
            await self._go_on_from(x, noise)
        return then

    async def _go_on_from(self, x: Experiment, noise: Noise) -> None:
        """A fork builds on what is clearly better than its base, though it is not the best yet. No claim is made."""
        state = self.state
        base = state.experiments[x.parent]
        if x.parent != state.base:
            return
        enough = self.program.policy.keep * noise.sigma
        if not base.values or state.metric.gain(base.sample.number, x.sample.mean) > enough:
            await self.journal.write(e.BaseChanged(x.number))

    async def _log(self, x: Experiment, decision: Decision, against: str, overtook: int) -> Next:
        state = self.state
        verdict: e.Verdict = "provisional" if decision.verdict == "quarantined" else decision.verdict
        word = "quarantined: " if decision.verdict == "quarantined" else ""
        claim, best = decision.claim, None if x.parent != state.best else decision.best_claim
        number = claim.number if claim else x.sample.mean
        judged = e.Judged(
            experiment=x.number,
            verdict=verdict,
            metric=number,
            delta=decision.delta,
            reason=word + decision.reason + against,
            commit=x.commit,
            runs=len(x.values),
            claim=claim.number if claim else None,
            claim_runs=claim.runs if claim else 0.0,
            best_claim=best.number if best else None,
            best_claim_runs=best.runs if best else 0.0,
            best_claim_results=best.results if best else 0,
            overtook=overtook if verdict == "kept" else 0,
        )
        await self.journal.write(judged, *self.new_noise())
        if verdict == "kept":
            if words := before_clock_words(state, x.number):
                await self.journal.write(e.Noted("warning", words, x.number))
            await self.follow()
            return "kept"
        return decision.repeat or "candidate" if verdict == "provisional" else "done"

    def wants_repeat(self, experiment: int) -> bool:
        """Whether the best has stood against so many candidates that its metric should be measured again."""
        state = self.state
        x = state.experiments.get(experiment)
        if x is None or state.best != experiment or not x.values or state.baseline is None or not state.sigma:
            return False
        if state.timed and experiment == BASELINE:
            return False  # there is nothing beside which it could be measured again
        if state.timed and x.sample.n == x.sample.chosen_on:
            return True  # later candidates do not correct its number: a run beside the baseline does
        return best_wanted(state, self.program.policy)

    async def look_again(self) -> None:
        """Take back the best where its own runs, with the last one, do not bear it out."""
        async with self._turn:
            found = refuted_best(self.state, self.program.policy)
            if found is None:
                return
            x, before = found
            results, than = ", ".join(map(format_metric, x.values)), who(before.number)
            why = f"taken back: its own runs differ beyond the noise ({results}), and are no better than {than}"
            judged = e.Judged(
                experiment=x.number, verdict="discarded", metric=x.sample.mean,
                delta=x.sample.mean - before.sample.number, reason=why, commit=x.commit, runs=len(x.values),
            )  # fmt: skip
            await self.journal.write(judged, *self.new_noise())
            await self.follow()

    async def reopen(self, busy: Collection[int]) -> list[int]:
        """Numbers of the discarded experiments to judge again, once each, since the best no longer counts as it did.
        What was built on a best that was taken back is re-applied on the best, and runs again. None of those `busy`.
        """
        found = []
        best = self.state.experiments.get(self.state.best)
        looked = (self.state.best, best.values if best else ())
        if looked == self._looked:  # the cost of a verdict must not grow with the session
            return []
        async with self._turn:
            self._looked = looked
            for x in overlooked(self.state, self.program.policy):
                judged = (
                    event.body for event in self.journal.log.events_of(x.number) if isinstance(event.body, e.Judged)
                )
                if sum(body.verdict != "provisional" for body in judged) > 1:
                    continue
                if x.number in busy:
                    self._looked = None
                    continue
                if x.parent != self.state.best and await self._rebase(x, x.delta or 0.0) != "rebased":
                    continue
                found.append(x.number)
        return found

    def new_noise(self) -> list[e.Body]:
        """The event to log when sigma is known from more runs than the log says, or has another value."""
        state, noise = self.state, noise_of(self.state)
        if state.noise is not None and (state.noise.df, state.noise.sigma) == (noise.df, noise.sigma):
            return []
        return [e.NoiseEstimated(**asdict(noise))]

    async def reapplied(self, x: Experiment, parent: int, onto: str) -> tuple[str, str]:
        """A commit of the change of `x` on `parent`, whose commit is `onto`, and the diff. Raises GitConflict."""
        subject, trailer = f"#{x.number} {' '.join(x.hypothesis.split())}", self.journal.trailer()
        message = f"{subject}\n\nRe-applied on #{parent}.\n\n{trailer}\n"
        new = await asyncio.to_thread(self.repo.reapply, x.commit or "", x.parent_commit, onto, message)
        return new, await asyncio.to_thread(self.repo.diff, onto, new)

    async def _rebase(self, x: Experiment, delta: float) -> Next:
        """The best changed while this ran: apply the change to it, to be run again before it may be kept."""
        state, repo = self.state, self.repo
        best, onto = state.best, state.best_commit or self.setup.commit
        try:
            new, diff = await self.reapplied(x, best, onto)
        except GitConflict as conflict:
            clash = f"in conflict with the new best #{best}: {conflict.what}"
            word = gain_word(state, state.metric.gain(0.0, delta))
            reason = f"{word} than its parent {who(x.parent)}, but {clash}"
            await self.settle(x.number, "discarded", reason, x.sample.mean, delta)
            return "done"
        if not diff.strip():
            reason = f"the new best #{best} already holds this change"
            await self.settle(x.number, "discarded", reason, x.sample.mean)
            return "done"
        await self.journal.write(e.Rebased(experiment=x.number, parent=best, parent_commit=onto, commit=new, diff=diff))
        await asyncio.to_thread(repo.keep_ref, self.paths.name, x.number, new)
        return "rebased"

    async def follow(self) -> None:
        """Move the branch to the best. One that the user has checked out stays where it is: that is logged."""
        async with self._moving:
            done = await asyncio.to_thread(self._move_branch)
            for text in done[:-1]:  # besides the move itself
                await self.journal.write(e.Noted("warning", text))
            if self._held != self.state.branch_held:
                await self.journal.write(e.BranchHeld(self._held))

    def _move_branch(self) -> list[str]:
        """Move the session's branch to the best, or set `_held` to why not. Returns what was done, in words."""
        repo, state, name, start = self.repo, self.state, self.paths.name, self.setup.commit
        branch, best = self.paths.branch, state.best_commit or start
        self._held = ""
        at = repo.branch_commit(branch)
        if at == best:
            return []
        if checkout := repo.checked_out_at(branch, apart_from=self.paths.worktrees):
            self._held = (
                f"the branch {branch} is checked out at {checkout.path}: it stays where it is, "
                f"and an engine moves it to the best once it is free, with: {checkout.release}"
            )
            return []
        done = []
        if at is not None and at != start and all(x.commit != at for x in reversed(state.experiments.values())):
            own = f"own-{at[:10]}"  # a commit of the user's
            repo.keep_ref(name, own, at)
            done.append(f"kept {at[:10]}, which belongs to no experiment, at refs/autoresearch/{name}/{own}")
        repo.set_branch(branch, best)
        return [*done, f"moved the branch {branch} to {best[:10]} (best #{state.best})"]

    def agree(self) -> list[str]:
        """Make git agree with the log: the branch, and a ref at every experiment. Returns what was done, in words."""
        done, name = self._move_branch(), self.paths.name
        refs = self.repo.refs(name)
        for number, x in self.state.experiments.items():
            if x.commit and number != BASELINE and refs.get(number) != x.commit:
                self.repo.keep_ref(name, number, x.commit)
                done.append(f"kept #{number} at refs/autoresearch/{name}/{number}")
        return done
