"""Thinking ahead: the next proposal is asked for while the slots are busy, and at most one waits for a slot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from core.clock import now
from core.engine.ending import Ending
from core.engine.lifecycle import Lifecycle
from core.engine.proposing.proposer import Proposer, back_off
from core.engine.startup.program_file import ProgramFile
from core.engine.startup.setup import EnginePart
from core.engine.verdict import Judge
from core.record import events as e
from core.record.budget import SessionBudget
from core.record.errors import EditError, ProposalFailed, ResearcherMisconfigured, ScriptEnded
from core.record.slot_time import device_time, dollars
from core.record.state import BASELINE, HUMAN, State

RECENT_PROPOSALS = 5  # whose cost says what the next may cost


@dataclass(eq=False)
class Lookahead(EnginePart):
    """The engine's one thinking task. A thought is the work on one proposal, from the brief to the commit."""

    lifecycle: Lifecycle
    judge: Judge
    proposer: Proposer
    program_file: ProgramFile

    def __post_init__(self) -> None:
        self._thought: asyncio.Task[None] | None = None
        self._skipped = False  # the thought was cancelled because its experiment is skipped
        self._waits_for_repair = False  # a researcher that cannot work pauses the session, and does not end it
        self._unknown_price_logged = False
        self.about: int | None = None  # the experiment that is thought about, from its brief on
        self.stuck = False  # the researcher cannot work until a person has put something right

    @property
    def busy(self) -> bool:
        """Whether a proposal is being made or is still to be made. An engine started for one task leaves it undone."""
        return not self.setup.only_task and (self._thought is not None or bool(self._unproposed()))

    def cancel(self) -> None:
        """Cancel the present thought. It is begun again unless the session is about to end."""
        if self._thought is not None:
            self._thought.cancel()

    def skip(self) -> None:
        """Cancel the present thought, and end its experiment as skipped."""
        self._skipped = True
        self.cancel()

    def researcher_changed(self) -> None:
        """Another researcher proposes from the next thought on. The present thought ends when it waits for a person."""
        self._waits_for_repair = True
        if self._waits_for_person:
            self.cancel()

    async def think_on(self, carry: Callable[[int], None], backlog: Callable[[], int]) -> None:
        """Make one proposal after another until cancelled. `carry` takes an experiment with a commit to its verdict;
        `backlog` counts those that wait for a slot.
        """
        failures = 0
        while True:
            await self._may_think(backlog)
            await self.settings.take_over_researcher()
            await self.program_file.look()
            if not await self._affordable(self._next_number()):
                self.lifecycle.wake()
                await self.journal.changed()
                continue
            number = await self.proposer.begin(self._next_number)
            if self.state.experiments[number].verdict is not None:
                continue  # skipped as soon as it was begun
            self._skipped, self.stuck, self.about = False, False, number
            self._thought = asyncio.create_task(self._think(number, carry))
            try:
                await asyncio.wait({self._thought})
                failures = await self._after(number, self._thought, failures)
            finally:
                self._thought.cancel()
                await asyncio.gather(self._thought, return_exceptions=True)
                self._thought = self.about = None
                self.lifecycle.wake()

    async def _may_think(self, backlog: Callable[[], int]) -> None:
        """Wait until the session runs and no proposal waits for a slot.

        Proposals that wait for a person do not count, so that other slots go on; there are as many as slots at most.
        """
        while (
            self.state.state != "running" or self.lifecycle.stopping or backlog() >= 1
            or len(self.state.approvals) >= len(self.settings.slots) or self._enough()
        ):  # fmt: skip
            changed = asyncio.create_task(self.journal.changed())
            woken = asyncio.create_task(self.lifecycle.woken())
            try:
                await asyncio.wait({changed, woken}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
                woken.cancel()

    def _enough(self) -> bool:
        """Whether as many experiments are judged or under way as a person asked for before a stop."""
        state = self.state
        idle = self._unproposed() if self._waits_for_person else []
        under_way = sum(n != BASELINE and n not in idle for n in state.live)
        return state.stop_at is not None and state.judged + under_way >= state.stop_at and not self._unproposed()

    def _next_number(self) -> int:
        """The experiment whose thought was cut off, or a new one."""
        unproposed = self._unproposed()
        return unproposed[0] if unproposed else max(1, self.state.next_experiment)

    def _unproposed(self) -> list[int]:
        """Live experiments without a commit: cut off in thought, or to be repaired."""
        return [n for n in self.state.live if n != BASELINE and not self.state.experiments[n].commit]

    # --- the budget ---

    async def _affordable(self, number: int) -> bool:
        """Whether the budget allows `number`. A repair belongs to an experiment that is counted already."""
        x = self.state.experiments.get(number)
        if x is None or not x.repairs:
            reason = self._spent() or self.settings.researcher.ended(self.state, number)
            if reason and self.lifecycle.ending is None:
                self.lifecycle.finish(reason)
            return self.lifecycle.ending is None
        if spent := self._spent(counting=False):
            first, line, rest = x.reason.partition("\n")  # the hint stands below
            await self.judge.settle(number, "crashed", f"{first} (not repaired: {spent}){line}{rest}")
        return not spent

    def _spent(self, *, counting: bool = True) -> str | None:
        """Why no further experiment may begin, or None. Without `counting`: hours and dollars only."""
        state = self.state
        return self.settings.budget.exhausted(
            seconds=state.seconds(now()), experiments=self._begun() if counting else -1, usd=dollars(state, now()),
            next_usd=_next_cost(state, self.settings.researcher.name) + self._next_device_cost(),
        )  # fmt: skip

    def _next_device_cost(self) -> float:
        """Dollars of device time that one more experiment may cost: as much as those so far did."""
        return device_time(self.state, now())[1] / self.state.judged if self.state.judged else 0.0

    def _begun(self) -> int:
        """Number of experiments that the budget counts: those with a commit, and those that failed to get one.

        What waited for a person and got none is no experiment.
        """
        made = (x for n, x in self.state.experiments.items() if n != BASELINE)
        return sum(bool(x.commit or x.verdict == "rejected" or (x.verdict and x.researcher != HUMAN)) for x in made)

    @property
    def _waits_for_person(self) -> bool:
        """Whether experiments come from a person alone: the thought does not end then, and counts for nothing."""
        return self.settings.researcher.name == HUMAN

    def refuses_own(self) -> str | None:
        """Why no experiment of a person's own may begin, or None. It costs no dollars but those of the device."""
        if self.lifecycle.ending is not None:
            return self.lifecycle.ending.reason
        return self._no_room()

    def _no_room(self) -> str | None:
        """Why the budget allows no further experiment that needs no model. The present thought counts too."""
        begun = self._begun() + (0 if self._waits_for_person else len(self._unproposed()))
        budget = self.settings.budget
        usd = dollars(self.state, now()) if budget.device_usd_per_hour else -1.0
        return budget.exhausted(seconds=self.state.seconds(now()), experiments=begun, usd=usd)

    async def merge(self, leader: int, other: int) -> int | None:
        """A further candidate that joins the new best with the one it overtook, or None (`Proposer.merge`).

        It counts in the budget as any other.
        """
        if self.lifecycle.stopping or self.state.best != leader or self._enough() or self._spent() or self._no_room():
            return None
        return await self.proposer.merge(leader, other)

    def watch_budget(self) -> bool:
        """Called each second. Cancels the thought when the dollars or the hours are spent; True when the hours are, or
        the dollars of a device that has a price: its time is over.

        One that waits for a person is also cancelled when the experiments are.
        """
        if self.lifecycle.ending is None and (spent := self._time_spent()):
            self.lifecycle.finish(spent)
            self.cancel()
            return True
        self._watch_dollars()
        waits = self._waits_for_person and self._thought is not None and self.lifecycle.ending is None
        if waits and (spent := self._spent()):
            self.lifecycle.finish(spent)
            self.cancel()
        return False

    def _time_spent(self) -> str | None:
        """Why no further run may begin, or None: the hours are spent, or the dollars where a device has a price."""
        budget = self.settings.budget
        timed = SessionBudget(hours=budget.hours, usd=budget.usd if budget.device_usd_per_hour else None)
        return timed.exhausted(seconds=self.state.seconds(now()), experiments=0, usd=dollars(self.state, now()))

    def _watch_dollars(self, next_usd: float = 0.0) -> None:
        """Cancel the thought when the dollars do not allow another answer, which may cost `next_usd`."""
        budget = SessionBudget(usd=self.settings.budget.usd)
        usd = dollars(self.state, now())
        spent = budget.exhausted(seconds=0.0, experiments=0, usd=usd, next_usd=next_usd, unit="answer")
        if spent and self.lifecycle.ending is None and self.busy:
            self.lifecycle.finish(spent)
            self.cancel()

    async def _log_unknown_price(self) -> None:
        """Log once that a budget in dollars cannot be held."""
        budget, researcher = self.settings.budget.usd, self.settings.researcher
        if budget is None or not self.state.usd_unknown or self._unknown_price_logged:
            return
        self._unknown_price_logged = True
        name = researcher.model or researcher.name
        text = f"what {name} costs is not known, and is not counted in the budget of ${budget:.2f}"
        await self.journal.write(e.Noted("warning", text))

    # --- a thought ---

    async def _think(self, number: int, carry: Callable[[int], None]) -> None:
        await self.proposer.propose(number, self._watch_dollars)
        self._waits_for_repair = True
        carry(number)
        await self._log_unknown_price()

    async def _after(self, number: int, thought: asyncio.Task[None], failures: int) -> int:
        """Deal with how a thought ended. Returns how many in a row have failed."""
        if thought.cancelled():
            await self._cancelled(number)
            return failures
        error = thought.exception()
        if error is None:
            return 0
        if isinstance(error, ScriptEnded):
            self.lifecycle.finish(error.what)
            await self.judge.settle(number, "abandoned", error.what)
        elif isinstance(error, (EditError, ProposalFailed)):
            where = f"{error.where}: " if error.where else ""
            await self.judge.settle(number, "rejected", where + error.what)
            if self.settings.researcher.can_repair:
                await back_off(self.journal, failures + 1)
            return failures + 1
        elif isinstance(error, ResearcherMisconfigured):
            await self._misconfigured(error)
        else:
            raise error
        return failures

    async def _cancelled(self, number: int) -> None:
        ending, x = self.lifecycle.ending, self.state.experiments[number]
        if self._skipped:
            await self.judge.settle(number, "skipped", "skipped while it was being thought about")
        elif ending is not None and ending.kind == "finished" and not x.repairs:
            await self.judge.settle(number, "abandoned", ending.reason)  # or the session would wait for it for ever

    async def _misconfigured(self, error: ResearcherMisconfigured) -> None:
        """Only a person can put this right. Before any proposal of this engine it ends the session, else it pauses."""
        self.stuck = True
        if not self._waits_for_repair:
            reason = f"the researcher {self.settings.researcher.name} cannot work: {error}"
            self.lifecycle.end(Ending("crashed", reason))
            await asyncio.get_running_loop().create_future()  # until the engine winds up
        await self.lifecycle.pause(str(error))


def _next_cost(state: State, researcher: str) -> float:
    """Dollars that one more proposal of `researcher` may cost: the most that one of its last few did."""
    paid = [x.usd for n, x in state.experiments.items() if n != BASELINE and x.researcher == researcher]
    return max(paid[-RECENT_PROPOSALS:], default=0.0)
