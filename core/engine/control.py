"""What a person may ask of a running session: each request is accepted with a sentence, or refused with the reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from core.engine.loop import Loop
from core.record import commands as c
from core.record import events as e
from core.record.commands import Command, Reply
from core.record.errors import CommandRefused

TEXT_LIMIT = 20_000


class Control:
    """Carries out commands on the loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._handlers: dict[type, Callable[[Any], Awaitable[str]]] = {
            c.Pause: self._pause,
            c.Resume: self._resume,
            c.Skip: self._skip,
            c.Stop: self._stop,
            c.Steer: self._steer,
            c.Withdraw: self._withdraw,
            c.Approve: self._approve,
            c.Reject: self._reject,
            c.Certify: self._certify,
            c.Reproduce: self._reproduce,
        }

    async def handle(self, command: Command) -> Reply:
        """Raises CommandRefused with the reason."""
        trouble = self._loop.journal.held_up()
        if trouble:
            mend = "free some space: the engine then goes on by itself, and nothing is lost"
            raise CommandRefused(trouble, mend=mend)
        handler = self._handlers.get(type(command))
        if handler is None:
            raise CommandRefused("this engine does not do that", mend="stop it and start it again with this version")
        return Reply(True, await handler(command))

    def _refuse_when_ending(self) -> None:
        if self._loop.stopping:
            raise CommandRefused("the session is stopping")

    async def _pause(self, _: c.Pause) -> str:
        self._refuse_when_ending()
        loop = self._loop
        if loop.state.state == "paused":
            raise CommandRefused("the session is paused already")
        loop.slots.close()
        await loop.journal.write(e.StateChanged("paused", "asked by a person"))
        running = len(loop.runs.live)
        return f"paused: {running} running job{'s' * (running != 1)} will end and be judged, nothing new starts"

    async def _resume(self, _: c.Resume) -> str:
        self._refuse_when_ending()
        loop = self._loop
        if loop.state.state == "running":
            raise CommandRefused("the session is running already")
        await loop.journal.write(e.StateChanged("running"))
        loop.slots.open()
        loop.wake()
        return "resumed"

    async def _skip(self, command: c.Skip) -> str:
        self._refuse_when_ending()
        loop = self._loop
        number = command.experiment if command.experiment is not None else self._longest()
        if number is None:
            raise CommandRefused("nothing is being thought about or running")
        if number == 0:
            raise CommandRefused("the baseline cannot be skipped: there would be nothing to compare with")
        x = loop.state.experiments.get(number)
        if x is None:
            raise CommandRefused(f"there is no experiment {number}")
        if x.verdict is not None:
            raise CommandRefused(f"experiment {number} has its verdict already: {x.verdict}")
        loop.skipped.add(number)
        live = [live for live in loop.runs.live.values() if live.experiment == number]
        for run in live:
            run.end("skip")
        thought = loop.thinker.now
        if thought is not None and thought.experiment == number:
            loop.ahead.cancel()
        elif not live and number not in loop.judge.busy:
            await loop.abandon(number, "skipped before it ran", "skipped")
        return f"experiment {number} is being skipped"

    def _longest(self) -> int | None:
        """The experiment that has run longest; with none running, the one being thought about."""
        running = [live for live in self._loop.runs.live.values() if live.experiment != 0]
        if running:
            return min(running, key=lambda live: live.started).experiment
        thought = self._loop.thinker.now
        return thought.experiment if thought else None

    async def _stop(self, command: c.Stop) -> str:
        loop = self._loop
        if loop.stopping and not command.now:
            raise CommandRefused("the session is stopping already; stop --now does not wait for running jobs")
        loop.stopping = "stopped by a person" + (", running jobs killed" if command.now else "")
        loop.slots.drain()
        loop.ahead.cancel()
        if loop.state.state != "stopping":
            await loop.journal.write(e.StateChanged("stopping", loop.stopping))
        running = list(loop.runs.live.values())
        if command.now:
            for live in running:
                live.end("stop")
        loop.wake()
        if not running:
            return "stopping now: nothing is running"
        jobs = f"{len(running)} running job{'s' * (len(running) != 1)}"
        if command.now:
            return f"stopping now: {jobs} killed, to be run again when the session is resumed"
        return f"stopping after {jobs}"

    async def _steer(self, command: c.Steer) -> str:
        self._refuse_when_ending()
        text = command.text.strip()
        if not text:
            raise CommandRefused("there are no words to pass on")
        if len(text) > TEXT_LIMIT:
            raise CommandRefused(f"that is {len(text)} characters; at most {TEXT_LIMIT} are passed on")
        loop = self._loop
        number = loop.state.next_guidance
        await loop.journal.write(e.GuidanceQueued(number, text, command.standing))
        if command.now and loop.thinker.now is not None:
            experiment = loop.thinker.now.experiment
            loop.ahead.rethink = True
            loop.ahead.cancel()
            return f"guidance {number} interrupts the thinking about experiment {experiment}"
        waiting = sum(g.taken_by is None for g in loop.state.guidance.values())
        kept = ", and stays in force" if command.standing else ""
        return f"guidance {number} is queued for the next experiment{kept} ({waiting} in the queue)"

    async def _withdraw(self, command: c.Withdraw) -> str:
        guidance = self._loop.state.guidance.get(command.guidance)
        if guidance is None:
            raise CommandRefused(f"there is no guidance {command.guidance}")
        if guidance.taken_by is not None and not guidance.standing:
            raise CommandRefused(f"guidance {command.guidance} was taken by experiment {guidance.taken_by} already")
        await self._loop.journal.write(e.GuidanceWithdrawn(command.guidance))
        return f"guidance {command.guidance} is withdrawn"

    async def _approve(self, command: c.Approve) -> str:
        self._refuse_unasked(command.experiment)
        await self._loop.journal.write(e.ApprovalGiven(command.experiment, True))
        return f"experiment {command.experiment} is approved"

    async def _reject(self, command: c.Reject) -> str:
        self._refuse_unasked(command.experiment)
        reason = command.reason.strip() or "no reason given"
        await self._loop.journal.write(
            e.ApprovalGiven(command.experiment, False, reason),
            e.Judged(command.experiment, "rejected", None, None, f"turned down by a person: {reason}"),
        )
        return f"experiment {command.experiment} is rejected"

    async def _certify(self, command: c.Certify) -> str:
        self._refuse_when_ending()
        number = self._loop.errands.may_certify(command.experiment)
        self._loop.run_errand(self._loop.errands.certify(number))
        return f"experiment {number} is tested against the baseline on fresh seeds"

    async def _reproduce(self, command: c.Reproduce) -> str:
        self._refuse_when_ending()
        self._loop.errands.may_reproduce(command.experiment)
        self._loop.run_errand(self._loop.errands.reproduce(command.experiment))
        return f"experiment {command.experiment} is run again with its recorded seed"

    def _refuse_unasked(self, number: int) -> None:
        if number not in self._loop.state.approvals:
            waiting = ", ".join(map(str, self._loop.state.approvals)) or "none"
            raise CommandRefused(f"experiment {number} does not wait for approval (waiting: {waiting})")
