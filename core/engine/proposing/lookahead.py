"""Thinking ahead: proposals are made while the slots are busy, and wait in a queue of bounded length."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice

from core.clock import now
from core.engine.ending import Ending
from core.engine.lifecycle import Lifecycle
from core.engine.proposing.proposer import Proposer, back_off
from core.engine.proposing.time_left import RECENT, runs_to_begin, seconds_left, thought_seconds
from core.engine.runs.slots import Slots
from core.engine.startup.program_file import ProgramFile
from core.engine.startup.setup import EnginePart
from core.engine.verdict import Judge
from core.ordered import Order, starting
from core.record import events as e
from core.record.budget import SessionBudget
from core.record.errors import EditError, ProposalFailed, ResearcherMisconfigured, ScriptEnded
from core.record.sample import mean
from core.record.slot_time import device_time, dollars
from core.record.state import BASELINE, HUMAN, Experiment, State
from core.research.protocol import Researcher

RECENT_PROPOSALS = 5  # whose cost says what the next may cost


def _counts(x: Experiment) -> bool:
    return bool(x.commit or x.verdict == "rejected" or (x.verdict and x.researcher != HUMAN))


COUNTED: Order[Experiment] = Order(lambda x: 0 if x.number != BASELINE and _counts(x) else None)
BY_RESEARCHER: Order[Experiment] = Order(
    lambda x: (x.researcher,) if x.number != BASELINE and (x.commit or x.verdict) else None
)


@dataclass(eq=False)
class Lookahead(EnginePart):
    """The engine's thinking. A thought is the work on one proposal, from the brief to the commit. There are as many at
    once as the queue has room for, the researcher can have, and the slots need.
    """

    lifecycle: Lifecycle
    judge: Judge
    proposer: Proposer
    program_file: ProgramFile
    slots: Slots

    def __post_init__(self) -> None:
        self._thoughts: dict[int, asyncio.Task[None]] = {}  # by experiment, the oldest first
        self._begun_in: dict[int, int] = {}  # `Lifecycle.resumed` when each thought began
        self._skipped: set[int] = set()  # their thoughts were cancelled because the experiments are skipped
        self._failures = 0  # in a row
        self._rest: asyncio.Task[None] | None = None  # after several failures, when no thought begins
        self._waits_for_repair = False  # a researcher that cannot work pauses the session, and does not end it
        self._proven: Researcher | None = None  # the one that has made a proposal: another thinks alone at first
        self._expected: dict[int, float] = {}  # dollars of the next answer, of thoughts that may ask for one
        self._unknown_price_logged = False
        self._time_over = self._said_short = False
        self.stuck = False  # the researcher cannot work until a person has put something right

    @property
    def about(self) -> tuple[int, ...]:
        """The experiments that are thought about, from their briefs on, the oldest thought first."""
        return tuple(number for number, thought in self._thoughts.items() if not thought.done())

    @property
    def busy(self) -> bool:
        """Whether a proposal is being made or is still to be made. An engine started for one task leaves it undone."""
        return not self.setup.only_task and bool(self._thoughts or self._unproposed())

    def cancel(self, number: int | None = None) -> None:
        """Cancel a thought, or all. It is begun again unless the session is about to end."""
        for about, thought in self._thoughts.items():
            if number in (None, about):
                thought.cancel()

    def skip(self, number: int) -> None:
        """Cancel the thought about `number`, and end this experiment as skipped."""
        self._skipped.add(number)
        self.cancel(number)

    def researcher_changed(self) -> None:
        """Another researcher proposes once the present thoughts have ended. One that waits for a person ends now."""
        self._waits_for_repair = True
        if self._waits_for_person:
            self.cancel()

    async def think_on(self, carry: Callable[[int], None]) -> None:
        """Make proposals until cancelled. `carry` takes an experiment with a commit to its verdict."""
        try:
            while True:
                for number in [n for n, thought in self._thoughts.items() if thought.done()]:
                    await self._after(number, self._thoughts[number])
                    del self._thoughts[number]
                    if self.state.experiments[number].commit and number in self.state.live:
                        carry(number)  # it was cancelled as it was committed
                    self.lifecycle.wake()
                if not self._may_think() or not await self._begin(carry):
                    await self._say_time_is_short()
                    rest = [self._rest] if self._rest and not self._rest.done() else []
                    await self._anything((*self._thoughts.values(), *rest))
        finally:
            rest = [self._rest] if self._rest else []
            for task in (*self._thoughts.values(), *rest):
                task.cancel()
            await asyncio.gather(*self._thoughts.values(), *rest, return_exceptions=True)
            self._thoughts.clear()

    async def _begin(self, carry: Callable[[int], None]) -> bool:
        """Begin a thought. False when none may begin before something changes."""
        if not self._thoughts:
            await self.settings.take_over_researcher()
        await self.program_file.look()
        if not self._may_think():
            return True  # something has changed meanwhile
        number = self._next_number()
        if not await self._affordable(number):
            self.lifecycle.wake()
            return False
        number = await self.proposer.begin(self._next_number)
        if self.state.experiments[number].verdict is None:  # else it was skipped as soon as it was begun
            self._skipped.discard(number)
            self.stuck = False
            self._begun_in[number] = self.lifecycle.resumed
            self._thoughts[number] = asyncio.create_task(self._think(number, carry))
        return True

    async def _anything(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        """Wait until something changes, or one of these tasks ends."""
        changed = asyncio.create_task(self.journal.changed())
        woken = asyncio.create_task(self.lifecycle.woken())
        try:
            await asyncio.wait({changed, woken, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            woken.cancel()

    # --- how many at once ---

    def _may_think(self) -> bool:
        """Whether the session runs, and another thought is wanted."""
        if self.state.state != "running" or self.lifecycle.stopping or self._enough():
            return False
        if self._rest is not None and not self._rest.done():
            return False
        if self._thoughts and self.settings.next_researcher is not None:
            return False
        return len(self._thoughts) < self._wanted()

    def _wanted(self) -> int:
        """The number of thoughts that the queue has room for, that the researcher can have at once, and that the slots
        need: more than one only where waiting proposals run short.

        Proposals that wait for a person do not count, so that other slots go on; there are as many as slots at most.
        """
        state, slots = self.state, len(self.settings.slots)
        idle = max(0, self.slots.free - len(state.ready))
        if state.timed and state.baseline is None:
            idle = 0  # nothing runs beside the baseline
        queue = self.program.queue or slots + 1
        room = queue + idle - len(state.ready)
        if state.approvals or state.approve:
            room = min(room, slots - len(state.approvals))
        if (more := self._time_for()) is not None:
            room = min(room, more)
        return min(room, self._minds(), max(1, idle, self._pace(slots)))

    def _time_for(self) -> int | None:
        """The number of thoughts whose runs can begin before the session's time is over; None: it is no limit."""
        left = seconds_left(self.state, self.settings.budget, now())
        if self._waits_for_person or left is None or left <= 0:
            return None
        if (thought_seconds(self.state) or 0.0) >= left:
            return 0
        runs = runs_to_begin(self.state, now(), left)
        return None if runs is None else max(0, runs - len(self.state.queue))

    async def _say_time_is_short(self) -> None:
        """Log once that no more proposals are made, as their runs could not begin."""
        if self._said_short or self._thoughts or self._time_for() != 0:
            return
        self._said_short = True
        text = "no more proposals are made: their runs could not begin before the session's time is over"
        await self.journal.write(e.Noted("info", text))

    def _minds(self) -> int:
        """The number of thoughts that the researcher may have at once."""
        researcher = self.settings.researcher
        if self._waits_for_person or researcher is not self._proven:
            return 1
        return self.program.minds or researcher.minds

    def _pace(self, slots: int) -> int:
        """The number of clocks that end during one thought, as of late: all else that runs take may be hidden."""
        made = islice(reversed(self.state.experiments.values()), RECENT)
        thought = thought_seconds(self.state)
        runs = [r.on_clock for x in made for r in x.runs[:1] if r.ended == "done" and r.on_clock > 0]
        if thought is None or not runs:
            return 1
        return math.ceil(slots * thought / mean(runs))

    def _enough(self) -> bool:
        """Whether as many experiments are judged or under way as a person asked for before a stop."""
        state = self.state
        idle = self._unproposed() if self._waits_for_person else []
        under_way = sum(n != BASELINE and n not in idle for n in state.live)
        return state.stop_at is not None and state.judged + under_way >= state.stop_at and not self._left()

    def _next_number(self) -> int:
        """The experiment whose thought was cut off, or a new one."""
        left = self._left()
        return left[0] if left else max(1, self.state.next_experiment)

    def _left(self) -> list[int]:
        """Live experiments without a commit that nobody thinks about."""
        return [n for n in self._unproposed() if n not in self._thoughts]

    def _unproposed(self) -> list[int]:
        """Live experiments without a commit: thought about, cut off in thought, to be repaired, or returned."""
        return [n for n in self.state.live if n != BASELINE and not self.state.experiments[n].commit]

    # --- the budget ---

    async def _affordable(self, number: int) -> bool:
        """Whether the budget allows `number`. A repair belongs to an experiment that is counted already, and so does
        what was returned. While others are thought about, the end of the budget waits for theirs.
        """
        x = self.state.experiments.get(number)
        if x is None or not (x.repairs or x.returns):
            reason = self._spent(number) or self.settings.researcher.ended(self.state, number)
            if reason and self._thoughts:
                return False
            if reason and self.lifecycle.ending is None:
                self.lifecycle.finish(reason)
            return self.lifecycle.ending is None
        spent = self._spent(number, counting=False)
        if spent and not self._thoughts:
            first, line, rest = x.reason.partition("\n")  # the hint stands below
            word = "repaired" if x.runs else "proposed again"
            await self.judge.settle(
                number, "crashed" if x.runs else "abandoned", f"{first} (not {word}: {spent}){line}{rest}"
            )
        return not spent

    def _spent(self, number: int | None = None, *, counting: bool = True) -> str | None:
        """Why experiment `number` may not begin, or None. The others that are made or wait count as if they had run.
        Without `counting`: hours and dollars only.
        """
        state, at = self.state, now()
        each = _next_cost(state, self.settings.researcher.name)
        others = [n for n in self._unproposed() if n != number]
        to_come = sum(max(0.0, each - state.experiments[n].usd) for n in others if n in self._thoughts)
        device = device_time(state, at)[1] / state.judged if state.judged else 0.0
        begun = self._begun() + (0 if self._waits_for_person else len(others))
        return self.settings.budget.exhausted(
            seconds=state.seconds(at), experiments=begun if counting else -1, usd=dollars(state, at),
            next_usd=each + to_come + device * (1 + len(self._thoughts) + len(state.queue)),
        )  # fmt: skip

    def _begun(self) -> int:
        """Number of experiments that the budget counts: those with a commit, and those that failed to get one.

        What waited for a person and got none is no experiment.
        """
        return len(self.state.experiments.places(COUNTED))

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
        spent, was_over = self._time_spent(), self._time_over
        self._time_over = spent is not None
        if spent and not was_over and not self.lifecycle.stopping:
            self.lifecycle.finish(spent)  # it may have begun to finish for another reason
            self.cancel()
            return True
        self._watch_dollars()
        waits = self._waits_for_person and bool(self._thoughts) and self.lifecycle.ending is None
        if waits and (spent := self._spent()):
            self.lifecycle.finish(spent)
            self.cancel()
        return False

    def _time_spent(self) -> str | None:
        """Why no further run may begin, or None: the hours are spent, or the dollars where a device has a price."""
        budget = self.settings.budget
        timed = SessionBudget(hours=budget.hours, usd=budget.usd if budget.device_usd_per_hour else None)
        return timed.exhausted(seconds=self.state.seconds(now()), experiments=0, usd=dollars(self.state, now()))

    def _watch_dollars(self, next_usd: float = 0.0, number: int | None = None) -> None:
        """Cancel the thought about `number`, or all, when the dollars do not allow another answer, which may cost
        `next_usd`.
        """
        spent = self._dollars_spent(next_usd)
        if spent and self.busy and (self.lifecycle.ending is None or number is not None):
            self.lifecycle.finish(spent)
            self.cancel(number)

    def _dollars_spent(self, next_usd: float) -> str | None:
        budget, usd = SessionBudget(usd=self.settings.budget.usd), dollars(self.state, now())
        return budget.exhausted(seconds=0.0, experiments=0, usd=usd, next_usd=next_usd, unit="answer")

    async def _may_ask(self, number: int, next_usd: float) -> None:
        """Wait until the dollars allow an answer, which may cost `next_usd`, beside those of the older thoughts."""
        self._expected[number] = next_usd
        while True:
            self._watch_dollars(next_usd, number)
            older = sum(usd for n, usd in self._expected.items() if n < number)
            if not older or not self._dollars_spent(next_usd + older):
                return
            await self._anything(())

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
        try:
            await self.proposer.propose(number, partial(self._may_ask, number))
        finally:
            self._expected.pop(number, None)
        self._waits_for_repair, self._proven, self._failures = True, self.settings.researcher, 0
        await self._log_unknown_price()
        carry(number)

    async def _after(self, number: int, thought: asyncio.Task[None]) -> None:
        """Deal with how a thought ended."""
        if thought.cancelled():
            await self._cancelled(number)
            return
        error = thought.exception()
        if error is None:
            return
        if isinstance(error, ScriptEnded):
            self.lifecycle.finish(error.what)
            await self.judge.settle(number, "abandoned", error.what)
        elif isinstance(error, (EditError, ProposalFailed)):
            where = f"{error.where}: " if error.where else ""
            await self.judge.settle(number, "rejected", where + error.what)
            self._failures += 1
            if self.settings.researcher.can_repair:
                self._rest = asyncio.create_task(back_off(self.journal, self._failures))
        elif isinstance(error, ResearcherMisconfigured):
            if self._begun_in.get(number) == self.lifecycle.resumed:  # else it began before a person put it right
                await self._misconfigured(error)
        else:
            raise error

    async def _cancelled(self, number: int) -> None:
        ending, x = self.lifecycle.ending, self.state.experiments[number]
        if number in self._skipped:
            await self.judge.settle(number, "skipped", "skipped while it was being thought about")
        elif ending is not None and ending.kind == "finished" and not (x.repairs or x.returns):
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
    by_researcher = state.experiments.places(BY_RESEARCHER)
    own = starting(by_researcher, researcher)
    newest = by_researcher[max(own.start, own.stop - RECENT_PROPOSALS) : own.stop]
    return max((state.experiments[number].usd for _, number in newest), default=0.0)
