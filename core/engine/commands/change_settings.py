"""What a person changes while a session runs: researcher, budgets, slots, approval; and program.md, by editing it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engine.session_settings import approval_mode
from core.engine.startup.program_file import ProgramFile
from core.engine.startup.setup import make_researcher
from core.lab import device
from core.record import commands as c
from core.record import events as e
from core.record.errors import AutoresearchError, CommandRefused
from core.record.state import HUMAN
from core.research.protocol import Researcher

if TYPE_CHECKING:
    from core.engine.loop import Loop


class Changes:
    """Carries out these commands on the loop. What was changed holds for the next engine too."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._next: Researcher | None = None  # takes over when the next experiment begins
        self._program = ProgramFile(loop.setup, loop.settings, loop.journal)
        self._looking = asyncio.Lock()
        self.handlers: Mapping[type, Callable[[Any], Awaitable[str]]] = {
            c.ChangeResearcher: self._researcher,
            c.ChangeBudget: self._budget,
            c.ChangeSlots: self._slots,
            c.ApproveMode: self._approve_mode,
        }

    async def before_next(self) -> None:
        """Called before each experiment begins: what was asked for meanwhile takes effect."""
        if self._next is not None:
            settings = self._loop.settings
            old, settings.researcher, self._next = settings.researcher, self._next, None
            with contextlib.suppress(Exception):
                await old.close()
        await self.follow_program()

    async def follow_program(self) -> None:
        """Go by program.md as it is now, where it was edited: budget and approval too."""
        async with self._looking:
            await self._program.look()

    def _reopen(self) -> None:
        """What had ended the session may not hold any more; an engine started for an errand does only that."""
        if not self._loop.setup.errand:
            self._loop.exhausted = ""

    # Who proposes

    async def _researcher(self, command: c.ChangeResearcher) -> str:
        loop = self._loop
        loop.refuse_when_ending()
        settings, script = loop.settings, command.script
        if script is not None and not Path(script).is_absolute():
            raise CommandRefused(f"{script!r} is no whole path", hint="name the script from / on")
        name = command.researcher or loop.state.researcher
        if script is None and name == loop.state.researcher:
            script = settings.options.script
        made = await self._make(name, command.model, script)
        if self._next is not None:
            await self._next.close()
        self._next = made
        settings.keep(researcher=name, model=command.model, script=script)
        loop.ahead.patient = True
        self._reopen()
        await loop.journal.write(e.ResearcherChanged(made.name, made.model))
        if settings.researcher.name == HUMAN:  # who waits for a person would do so for ever
            loop.ahead.rethink = True
            loop.ahead.cancel()
        loop.wake()
        model = f" ({made.model})" if made.model else ""
        return f"from the next experiment on {made.name}{model} proposes"

    async def _make(self, name: str | None, model: str | None, script: str | None) -> Researcher:
        options = replace(self._loop.settings.options, researcher=name, model=model, script=script)
        try:
            return await asyncio.to_thread(make_researcher, options, self._loop.setup.seed)
        except AutoresearchError as error:
            raise CommandRefused(error.what, where=error.where, hint=error.hint) from error

    async def mend(self) -> None:
        """Before a session goes on that paused because its researcher could not work: connect it anew.

        Raises CommandRefused while it still cannot.
        """
        ahead, options = self._loop.ahead, self._loop.settings.options
        if not ahead.stuck:
            return
        if self._next is None:
            self._next = await self._make(options.researcher, options.model, options.script)
        ahead.stuck = False

    # What may be spent

    async def _budget(self, command: c.ChangeBudget) -> str:
        loop = self._loop
        loop.refuse_when_ending()
        given = {key: value for key, value in asdict(command).items() if value is not None}
        if not given:
            raise CommandRefused("nothing to change", hint="name hours, experiments or usd")
        for key, value in given.items():
            whole = key != "experiments" or float(value).is_integer()
            if not 0 < value < 1e9 or not whole:
                kind = "a whole number" if key == "experiments" else "a number"
                hint = "to end the session: stop, or stop --after N"
                raise CommandRefused(f"{key}={value:g} is not {kind} above 0", hint=hint)
        if "experiments" in given:
            given["experiments"] = int(given["experiments"])
        await loop.journal.write(e.BudgetChanged(asdict(replace(loop.settings.budget, **given))))
        self._reopen()
        loop.wake()
        words = {"hours": "{:g} hours", "experiments": "{} experiments", "usd": "${:.2f}"}
        return f"the session may spend {', '.join(words[key].format(value) for key, value in given.items())}"

    # Where runs go

    async def _slots(self, command: c.ChangeSlots) -> str:
        loop = self._loop
        loop.refuse_when_ending()
        settings = loop.settings
        try:
            names = await asyncio.to_thread(device.parse_slots, command.slots)
        except AutoresearchError as error:
            raise CommandRefused(error.what, hint=error.hint) from error
        if names == settings.slots:
            raise CommandRefused(f"runs go to {' '.join(names)} already")
        if names[0][:3] != settings.slots[0][:3]:
            hint = "start another session with --slots"
            raise CommandRefused("results of a GPU and of a processor cannot be compared", hint=hint)
        settings.keep(slots=command.slots)
        loop.slots.change(names)
        await loop.journal.write(e.SlotsChanged(names))
        loop.wake()
        ending = sorted(loop.slots.held - set(names))
        return f"runs go to {' '.join(names)}" + (f"; the job on {' '.join(ending)} ends first" if ending else "")

    # Whether proposals wait

    async def _approve_mode(self, command: c.ApproveMode) -> str:
        self._loop.refuse_when_ending()
        if command.on == self._loop.state.approve:
            raise CommandRefused(f"approve mode is {'on' if command.on else 'off'} already")
        said = await self.approve_mode(command.on)
        return "from now on each proposal waits for you" if command.on else f"approve mode is off: {said} runs"

    async def approve_mode(self, on: bool) -> str:
        """Turn it on, or off: then what waits is approved. Says what runs without being asked about."""
        loop = self._loop
        waiting = () if on else loop.state.approvals
        await loop.journal.write(*approval_mode(loop.state, on))
        loop.wake()
        return f"what waits (#{', #'.join(map(str, waiting))}) and what comes" if waiting else "what comes"
