"""The next run of a slot starts up while the present one trains, and waits for its clock

At most one start waits for each slot: the run that waits first for any. It begins as late as it can to be there when
the present run's clock ends, at the lowest priority, and only where there is memory for both. Its clock starts as that
of any run, once its slot is its own and nothing is scored there.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import monotonic
from typing import Literal

from core.clock import now
from core.engine.ending import RUN_LEFT_MEMORY
from core.engine.runs.ahead.disturbance import Disturbance, read_curve
from core.engine.runs.ahead.room import Room
from core.engine.runs.ahead.start_times import StartTimes
from core.engine.runs.live_run import Live
from core.engine.runs.slots import Slots
from core.engine.runs.workplace import Workplace
from core.engine.startup.setup import EnginePart
from core.lab import container, runner
from core.lab.gpu.card_health import speaks_of_device, speaks_of_memory
from core.lab.shim.clocks.low_priority import LowPriority
from core.record import events as e
from core.record.pulse import DeviceReading

LOOK_SECONDS = 0.2
WITHDRAWN_AFTER = 2  # looks in a row at too little memory
NOTED_AFTER = 5  # looks in a row: memory is short for a moment at times


@dataclass(eq=False)
class NextStarts(EnginePart):
    """Offers the slots of runs that train to the runs that wait, and looks at what came of it."""

    slots: Slots
    place: Workplace
    live: dict[int, Live]  # by run
    _times: StartTimes = field(default_factory=StartTimes, init=False)
    _room: Room = field(default_factory=Room, init=False)
    _disturbance: dict[str, Disturbance] = field(
        default_factory=lambda: defaultdict(Disturbance), init=False
    )  # by slot
    _stopped: set[str] = field(default_factory=set, init=False)  # slots whose runs lost too many steps
    _windows: dict[int, tuple[float, float]] = field(default_factory=dict, init=False)  # by the run beside the start
    _short: dict[str, int] = field(default_factory=dict, init=False)  # looks that found too little memory, by slot
    _looks_short: int = field(default=0, init=False)  # in a row, while something starts up
    _noted: set[str] = field(default_factory=set, init=False)  # slots of which that was said

    async def watch(self) -> None:
        """Look at the slots until cancelled."""
        while True:
            for name in self.slots.names:
                if self.slots.may_offer(name) and await self._due(name):
                    self.slots.offer(name)
            await self._look_at_memory()
            await asyncio.sleep(LOOK_SECONDS)

    async def _look_at_memory(self) -> None:
        """Withdraw what starts up beside other runs while the machine has too little memory: these need it first."""
        starts = [live for live in self.live.values() if live.waits and live.job is not None and live.ending is None]
        words = await asyncio.to_thread(self._room.short) if starts else ""
        self._looks_short = self._looks_short + 1 if words else 0
        if self._looks_short < WITHDRAWN_AFTER:
            return
        for live in starts:
            if live.waits and live.ending is None:
                live.alone = True
                live.end(RUN_LEFT_MEMORY)
                await self._note(live.slot, f"the next run of {live.slot} is withdrawn while it waits: {words}")

    async def _note(self, slot: str, text: str) -> None:
        """Say once of a slot that memory is short."""
        if slot not in self._noted:
            self._noted.add(slot)
            await self.journal.write(e.Noted("info", text))

    # --- whether and when ---

    def possible(self, before: Live | None) -> bool:
        """Whether a run may start up beside another. `before`: the last run for the same purpose."""
        return self.place.overlaps and not self.state.timed and not (before is not None and before.alone)

    def covers_smoke(self) -> bool:
        """Whether runs start up while others train: a start that fails costs no slot's time then, and need not be tried
        before.
        """
        hidden = bool(self._times.beside) and not self._stopped
        return hidden and self.place.overlaps and not self.state.timed and all(map(self._mode, self.slots.names))

    async def _due(self, name: str) -> bool:
        """Whether the next run of a slot should begin to start up now."""
        holder = next((one for one in self.live.values() if one.slot == name and one.owns_slot and not one.waits), None)
        if holder is None or holder.job is None or holder.phase != "training" or name in self._stopped:
            return False
        if self.state.timed:
            return False
        clock, lead = holder.job.status.get("clock"), self._times.lead()
        left = self._times.left(monotonic() - clock, holder.job.fraction) if clock else None
        if left is None or lead is None or left > lead or not self._mode(name):
            return False
        if not await asyncio.to_thread(self._room.look, name, holder.job):
            return False
        _, words = await asyncio.to_thread(self._room.for_start, holder.job.memory)
        if not words and name.startswith("gpu"):
            words = await asyncio.to_thread(self._room.on_card, name)
        self._short[name] = self._short.get(name, 0) + 1 if words else 0
        if words and self._short[name] >= NOTED_AFTER:
            await self._note(name, f"the next run of {name} does not start up beside the present one: {words}")
        still = self.live.get(holder.run) is holder and holder.owns_slot and holder.phase == "training"
        return still and not words

    def _mode(self, slot: str) -> Literal["", "idle", "free"]:
        """How a start shares the processors with a run in this slot; "" where it must not.

        Beside a clock by the wall it has processors only that are nobody's: by what the runs on cards really use.
        """
        budget = self.program.run_budget(self.setup.kind)
        if (budget.clock == "cpu" or budget.steps is not None) and slot.startswith("cpu"):
            return "idle" if self._low_priority else ""
        if slot.startswith("gpu"):
            return "free" if self.place.free_processors() >= 1 else ""
        taken = sum(self.place.processors(name) for name in self.slots.names)
        return "free" if container.cores() - taken >= 1 else ""

    @cached_property
    def _low_priority(self) -> bool:
        return LowPriority().works

    # --- a start ---

    def spec(self, live: Live, spec: runner.RunSpec) -> runner.RunSpec:
        """The specification of a run that may start up before its slot is its own."""
        holder = self._holder(live)
        if not live.waits or holder is None or holder.job is None:
            return spec
        room, words = self._room.for_start(holder.job.memory)
        memory = min(room, spec.memory_limit or room) if not words else self._room.peak
        return replace(spec, ahead=self._mode(live.slot) or "free", ahead_memory=memory or None)

    def _holder(self, live: Live) -> Live | None:
        same = (one for one in self.live.values() if one.slot == live.slot and one is not live)
        return next((one for one in same if one.owns_slot and not one.waits), None)

    def begun(self, live: Live) -> None:
        """A run begins to start up."""
        holder = self._holder(live) if live.waits else None
        if holder is not None and holder.job is not None and holder.phase == "training":
            live.beside = holder.run
            self._windows[holder.run] = (holder.job.seconds, float("inf"))

    def ready(self, live: Live) -> None:
        """A run has started up."""
        if live.adopted or live.owns_clock:
            return
        (self._times.alone if live.beside is None else self._times.beside).append(now() - live.started)
        self._close_window(live)

    def _close_window(self, live: Live) -> None:
        holder = self.live.get(live.beside) if live.beside is not None else None
        window = self._windows.get(live.beside) if live.beside is not None else None
        if window is not None and holder is not None and holder.job is not None and holder.phase == "training":
            self._windows[holder.run] = (window[0], min(window[1], holder.job.seconds))

    # --- an end ---

    async def ended(self, live: Live, result: runner.RunResult, readings: list[DeviceReading]) -> None:
        """Learn from a run whose process has ended."""
        self._close_window(live)
        window = self._windows.pop(live.run, None)
        if result.ended != "done" or live.ending is not None or result.clock_started is None:
            return
        if result.on_clock:
            self._times.clocks.append(result.on_clock)
        if result.kept_processors is not None:
            self.place.uses.append(result.kept_processors)
        if result.peak_memory:
            self._room.peaks.append(result.peak_memory)
        if used := [reading.memory_used for reading in readings if reading.memory_used is not None]:
            self._room.card_peaks.append(max(used))
        if live.slot in self._stopped:
            return
        curve = await asyncio.to_thread(read_curve, self.paths.run(live.run) / "curve.tsv")
        disturbance = self._disturbance[live.slot]
        disturbance.add(curve, window)
        if words := disturbance.words():
            self._stopped.add(live.slot)
            text = f"{live.slot}: {words}: from now on it starts up after the end of their clock"
            await self.journal.write(e.Noted("warning", text))

    def judged(self, live: Live, finished: e.RunFinished) -> e.RunFinished:
        """`finished`, the end of a run before its turn. What may be due to the run beside it is no verdict: it starts
        again once its slot is its own.
        """
        words = finished.reason.partition("\n")[0] or "ended before it asked for its data"
        output = f"{finished.reason}\n{finished.log_tail}"
        by_itself = finished.ended == "crashed" and (finished.exit_code or 0) > 0
        if finished.ended == "startup_timeout" or (
            by_itself
            and not speaks_of_memory(output)
            and not (live.slot.startswith("gpu") and speaks_of_device(output))
        ):
            return finished
        live.again = live.alone = True
        reason = f"{words}, while it started up beside another run: it starts again alone, not counted"
        return replace(finished, ended="abandoned", metric=None, reason=reason)
