"""Steering: guidance, ideas and experiments of a person's own, approvals, and what is built on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from core.engine.loop import Loop
from core.engine.runs.slots import Urgency
from core.record import commands as c
from core.record import events as e
from core.record.errors import AutoresearchError, CommandRefused
from core.record.metric import format_metric
from core.record.state import BASELINE, Experiment, Guidance, who

TEXT_LIMIT = 20_000  # characters
READS_NO_WORDS = ("control", "scripted")  # researchers


class Steering:
    """Carries out these commands on the loop; each answers with a sentence or raises CommandRefused."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.handlers: Mapping[type, Callable[[Any], Awaitable[str]]] = {
            c.Steer: self._steer,
            c.EditGuidance: self._edit,
            c.Withdraw: self._withdraw,
            c.Idea: self._idea,
            c.Propose: self._propose,
            c.Approve: self._approve,
            c.Reject: self._reject,
            c.Fork: self._fork,
            c.Pin: self._pin,
            c.Repeat: self._repeat,
        }

    # Words

    def _words(self, text: str) -> str:
        self._loop.refuse_when_ending()
        text = text.strip()
        if not text:
            raise CommandRefused("there are no words to pass on")
        if len(text) > TEXT_LIMIT:
            raise CommandRefused(f"that is {len(text)} characters; at most {TEXT_LIMIT} are passed on")
        return text

    def _deaf(self) -> str:
        """A word of warning where nobody reads words."""
        name = self._loop.state.researcher
        return f"; the researcher {name} reads no words, though" if name in READS_NO_WORDS else ""

    async def _steer(self, command: c.Steer) -> str:
        text, loop = self._words(command.text), self._loop
        number = loop.state.next_guidance
        await loop.journal.write(e.GuidanceQueued(guidance=number, text=text, standing=command.standing))
        if command.now and (experiment := self._rethink()) is not None:
            return f"guidance {number} interrupts the thinking about experiment {experiment}{self._deaf()}"
        waiting = sum(g.taken_by is None for g in loop.state.guidance.values())
        kept = ", and stays in force" if command.standing else ""
        return f"guidance {number} is queued for the next experiment{kept} ({waiting} in the queue){self._deaf()}"

    def _rethink(self) -> int | None:
        """Begin the present thought again; which experiment it is about, None when nothing is thought of."""
        thought = self._loop.thinker.now
        if thought is None:
            return None
        self._loop.ahead.rethink = True
        self._loop.ahead.cancel()
        return thought.experiment

    async def _edit(self, command: c.EditGuidance) -> str:
        text = self._words(command.text)
        self._queued(command.guidance)
        await self._loop.journal.write(e.GuidanceEdited(command.guidance, text))
        return f"guidance {command.guidance} has its new words"

    def _queued(self, number: int) -> Guidance:
        guidance = self._loop.state.guidance.get(number)
        if guidance is None:
            raise CommandRefused(f"there is no guidance {number}")
        if guidance.taken_by is not None:
            hint = "withdraw it, and steer again" if guidance.standing else "steer again"
            raise CommandRefused(f"guidance {number} was taken by experiment {guidance.taken_by} already", hint=hint)
        return guidance

    async def _withdraw(self, command: c.Withdraw) -> str:
        guidance = self._loop.state.guidance.get(command.guidance)
        if guidance is None or not guidance.standing:
            self._queued(command.guidance)
        await self._loop.journal.write(e.GuidanceWithdrawn(command.guidance))
        return f"guidance {command.guidance} is withdrawn"

    async def _idea(self, command: c.Idea) -> str:
        text, loop = self._words(command.text), self._loop
        number = loop.state.next_guidance
        ahead = sum(g.idea and g.taken_by is None for g in loop.state.guidance.values())
        await loop.journal.write(e.GuidanceQueued(guidance=number, text=text, idea=True))
        place = "the next experiment" if not ahead else f"an experiment after {ahead} earlier idea{'s' * (ahead != 1)}"
        return f"idea {number} is to be tried as {place}{self._deaf()}"

    # A person's own experiments

    async def _propose(self, command: c.Propose) -> str:
        loop = self._loop
        self._words(command.hypothesis)
        if bool(command.edits) == bool(command.patch.strip()):
            raise CommandRefused("an experiment needs edits or a patch, and not both")
        await loop.changes.follow_program()
        if spent := loop.exhausted or loop.ahead.spent_for_own():
            raise CommandRefused(f"no more experiments begin: {spent}", hint="raise the budget first")
        try:
            number = await loop.thinker.own(command)
        except AutoresearchError as error:
            raise CommandRefused(error.what, where=error.where, hint=error.hint) from error
        loop.carry(number)
        x = loop.state.experiments[number]
        return f"your experiment is #{number}, on {who(x.parent)}: +{x.added} −{x.removed} in {', '.join(x.files)}"

    # Approvals

    def _refuse_unasked(self, number: int) -> None:
        self._loop.refuse_when_ending()
        if number not in self._loop.state.approvals:
            waiting = ", ".join(map(str, self._loop.state.approvals)) or "none"
            raise CommandRefused(f"experiment {number} does not wait for approval (waiting: {waiting})")

    async def _approve(self, command: c.Approve) -> str:
        number, loop = command.experiment, self._loop
        self._refuse_unasked(number)
        if command.edits:
            try:
                await loop.thinker.amend(number, command.edits)
            except AutoresearchError as error:
                raise CommandRefused(error.what, where=error.where, hint=error.hint) from error
        else:
            await loop.journal.write(e.ApprovalGiven(number, True))
        said = f"experiment {number} is approved" + (" with your edits" if command.edits else "")
        return f"{said}, and so is {await loop.changes.approve_mode(False)}" if command.all else said

    async def _reject(self, command: c.Reject) -> str:
        self._refuse_unasked(command.experiment)
        reason = command.reason.strip() or "no reason given"
        await self._loop.journal.write(
            e.ApprovalGiven(command.experiment, False, reason),
            e.Judged(
                experiment=command.experiment,
                verdict="rejected",
                metric=None,
                delta=None,
                reason=f"turned down by a person: {reason}",
            ),
        )
        return f"experiment {command.experiment} is rejected"

    # What is built on

    def _experiment(self, number: int) -> Experiment:
        x = self._loop.state.experiments.get(number)
        if x is None:
            raise CommandRefused(f"there is no experiment {number}")
        return x

    async def _fork(self, command: c.Fork) -> str:
        loop, number = self._loop, command.experiment
        loop.refuse_when_ending()
        state = loop.state
        if number is None or number == state.best:
            if state.base is None:
                raise CommandRefused(f"proposals build on the best, {who(state.best)}, already")
            await loop.journal.write(e.BaseChanged(None))
            return f"from the next experiment on proposals build on the best again, {who(state.best)}"
        x = self._experiment(number)
        if number == state.base:
            raise CommandRefused(f"proposals build on {who(number)} already")
        if number in state.pinned:
            raise CommandRefused(f"{who(number)} is pinned, never to be built on", hint="take the pin off first")
        if not x.commit and number != BASELINE:
            raise CommandRefused(f"experiment {number} changed nothing that could be built on ({x.verdict or x.phase})")
        await loop.journal.write(e.BaseChanged(number))
        return f"from the next experiment on proposals build on {who(number)}, and are judged against the best"

    async def _pin(self, command: c.Pin) -> str:
        loop, number = self._loop, command.experiment
        loop.refuse_when_ending()
        if number == BASELINE:
            raise CommandRefused("the baseline cannot be pinned: something must be left to build on")
        self._experiment(number)
        if command.pinned == (number in loop.state.pinned):
            raise CommandRefused(f"experiment {number} is {'pinned already' if command.pinned else 'not pinned'}")
        before = loop.state.parent
        await loop.journal.write(e.PinChanged(number, command.pinned))
        await loop.judge.follow()
        said = f"experiment {number} is " + ("never built on" if command.pinned else "no longer pinned")
        after = loop.state.parent
        return said if after == before else f"{said}; proposals now build on {who(after)}"

    async def _repeat(self, command: c.Repeat) -> str:
        loop = self._loop
        loop.refuse_when_ending()
        x = self._experiment(command.experiment)
        if x.number in loop.state.live:
            raise CommandRefused(f"{who(x.number)} has no last word yet ({x.phase}): it is run as often as that needs")
        if not x.values:
            raise CommandRefused(f"experiment {x.number} has no result to repeat ({x.verdict})")
        loop.run_errand(self._once_more(x.number, x.commit or loop.setup.commit))
        return f"{who(x.number)} is run once more with a fresh seed"

    async def _once_more(self, number: int, commit: str) -> None:
        loop = self._loop
        run = await loop.runs.execute(number, "repeat", commit, Urgency.REPEAT)
        if number != BASELINE:
            loop.clean(number)
        x, noise = loop.state.experiments[number], loop.judge.noise(loop.state)
        facts: list[e.Body] = []
        if run.metric is not None:
            pooled = f"{format_metric(x.metric)} over {len(x.values)} runs"
            facts.append(e.Noted("info", f"{who(number)} repeated: {format_metric(run.metric)}, {pooled}", number))
        if loop.state.noise is not None and loop.state.noise.df != noise.df:
            facts.append(e.NoiseEstimated(sigma=noise.sigma, low=noise.low, high=noise.high, df=noise.df))
        await loop.journal.write(*facts)
