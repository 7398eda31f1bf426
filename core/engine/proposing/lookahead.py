"""Thinking ahead: while the slots are busy the next proposal is asked for, and at most one waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from core.clock import now
from core.engine.proposing.proposer import back_off
from core.record import events as e
from core.record.errors import EditError, ProposalFailed, ResearcherMisconfigured, ScriptEnded
from core.record.state import BASELINE, HUMAN, State

if TYPE_CHECKING:
    from core.engine.loop import Loop

RECENT = 5  # experiments whose cost says what the next may cost


class Ahead:
    """The loop's one thinking task."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._thought: asyncio.Task[None] | None = None
        self.about: int | None = None  # the experiment that is thought about, from its briefing on
        self.rethink = False  # the thought was cancelled to be begun again with new guidance
        self.proposed = 0  # by this engine
        self.stuck = False  # the researcher cannot work until a person has mended something
        self.patient = False  # a researcher chosen while the session runs is waited for
        self._said_unknown = False

    @property
    def busy(self) -> bool:
        """Whether anything is thought of, or has still to be."""
        return self._thought is not None or bool(self._unproposed())

    def cancel(self) -> None:
        if self._thought is not None:
            self._thought.cancel()

    async def think_on(self) -> None:
        """For as long as the session lasts."""
        loop, failures = self._loop, 0
        while True:
            await self._may_think()
            await loop.changes.before_next()
            number = self._next_number()
            if not await self._affordable(number):
                loop.wake()
                await loop.journal.changed()
                continue
            number = await loop.thinker.begin(self._next_number)
            if loop.state.experiments[number].verdict is not None:
                continue  # skipped as soon as it was begun
            self.rethink, self.about = False, number
            self._thought = asyncio.create_task(self._think(number))
            try:
                await asyncio.wait({self._thought})
                failures = await self._after(number, self._thought, failures)
            finally:
                self._thought.cancel()
                await asyncio.gather(self._thought, return_exceptions=True)
                self._thought = self.about = None
                loop.wake()

    async def _may_think(self) -> None:
        """Wait until the session runs and fewer than one proposal waits for a slot.

        Proposals that wait for a person do not count, so that other slots go on; there are as many as slots at most.
        """
        loop = self._loop
        while (
            loop.state.state != "running" or loop.stopping or loop.backlog() >= 1
            or len(loop.state.approvals) >= len(loop.settings.slots) or self._enough()
        ):  # fmt: skip
            loop.awake.clear()
            changed = asyncio.create_task(loop.journal.changed())
            awake = asyncio.create_task(loop.awake.wait())
            try:
                await asyncio.wait({changed, awake}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
                awake.cancel()

    def _enough(self) -> bool:
        """Whether a person asked to stop once as many are judged as are under way already."""
        state = self._loop.state
        under_way = sum(n != BASELINE for n in state.live)
        return state.stop_at is not None and state.judged + under_way >= state.stop_at and not self._unproposed()

    def _next_number(self) -> int:
        """The experiment that was being thought about when an engine ended, or a new one."""
        unproposed = self._unproposed()
        return unproposed[0] if unproposed else max(1, self._loop.state.next_experiment)

    def _unproposed(self) -> list[int]:
        """Live experiments without a proposal: cut off in thought, or to be mended."""
        state = self._loop.state
        return [n for n in state.live if n != BASELINE and not state.experiments[n].commit]

    async def _affordable(self, number: int) -> bool:
        """Whether the budget allows `number`; one that is to be mended belongs to an experiment already counted."""
        loop = self._loop
        x = loop.state.experiments.get(number)
        if x is None or not x.repairs:
            ended = loop.settings.researcher.ended(loop.state, number)
            loop.exhausted = loop.exhausted or self._spent() or ended or ""
            return not loop.exhausted
        if spent := self._spent(counting=False):
            await loop.judge.settle(number, "crashed", f"{x.reason} (not mended: {spent})")
        return not spent

    def _spent(self, *, counting: bool = True) -> str | None:
        """Why no further experiment may begin, or None. Without `counting`: hours and dollars only."""
        loop, state = self._loop, self._loop.state
        begun = state.total - sum(n != BASELINE and not state.experiments[n].commit for n in state.live)
        return loop.settings.budget.exhausted(
            seconds=state.seconds(now()), experiments=begun if counting else -1, usd=state.usd,
            next_usd=costs_about(state),
        )  # fmt: skip

    def spent_for_own(self) -> str | None:
        """Why no experiment of a person's own may begin, or None. It costs no dollars."""
        loop = self._loop
        seconds = loop.state.seconds(now())
        return loop.settings.budget.exhausted(seconds=seconds, experiments=loop.state.total, usd=-1.0)

    async def _think(self, number: int) -> None:
        await self._loop.thinker.propose(number)
        self.proposed += 1
        self._loop.carry(number)
        await self._say_unknown_price()

    async def _say_unknown_price(self) -> None:
        """A budget in dollars that cannot be held is said, once."""
        loop = self._loop
        budget = loop.settings.budget.usd
        if budget is None or not loop.state.usd_unknown or self._said_unknown:
            return
        self._said_unknown = True
        model = loop.settings.researcher.model or loop.settings.researcher.name
        text = f"what {model} costs is not known, and is not counted in the budget of ${budget:.2f}"
        await loop.journal.write(e.Noted("warning", text))

    async def _after(self, number: int, thought: asyncio.Task[None], failures: int) -> int:
        """Deal with how a thought ended. Returns how many in a row have come to nothing."""
        loop = self._loop
        if thought.cancelled():
            await self._cancelled(number)
            return failures
        error = thought.exception()
        if error is None:
            return 0
        if isinstance(error, ScriptEnded):
            loop.exhausted = error.what
            await loop.abandon(number, error.what)
        elif isinstance(error, (EditError, ProposalFailed)):
            where = f"{error.where}: " if error.where else ""
            await loop.judge.settle(number, "rejected", where + error.what)
            if loop.settings.researcher.mends:
                await back_off(loop.journal, failures + 1)
            return failures + 1
        elif isinstance(error, ResearcherMisconfigured):
            await self._misconfigured(error)
        else:
            raise error
        return failures

    async def _cancelled(self, number: int) -> None:
        again, self.rethink = self.rethink, False
        if number in self._loop.skipped:
            await self._loop.judge.settle(number, "skipped", "skipped while it was being thought about")
        elif not again and self._loop.exhausted and not self._loop.state.experiments[number].repairs:
            await self._loop.abandon(number, self._loop.exhausted)  # or the session would wait for it for ever

    async def _misconfigured(self, error: ResearcherMisconfigured) -> None:
        """Nobody but a person can mend this. Before anything was ever proposed it ends the engine, else it pauses."""
        loop, reason = self._loop, str(error)
        self.stuck = True
        if not (self.proposed or self.patient):
            loop.end("crashed", f"the researcher {loop.settings.researcher.name} cannot work: {reason}")
            await asyncio.get_running_loop().create_future()  # until the engine winds up
        await loop.hold(reason)


def costs_about(state: State) -> float:
    """Dollars that one more proposal may cost: the most that one of the last few did."""
    recent = [x.usd for n, x in state.experiments.items() if n != BASELINE and x.researcher != HUMAN][-RECENT:]
    return max(recent, default=0.0)
