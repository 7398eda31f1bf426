"""Guidance, ideas, a person's own experiments, approvals, forks, pins and repeats."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from core.engine.commands.dispatch import Handlers, LoopControl
from core.engine.experiment import Experiments
from core.engine.lifecycle import Lifecycle
from core.engine.proposing.lookahead import Lookahead
from core.engine.proposing.proposer import Proposer
from core.engine.session_settings import approval_mode
from core.engine.startup.program_file import ProgramFile
from core.engine.startup.setup import EnginePart
from core.engine.verdict import Judge
from core.record import commands as c
from core.record import events as e
from core.record.errors import CommandRefused
from core.record.state import BASELINE, Experiment, Guidance, State, who
from core.text import plural

MAX_TEXT_CHARACTERS = 20_000
WITHOUT_LANGUAGE = ("control", "scripted")  # researchers that read no guidance


@dataclass(eq=False)
class GuidanceCommands(EnginePart):
    """Carries out these commands; each answers with a sentence or raises AutoresearchError."""

    lifecycle: Lifecycle
    judge: Judge
    experiments: Experiments
    proposer: Proposer
    lookahead: Lookahead
    program_file: ProgramFile
    loop: LoopControl
    _own: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)  # two at once would both have the last place

    @property
    def handlers(self) -> Handlers:
        return {
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

    # --- guidance ---

    def _checked(self, text: str) -> str:
        self.lifecycle.refuse_when_stopping()
        text = text.strip()
        if not text:
            raise CommandRefused("the message is empty")
        if len(text) > MAX_TEXT_CHARACTERS:
            raise CommandRefused(f"the message has {len(text)} characters; the limit is {MAX_TEXT_CHARACTERS}")
        return text

    def _unread(self) -> str:
        """A warning when the researcher reads no guidance."""
        name = self.state.researcher
        return f"; the researcher {name} does not read it, though" if name in WITHOUT_LANGUAGE else ""

    async def _steer(self, command: c.Steer) -> str:
        text = self._checked(command.text)
        number = self.state.next_guidance
        await self.journal.write(e.GuidanceQueued(guidance=number, text=text, standing=command.standing))
        about = self.lookahead.about
        if command.now and about:
            interrupted = about if command.standing else about[-1:]  # the one on which least was spent
            for experiment in interrupted:
                self.lookahead.cancel(experiment)
            which = f"experiment{'s' if len(interrupted) > 1 else ''} {', '.join(map(str, interrupted))}"
            return f"guidance {number} interrupts the thinking about {which}{self._unread()}"
        waiting = sum(g.taken_by is None for g in self.state.guidance.values())
        kept = ", and stays in force" if command.standing else ""
        return f"guidance {number} is queued for the next experiment{kept} ({waiting} in the queue){self._unread()}"

    async def _edit(self, command: c.EditGuidance) -> str:
        text = self._checked(command.text)
        self._queued(command.guidance)
        await self.journal.write(e.GuidanceEdited(command.guidance, text))
        return f"guidance {command.guidance} has its new text"

    def _queued(self, number: int) -> Guidance:
        guidance = self.state.guidance.get(number)
        if guidance is None:
            raise CommandRefused(f"there is no guidance {number}")
        if guidance.taken_by is not None:
            hint = "withdraw it, and steer again" if guidance.standing else "steer again"
            raise CommandRefused(f"guidance {number} was taken by experiment {guidance.taken_by} already", hint=hint)
        return guidance

    async def _withdraw(self, command: c.Withdraw) -> str:
        guidance = self.state.guidance.get(command.guidance)
        if guidance is None or not guidance.standing:
            self._queued(command.guidance)
        await self.journal.write(e.GuidanceWithdrawn(command.guidance))
        return f"guidance {command.guidance} is withdrawn"

    async def _idea(self, command: c.Idea) -> str:
        text = self._checked(command.text)
        number = self.state.next_guidance
        earlier = sum(g.idea and g.taken_by is None for g in self.state.guidance.values())
        await self.journal.write(e.GuidanceQueued(guidance=number, text=text, idea=True))
        place = "the next experiment" if not earlier else f"an experiment after {plural(earlier, 'earlier idea')}"
        return f"idea {number} is to be tried as {place}{self._unread()}"

    # --- a person's own experiments ---

    async def _propose(self, command: c.Propose) -> str:
        self._checked(command.hypothesis)
        if bool(command.edits) == bool(command.patch.strip()):
            raise CommandRefused("an experiment needs edits or a patch, and not both")
        await self.program_file.look()
        async with self._own:
            if spent := self.lookahead.refuses_own():
                raise CommandRefused(f"no more experiments begin: {spent}", hint="raise the budget first")
            number = await self.proposer.own(command)
        self.loop.carry(number)
        x = self.state.experiments[number]
        return f"your experiment is #{number}, on {who(x.parent)}: +{x.added} −{x.removed} in {', '.join(x.files)}"

    # --- approvals ---

    def _refuse_unasked(self, number: int) -> None:
        self.lifecycle.refuse_when_stopping()
        if number not in self.state.approvals:
            waiting = ", ".join(map(str, self.state.approvals)) or "none"
            raise CommandRefused(f"experiment {number} does not wait for approval (waiting: {waiting})")

    async def _approve(self, command: c.Approve) -> str:
        number = command.experiment
        self._refuse_unasked(number)
        if command.edits:
            await self.proposer.amend(number, command.edits)
        else:
            await self.journal.write(e.ApprovalGiven(number, True))
        done = f"experiment {number} is approved" + (" with your edits" if command.edits else "")
        if not command.all:
            return done
        waiting = waiting_for_approval(self.state)
        await self.journal.write(*approval_mode(self.state, False))
        return f"{done}, and so is {waiting}"

    async def _reject(self, command: c.Reject) -> str:
        number, reason = command.experiment, command.reason.strip() or "no reason given"
        self._refuse_unasked(number)
        words = f"rejected by a person: {reason}"
        judged = e.Judged(experiment=number, verdict="rejected", metric=None, delta=None, reason=words)
        await self.journal.write(e.ApprovalGiven(number, False, reason), judged)
        return f"experiment {number} is rejected"

    # --- the parent of proposals ---

    def _experiment(self, number: int) -> Experiment:
        x = self.state.experiments.get(number)
        if x is None:
            raise CommandRefused(f"there is no experiment {number}")
        return x

    async def _fork(self, command: c.Fork) -> str:
        number, state = command.experiment, self.state
        self.lifecycle.refuse_when_stopping()
        if number is None or number == state.best:
            if state.base is None:
                raise CommandRefused(f"proposals build on the best, {who(state.best)}, already")
            await self.journal.write(e.BaseChanged(None))
            return f"from the next experiment on proposals build on the best again, {who(state.best)}"
        x = self._experiment(number)
        if number == state.base:
            raise CommandRefused(f"proposals build on {who(number)} already")
        if number in state.pinned:
            raise CommandRefused(f"{who(number)} is pinned, never to be built on", hint="take the pin off first")
        if not x.commit and number != BASELINE:
            raise CommandRefused(f"experiment {number} changed nothing that could be built on ({x.verdict or x.phase})")
        await self.journal.write(e.BaseChanged(number))
        return f"from the next experiment on proposals build on {who(number)}, and are judged against the best"

    async def _pin(self, command: c.Pin) -> str:
        number = command.experiment
        self.lifecycle.refuse_when_stopping()
        if number == BASELINE:
            raise CommandRefused("the baseline cannot be pinned: something must be left to build on")
        self._experiment(number)
        if command.pinned == (number in self.state.pinned):
            raise CommandRefused(f"experiment {number} is {'pinned already' if command.pinned else 'not pinned'}")
        before = self.state.parent
        await self.journal.write(e.PinChanged(number, command.pinned))
        await self.judge.follow()
        done = f"experiment {number} is " + ("never built on" if command.pinned else "no longer pinned")
        after = self.state.parent
        return done if after == before else f"{done}; proposals now build on {who(after)}"

    async def _repeat(self, command: c.Repeat) -> str:
        self.lifecycle.refuse_when_stopping()
        x = self._experiment(command.experiment)
        if x.number in self.state.live:
            raise CommandRefused(f"{who(x.number)} has no final verdict yet ({x.phase}), and is repeated until it has")
        if not x.values:
            raise CommandRefused(f"experiment {x.number} has no result to repeat ({x.verdict})")
        self.loop.run_beside(self.experiments.run_again(x.number))
        return f"{who(x.number)} is run once more with a fresh seed"


def waiting_for_approval(state: State) -> str:
    """The experiments that run when approval mode is turned off, in words."""
    waiting = ", #".join(map(str, state.approvals))
    return f"what waits (#{waiting}) and what comes" if waiting else "what comes"
