"""The settings that may change while a session runs. Those that cannot are in `core.engine.startup.setup.Setup`."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from core.engine.journal import Journal
from core.program.program import Program
from core.program.toml_reader import NAME
from core.record import events as e
from core.record.budget import SessionBudget
from core.record.state import State
from core.research.protocol import Researcher
from core.session.options import EngineOptions, key_of, save_options
from core.session.paths import SessionPaths


@dataclass(eq=False, repr=False)
class SessionSettings:
    """The settings in force: budget, approval mode and slots are read from the State, the rest from program.md.

    `researcher` proposes at present; one that was chosen meanwhile takes over at the next experiment. `options`
    override program.md, and are what the next engine starts with.
    """

    _paths: SessionPaths
    _journal: Journal
    _file: Program
    options: EngineOptions
    researcher: Researcher
    next_researcher: Researcher | None = field(default=None, init=False)

    @property
    def program(self) -> Program:
        """program.md with the session's overrides, and with the present budget and approval mode."""
        return replace(self._file, budget=self.budget, approve=self._journal.state.approve)

    @property
    def budget(self) -> SessionBudget:
        return budget_of(self._journal.state)

    @property
    def slots(self) -> tuple[str, ...]:
        return self._journal.state.slots

    def keep(self, **options: Any) -> None:
        """Change these options, for the next engine too."""
        self.options = replace(self.options, **options)
        save_options(self._paths, self.options)

    async def choose_researcher(self, researcher: Researcher) -> None:
        """Let this one propose from the next experiment on."""
        if self.next_researcher is not None:
            await self.next_researcher.close()
        self.next_researcher = researcher

    async def take_over_researcher(self) -> None:
        """Called before each experiment begins: the researcher that was chosen meanwhile replaces the present one."""
        if self.next_researcher is not None:
            old, self.researcher, self.next_researcher = self.researcher, self.next_researcher, None
            with contextlib.suppress(Exception):
                await old.close()

    async def adopt(self, program: Program) -> None:
        """Put an edited program.md in force, and log it with the budget and approval mode that follow from it."""
        await self._journal.write(*following(self._journal.state, self._file, program))
        self._file = program


def budget_of(state: State) -> SessionBudget:
    return SessionBudget(**{f.name: state.budget.get(f.name) for f in fields(SessionBudget)})  # type: ignore[arg-type]


def following(state: State, before: Program | None, program: Program, asked: Iterable[str] = ()) -> list[e.Body]:
    """The events to log when `program` replaces `before`: its text, and the resulting budget and approval mode.

    A value of the State that differs from the one in `before` was set by a person while the session ran: it stays,
    unless this start asks for the key (`asked`, KEY=VALUE texts). With `before` None (unknown) the State's values stay.
    """
    named = {key_of(override) for override in asked}

    def holds(key: str, now: object, gave: object, gives: object) -> object:
        given = {key, key.partition(".")[0]} & named
        return gives if given or (before is not None and now == gave) else now

    old = before or program
    now, gave, gives = asdict(budget_of(state)), asdict(old.budget), asdict(program.budget)
    budget: dict[str, Any] = {name: holds(f"budget.{name}", now[name], gave[name], gives[name]) for name in now}
    approve = bool(holds("approve", state.approve, old.approve, program.approve))
    facts: list[e.Body] = []
    if program.text != state.program:
        facts.append(e.ProgramChanged(program_diff(state.program, program.text), program.text))
    if budget != now:
        facts.append(e.BudgetChanged(budget))
    if approve != state.approve:
        facts += approval_mode(state, approve)
    return facts


def approval_mode(state: State, on: bool) -> list[e.Body]:
    """The events to log when approval mode is turned on or off; off approves the proposals that wait."""
    given: list[e.Body] = [] if on else [e.ApprovalGiven(number, True) for number in state.approvals]
    return given if state.approve == on else [*given, e.ApprovalModeChanged(on)]


def program_diff(old: str, new: str) -> str:
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    lines = difflib.unified_diff(before, after, f"a/{NAME}", f"b/{NAME}", n=2)
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
