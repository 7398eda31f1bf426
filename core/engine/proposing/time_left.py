"""How many runs can still begin before a session's budget of time is spent: no more proposals are made than that"""

from __future__ import annotations

from itertools import islice
from math import floor

from core.record.budget import SessionBudget
from core.record.sample import mean
from core.record.slot_time import device_rate, dollars
from core.record.state import Run, State

RECENT = 24  # experiments from whose runs and thoughts the next are guessed; some have not run yet


def seconds_left(state: State, budget: SessionBudget, at: float) -> float | None:
    """Seconds until the hours are spent, or the dollars of a device that has a price; None: no end."""
    ends = [] if budget.hours is None else [budget.hours * 3600 - state.seconds(at)]
    if budget.usd is not None and (rate := device_rate(state)):
        ends.append((budget.usd - dollars(state, at)) / rate * 3600)
    return min(ends, default=None)


def thought_seconds(state: State) -> float | None:
    """What a thought takes, as of late; None while none is known."""
    recent = islice(reversed(state.experiments.values()), RECENT)
    thoughts = [x.thinking_seconds for x in recent if x.thinking_seconds > 0]
    return mean(thoughts) if thoughts else None


def runs_to_begin(state: State, at: float, left: float) -> int | None:
    """The number of runs that can begin within `left` seconds in the slots of a session; None while no run has shown
    how long one takes.
    """
    recent = islice(reversed(state.experiments.values()), RECENT)
    turns = [_turn(run) for x in recent for run in x.runs if run.ended == "done" and run.wall_seconds > 0]
    if not turns:
        return None
    turn = max(mean(turns), 1e-3)
    busy = {run.slot: run for run in sorted(state.live_runs(), key=lambda run: -run.run)}  # the first one has the slot
    free = [_free_in(busy.get(slot), turn, at) for slot in state.slots if slot not in state.aside]
    return sum(1 + floor((left - wait) / turn) for wait in free if wait < left)


def _turn(run: Run) -> float:
    """Seconds from the start of its clock, or from the clock before, until the next run may have its slot."""
    return min(run.wall_seconds, run.on_clock + run.gap) if run.gap is not None else run.wall_seconds


def _free_in(run: Run | None, turn: float, at: float) -> float:
    return 0.0 if run is None else max(0.0, (run.clock_started or run.started) + turn - at)
