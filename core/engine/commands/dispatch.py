"""What a person may ask of a running session: each request is accepted with a sentence, or refused with the reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from core.engine.commands.guidance import Steering
from core.engine.loop import Loop
from core.record import commands as c
from core.record import events as e
from core.record.commands import Command, Reply
from core.record.errors import CommandRefused


class Control:
    """Carries out commands on the loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._handlers: dict[type, Callable[[Any], Awaitable[str]]] = {
            c.Pause: self._pause,
            c.Resume: self._resume,
            c.Skip: self._skip,
            c.Stop: self._stop,
            c.Certify: self._certify,
            c.Reproduce: self._reproduce,
            **Steering(loop).handlers,
            **loop.changes.handlers,
        }

    async def handle(self, command: Command) -> Reply:
        """Raises CommandRefused with the reason."""
        trouble = self._loop.journal.held_up()
        if trouble:
            hint = "free some space: the engine then goes on by itself, and nothing is lost"
            raise CommandRefused(trouble, hint=hint)
        handler = self._handlers.get(type(command))
        if handler is None:
            raise CommandRefused("this engine does not do that", hint="stop it and start it again with this version")
        return Reply(True, await handler(command))

    async def _pause(self, command: c.Pause) -> str:
        loop = self._loop
        loop.refuse_when_ending()
        running = [live for live in loop.runs.live.values() if not live.wanted_end]
        if loop.state.state == "paused" and not (command.now and running):
            raise CommandRefused("the session is paused already")
        loop.slots.close()
        if loop.state.state != "paused":
            await loop.journal.write(e.StateChanged("paused", "asked by a person"))
        jobs = f"{len(running)} running job{'s' * (len(running) != 1)}"
        if not command.now:
            return f"paused: {jobs} will end and be judged, nothing new starts"
        for live in running:
            live.end("pause")
        return f"paused: {jobs} cut off, to be run again when the session goes on"

    async def _resume(self, _: c.Resume) -> str:
        loop = self._loop
        loop.refuse_when_ending()
        if loop.state.state == "running":
            if loop.state.stop_at is None:
                raise CommandRefused("the session is running already")
            await loop.journal.write(e.StateChanged("running", stop_at=0))
            return "it goes on: it will not stop by itself"
        await loop.changes.mend()
        await loop.journal.write(e.StateChanged("running"))
        loop.slots.open()
        loop.wake()
        return "resumed"

    async def _skip(self, command: c.Skip) -> str:
        self._loop.refuse_when_ending()
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
        if loop.ahead.about == number:
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
        if command.after is not None and not command.now:
            return await self._stop_after(command.after)
        running = list(loop.runs.live.values())
        await loop.stop("stopped by a person" + (", running jobs killed" if command.now else ""))
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

    async def _stop_after(self, more: int) -> str:
        loop = self._loop
        if more < 1:
            raise CommandRefused(f"after {more} experiments is now", hint="stop without --after, or after at least 1")
        stop_at = loop.state.judged + more
        reason = f"stops once {stop_at} experiment{'s' * (stop_at != 1)} have their verdict"
        await loop.journal.write(e.StateChanged(loop.state.state, reason, stop_at))
        loop.wake()
        return f"the session stops after {more} more experiment{'s' * (more != 1)}; resume takes this back"

    async def _certify(self, command: c.Certify) -> str:
        self._loop.refuse_when_ending()
        number = self._loop.errands.may_certify(command.experiment)
        self._loop.run_errand(self._loop.errands.certify(number))
        return f"experiment {number} is tested against the baseline on fresh seeds"

    async def _reproduce(self, command: c.Reproduce) -> str:
        self._loop.refuse_when_ending()
        self._loop.errands.may_reproduce(command.experiment)
        self._loop.run_errand(self._loop.errands.reproduce(command.experiment))
        return f"experiment {command.experiment} is run again with its recorded seed"
