"""Verdicts: compare, log, then make git agree. One at a time, because keeping moves the best."""

from __future__ import annotations

import asyncio

from core.engine.journal import Journal
from core.engine.setup import Setup
from core.record import events as e
from core.record.decide import decide
from core.record.errors import GitConflict
from core.record.state import BASELINE, Experiment, Run


class Judge:
    """Judges experiments that have a run. `busy` holds those being judged now."""

    def __init__(self, setup: Setup, journal: Journal) -> None:
        self._setup = setup
        self._journal = journal
        self._turn = asyncio.Lock()
        self.busy: set[int] = set()

    async def settle(self, experiment: int, verdict: e.Verdict, reason: str) -> None:
        """A verdict that needs no comparison."""
        await self._journal.write(e.Judged(experiment, verdict, None, None, reason))

    async def judge(self, experiment: int, *, skipped: bool = False) -> bool:
        """The verdict on the last run. False when the change was put on the new best and must run again."""
        self.busy.add(experiment)
        try:
            while self._journal.state.baseline is None and not skipped:
                await self._journal.changed()
            async with self._turn:
                return await self._judge(experiment, skipped)
        finally:
            self.busy.discard(experiment)

    async def _judge(self, experiment: int, skipped: bool) -> bool:
        x = self._journal.state.experiments[experiment]
        run = x.runs[-1]
        if skipped:
            await self.settle(experiment, "skipped", "skipped by hand")
        elif run.metric is None:
            verdict: e.Verdict = "rejected" if run.ended == "rejected" else "crashed"
            await self.settle(experiment, verdict, run.reason or "the run ended without a number")
        else:
            return await self._compare(x, run, run.metric)
        return True

    async def _compare(self, x: Experiment, run: Run, value: float) -> bool:
        state = self._journal.state
        moved = x.parent != state.best
        incumbent = self._metric_of(x.parent) if moved else state.best_metric
        assert incumbent is not None and state.baseline is not None
        simpler = x.removed > x.added
        decision = decide(
            state.metric, incumbent, value, state.baseline.sigma, self._setup.program.keep_sigmas, simpler=simpler
        )
        if decision.verdict == "kept" and moved:
            return await self._rebase(x, value)
        against = "" if x.parent == BASELINE and not moved else f" (against #{x.parent})"
        await self._journal.write(
            e.Judged(x.number, decision.verdict, value, decision.delta, decision.reason + against, x.commit)
        )
        if decision.verdict == "kept":
            await asyncio.to_thread(self.move_branch)
        return True

    def _metric_of(self, experiment: int) -> float | None:
        state = self._journal.state
        if experiment == BASELINE:
            return state.baseline.metric if state.baseline else None
        return state.experiments[experiment].metric

    async def _rebase(self, x: Experiment, value: float) -> bool:
        """The best moved while this ran: put the change on it, to be run again before it may be kept."""
        state, repo = self._journal.state, self._setup.repo
        best, onto = state.best, state.best_commit or self._setup.commit
        message = f"#{x.number} {' '.join(x.hypothesis.split())}\n\nRe-applied on #{best}.\n"
        commit = x.commit or ""
        try:
            new = await asyncio.to_thread(repo.reapply, commit, x.parent_commit, onto, message)
            diff = await asyncio.to_thread(repo.diff, onto, new)
        except GitConflict as conflict:
            reason = f"better than its parent #{x.parent}, but in conflict with the new best #{best}: {conflict.what}"
            delta = value - (self._metric_of(best) or value)
            await self._journal.write(e.Judged(x.number, "discarded", value, delta, reason, commit))
            return True
        if not diff.strip():
            reason = f"the new best #{best} already holds this change"
            await self._journal.write(e.Judged(x.number, "discarded", value, None, reason, commit))
            return True
        await self._journal.write(e.Rebased(x.number, best, onto, new, diff))
        await asyncio.to_thread(repo.keep_ref, self._setup.paths.name, x.number, new)
        return False

    def move_branch(self) -> list[str]:
        """Put the session's branch at the best, as the log says. Idempotent. Returns what was done, in words."""
        setup, state = self._setup, self._journal.state
        best = state.best_commit or setup.commit
        if setup.repo.branch_commit(setup.paths.branch) == best:
            return []
        setup.repo.set_branch(setup.paths.branch, best)
        return [f"moved the branch {setup.paths.branch} to {best[:10]} (best #{state.best})"]

    def agree(self) -> list[str]:
        """Make all of git say what the log says: the branch, and a ref at every experiment. For a starting engine."""
        setup, state = self._setup, self._journal.state
        done = self.move_branch()
        refs = setup.repo.refs(setup.paths.name)
        for number, x in state.experiments.items():
            if x.commit and number != BASELINE and refs.get(number) != x.commit:
                setup.repo.keep_ref(setup.paths.name, number, x.commit)
                done.append(f"kept #{number} at refs/autoresearch/{setup.paths.name}/{number}")
        return done
