"""A run that is in a slot: what is known of it until its end is logged."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

from core.clock import now
from core.engine.ending import RunEnding
from core.engine.journal import Journal
from core.engine.runs.slots import Slots, Turn
from core.git import end_commands
from core.lab import runner, scorer
from core.lab.git.fixed_files import FixedFiles
from core.record import events as e


@dataclass(slots=True, kw_only=True)
class Live:
    """A run in a slot at present. `ending` is set once the engine itself ends it."""

    run: int
    experiment: int
    slot: str
    worktree: Path
    started: float = field(default_factory=now)
    job: runner.RunProcess | None = None
    phase: str = "starting"
    phase_since: float = field(default_factory=now)
    scoring: asyncio.Task[scorer.Score] | None = None
    ending: RunEnding | None = None
    owns_slot: bool = True
    turn: Turn | None = None  # by which it has its slot, or will have it; None: the slot was given to it by name
    beside: int | None = None  # the run that trained in its slot when it began to start up
    alone: bool = False  # it starts up only once its slot is its own: an earlier start beside another run ended badly
    owns_clock: bool = False
    clock: asyncio.Task[bool] | None = None  # waiting for the slot's clock
    killing: set[asyncio.Task[runner.RunResult]] = field(default_factory=set)
    finished: e.RunFinished | None = None  # as logged
    ended_at: float = 0.0  # when the end of its process was seen
    adopted: bool = False  # from an engine that ended before it
    again: bool = False  # no verdict follows from it: it is run again at once
    faults: int = 0  # earlier runs for the same purpose in which a card did not work
    seed: int | None = None
    shares: tuple[float, ...] = ()  # of the processors, in earlier runs for the same purpose that were not comparable
    cut: float = 0.0  # seconds by which its clock is shorter than its budget
    cuts: int = 0  # earlier runs for the same purpose that used more than their budget
    many_names: int = 0  # earlier runs for the same purpose in which the kernel learned very many names
    is_reference: bool = False  # of the code beside which a time or a speed is measured
    cores: float | None = None  # processors that it may use on its clock; None: no limit
    card_errors: int | None = None  # uncorrected errors in the memory of its card when it began
    fixed: FixedFiles | None = None  # what it may not change in its worktree
    stopped_at: float | None = None  # share of its time at which it was found hopeless
    audit: bool = False  # it goes on to its end all the same
    waits_for_quiet: bool = False  # to be scored again without other runs on its card
    number_known: asyncio.Event = field(default_factory=asyncio.Event)  # the scorer says that only probes are left
    scorer_looks: int = 0  # at the processes of its scorer
    scorer_on_card: bool = False  # one of them used a card

    @property
    def waits(self) -> bool:
        """Whether another run still has its slot, while it starts up."""
        return self.turn is not None and self.turn.waits

    @property
    def measured_again(self) -> tuple[int, int, int]:
        """How often its purpose was measured again, for each cause."""
        return len(self.shares), self.cuts, self.many_names

    def go_on_from(self, before: Live) -> None:
        """Know what is known of the last run for the same purpose, from which no verdict followed."""
        self.faults, self.shares, self.alone = before.faults, before.shares, before.alone
        self.cuts, self.many_names = before.cuts, before.many_names

    def go_on_as(self, phase: str) -> None:
        """Be in the phase in which an earlier engine left it, with the times of the process and not of its adoption."""
        status: Mapping[str, Any] = self.job.status if self.job is not None else {}
        since = {"training": status.get("clock"), "saving": status.get("clock_end")}.get(phase) or status.get("started")
        self.phase, self.started, self.phase_since = phase, _at(status.get("started")), _at(since)

    def end(self, ending: RunEnding) -> None:
        """Kill the run's process tree, its checkout, or the scoring of it."""
        self.ending = ending
        end_commands(self.worktree)
        if self.job is not None:
            killing = asyncio.create_task(self.job.kill(f"was {ending.reason}"))
            self.killing.add(killing)
            killing.add_done_callback(self.killing.discard)
        if self.scoring is not None:
            self.scoring.cancel()

    async def enter(self, phase: e.RunPhase, journal: Journal) -> None:
        """Log that it is in this phase now."""
        self.phase, self.phase_since = phase, now()
        await journal.write(e.RunPhaseChanged(self.run, self.experiment, phase))

    def leave_slot(self, slots: Slots) -> None:
        """Give its slot to the next run. Idempotent."""
        if self.owns_slot:
            self.owns_slot = False
            slots.give_back(self.turn) if self.turn is not None else slots.release(self.slot)

    def leave_clock(self, slots: Slots) -> None:
        """Give the clock of its slot to the next run. Idempotent."""
        if self.owns_clock:
            self.owns_clock = False
            slots.clocks[self.slot].release()


def _at(moment: float | None) -> float:
    """Unix seconds of a monotonic time; None: the present."""
    return now() - (0.0 if moment is None else max(0.0, monotonic() - moment))


def with_words(finished: e.RunFinished, words: str) -> e.RunFinished:
    """`finished` with more words at the end of the first line of its reason."""
    first, line, rest = finished.reason.partition("\n")
    return replace(finished, reason=f"{first}; {words}{line}{rest}")
