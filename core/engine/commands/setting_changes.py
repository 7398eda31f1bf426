"""Changes of settings while a session runs: researcher, budget, slots, approval mode."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from core.engine.commands.dispatch import Handlers
from core.engine.commands.guidance import waiting_for_approval
from core.engine.lifecycle import Lifecycle
from core.engine.proposing.lookahead import Lookahead
from core.engine.runs.slots import Slots
from core.engine.session_settings import approval_mode
from core.engine.startup.setup import EnginePart, editable_texts, make_researcher
from core.lab import device
from core.record import commands as c
from core.record import events as e
from core.record.errors import AutoresearchError, CommandRefused
from core.research.control.constants import check_tunable
from core.research.protocol import Researcher


@dataclass(eq=False)
class SettingChanges(EnginePart):
    """Carries out these commands, for the next engine too; each answers with a sentence or raises AutoresearchError."""

    lifecycle: Lifecycle
    slots: Slots
    lookahead: Lookahead

    @property
    def handlers(self) -> Handlers:
        return {
            c.ChangeResearcher: self._change_researcher,
            c.ChangeBudget: self._change_budget,
            c.ChangeSlots: self._change_slots,
            c.ApproveMode: self._change_approval_mode,
        }

    def _reopen(self) -> None:
        """Let experiments begin again, unless the engine was started for one task."""
        if not self.setup.only_task:
            self.lifecycle.reopen()

    async def _change_researcher(self, command: c.ChangeResearcher) -> str:
        self.lifecycle.refuse_when_stopping()
        script, present = command.script, self.state.researcher
        if script is not None and not Path(script).is_absolute():
            raise CommandRefused(f"{script!r} is no absolute path", hint="name the script from / on")
        name = command.researcher or present
        if script is None and name == present:
            script = self.settings.options.script
        made = await self._make(name, command.model, script)
        if made.name == "control":
            await asyncio.to_thread(self._check_control)
        await self.settings.choose_researcher(made)
        self.settings.keep(researcher=name, model=command.model, script=script)
        await self.journal.write(e.ResearcherChanged(made.name, made.model))
        self._reopen()
        self.lookahead.researcher_changed()
        model = f" ({made.model})" if made.model else ""
        return f"from the next experiment on {made.name}{model} proposes"

    def _check_control(self) -> None:
        commit = self.repo.branch_commit(self.paths.branch) or self.setup.commit
        check_tunable(editable_texts(self.repo, commit, self.program), self.setup.kind, self.program.run)

    async def _make(self, name: str | None, model: str | None, script: str | None) -> Researcher:
        options = replace(self.settings.options, researcher=name, model=model, script=script)
        return await asyncio.to_thread(make_researcher, options, self.setup.seed)

    async def reconnect(self) -> None:
        """Make a researcher that could not work anew, before a resume. Raises its error while it cannot be made."""
        if self.lookahead.stuck and self.settings.next_researcher is None:
            options = self.settings.options
            made = await self._make(options.researcher, options.model, options.script)
            await self.settings.choose_researcher(made)

    async def _change_budget(self, command: c.ChangeBudget) -> str:
        self.lifecycle.refuse_when_stopping()
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
        await self.journal.write(e.BudgetChanged(asdict(replace(self.settings.budget, **given))))
        self._reopen()
        words = {"hours": "{:g} hours", "experiments": "{} experiments", "usd": "${:.2f}"}
        return f"the session may spend {', '.join(words[key].format(value) for key, value in given.items())}"

    async def _change_slots(self, command: c.ChangeSlots) -> str:
        self.lifecycle.refuse_when_stopping()
        present = self.settings.slots
        try:
            named = await asyncio.to_thread(device.parse_slots, command.slots)
            names = device.shared(named, None if self.state.timed else self.program.gpu_memory)
        except AutoresearchError as error:
            raise CommandRefused(error.what, hint=error.hint) from error
        if names == present:
            raise CommandRefused(f"runs go to {' '.join(names)} already")
        if names[0][:3] != present[0][:3]:
            hint = "start another session with --slots"
            raise CommandRefused("results of a GPU and of a processor cannot be compared", hint=hint)
        taken = await asyncio.to_thread(self.setup.locks.take, names)
        said = [f"{slot} is used by {holder}" for slot, holder in taken.items()]
        names = tuple(name for name in names if name not in taken)
        if not names or (taken and names == present):
            raise CommandRefused("; ".join(said), hint="wait for its end, or name other cards")
        self.settings.keep(slots=command.slots)
        self.slots.change(names)
        self.setup.locks.keep_only((*names, *self.slots.held))
        await self.journal.write(self.slots.changed())
        ending = sorted(self.slots.held - set(names))
        said += [f"the run on {' '.join(ending)} ends first"] if ending else []
        return "; ".join([f"runs go to {' '.join(names)}", *said])

    async def _change_approval_mode(self, command: c.ApproveMode) -> str:
        self.lifecycle.refuse_when_stopping()
        state = self.state
        if command.on == state.approve:
            raise CommandRefused(f"approve mode is {'on' if command.on else 'off'} already")
        waiting = waiting_for_approval(state)
        await self.journal.write(*approval_mode(state, command.on))
        return "from now on each proposal waits for you" if command.on else f"approve mode is off: {waiting} runs"
