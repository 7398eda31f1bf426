"""Pause, resume, skip and stop."""

from __future__ import annotations

from dataclasses import dataclass

from core.engine.commands.dispatch import Handlers, LoopControl
from core.engine.commands.setting_changes import SettingChanges
from core.engine.ending import RUN_PAUSED
from core.engine.lifecycle import Lifecycle
from core.engine.proposing.lookahead import Lookahead
from core.engine.runs.run import Runs
from core.engine.startup.setup import EnginePart
from core.record import commands as c
from core.record import events as e
from core.record.errors import CommandRefused
from core.record.state import BASELINE
from core.text import plural


@dataclass(eq=False)
class LifecycleCommands(EnginePart):
    """Carries out these commands; each answers with a sentence or raises CommandRefused."""

    lifecycle: Lifecycle
    runs: Runs
    lookahead: Lookahead
    changes: SettingChanges
    loop: LoopControl

    @property
    def handlers(self) -> Handlers:
        return {c.Pause: self._pause, c.Resume: self._resume, c.Skip: self._skip, c.Stop: self._stop}

    async def _pause(self, command: c.Pause) -> str:
        self.lifecycle.refuse_when_stopping()
        running = [live for live in self.runs.live.values() if live.ending is None and not live.waits]
        if self.state.state == "paused" and not (command.now and running):
            raise CommandRefused("the session is paused already")
        await self.lifecycle.pause("asked by a person")
        runs = plural(len(running), "run")
        if not command.now:
            return f"paused: {runs} in progress will end and be judged, nothing new starts"
        for live in running:
            live.end(RUN_PAUSED)
        return f"paused: {runs} cut off, to be run again when the session is resumed"

    async def _resume(self, _: c.Resume) -> str:
        self.lifecycle.refuse_when_stopping()
        state = self.state
        if state.state == "running":
            if state.aside:
                return await self._look_at_cards()
            if state.stop_at is None:
                raise CommandRefused("the session is running already")
            await self.journal.write(e.StateChanged("running", stop_at=0))
            return "the session continues, and will not stop by itself"
        await self.changes.reconnect()
        if left := await self.runs.cards.look_at_all():
            raise CommandRefused(f"no slot can be used: {left}", hint="nvidia-smi shows what is wrong with the card")
        if broken := await self.runs.place.broken_sandbox():
            raise CommandRefused(broken, hint="put it right; or stop and resume, which takes the best tier here")
        await self.lifecycle.resume()
        return "resumed"

    async def _look_at_cards(self) -> str:
        """Look at once at the cards set aside."""
        aside = dict(self.state.aside)
        await self.runs.cards.look_at_all()
        back = [slot for slot in aside if slot not in self.state.aside]
        if not back:
            said = "; ".join(f"{slot}: {trouble}" for slot, trouble in aside.items())
            raise CommandRefused(
                f"no slot set aside works: {said}", hint="nvidia-smi shows what is wrong with the card"
            )
        return f"runs go to {' '.join(back)} again"

    async def _skip(self, command: c.Skip) -> str:
        self.lifecycle.refuse_when_stopping()
        number = command.experiment if command.experiment is not None else self._longest()
        if number is None:
            raise CommandRefused("nothing is being thought about or running")
        if number == BASELINE:
            raise CommandRefused("the baseline cannot be skipped: there would be nothing to compare with")
        x = self.state.experiments.get(number)
        if x is None:
            raise CommandRefused(f"there is no experiment {number}")
        if x.verdict is not None:
            raise CommandRefused(f"experiment {number} has its verdict already: {x.verdict}")
        await self.loop.skip(number)
        return f"experiment {number} is being skipped"

    def _longest(self) -> int | None:
        """The experiment that has run longest; with none running, the one being thought about."""
        running = [live for live in self.runs.live.values() if live.experiment != BASELINE and not live.waits]
        if running:
            return min(running, key=lambda live: live.started).experiment
        return next(iter(self.lookahead.about), None)

    async def _stop(self, command: c.Stop) -> str:
        if self.lifecycle.stopping and not command.now:
            raise CommandRefused("the session is stopping already; stop --now kills the runs")
        if command.after is not None and not command.now:
            return await self._stop_after(command.after)
        reason = "stopped by a person" + (", runs killed" if command.now else "")
        running = await self.loop.stop(reason, now=command.now)
        if not running:
            return "stopping now: nothing is running"
        runs = plural(running, "run")
        if command.now:
            return f"stopping now: {runs} killed, to be run again when the session is resumed"
        return f"stopping after {runs}"

    async def _stop_after(self, more: int) -> str:
        if more < 1:
            raise CommandRefused(f"after {more} experiments is now", hint="stop without --after, or after at least 1")
        state = self.state
        stop_at = state.judged + more
        reason = f"stops once {plural(stop_at, 'experiment')} have their verdict"
        await self.journal.write(e.StateChanged(state.state, reason, stop_at))
        self.lifecycle.wake()
        return f"the session stops after {plural(more, 'more experiment')}; resume takes this back"
