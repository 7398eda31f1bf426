"""Time of each slot, by what it was spent on: folded with every event, so that the parts add up to the whole exactly.

The time between two events goes, in each slot, to what the State before the second one says of it. What a run took is
set down at its end, for only then is known whether it counted. Times of day are Unix seconds, whose differences and
their sums a double holds without rounding. Where the clock was set back between two engines no time passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from core.record import events as e
from core.record.events import Body
from core.record.state import BASELINE, HUMAN, Experiment, HeldTime, Run, SlotTime, State

OFF = "off"  # no engine held the session
# What a slot's time is spent on, in the order in which it is shown, with its words. A new kind is a line here, and a
# phase of a run in _PHASES or a reason in `_idle`.
SPENDING: Mapping[str, str] = {
    "training": "training",
    "scoring": "scoring",
    "starting": "starting",
    "researcher": "waits for the researcher",
    "person": "waits for a person",
    "memory": "waits for memory",
    "retries": "retries",
    "set_aside": "set aside",
    "idle": "idle",
    OFF: "no engine",
}
# What the phases of a run are to its slot. Of two runs in one slot the first here counts: a start that is hidden
# behind training or scoring takes no time.
_PHASES = {
    "training": "training",
    "scoring": "scoring",
    "saving": "scoring",
    "checkout": "starting",
    "starting": "starting",
}
_ORDER = {phase: place for place, phase in enumerate(_PHASES)}
_WITHOUT_RUN = ("idle", "starting", "researcher", "person", "memory")


def spend(state: State, until: float, body: Body) -> None:
    """Set down the time from the State's last event to `until`, that of the event `body`, which is folded next."""
    passed = max(0.0, until - state.time) if state.engine is not None else 0.0
    if not passed:
        return
    begins = isinstance(body, e.EngineStarted)
    if not begins:
        devices = passed * _devices(state) / 3600
        state.device_hours += devices
        state.device_usd += devices * (state.budget.get("device_usd_per_hour") or 0.0)
    for name, what, run in at_present(state):
        slot = state.slot_times.setdefault(name, SlotTime())
        if run is None:
            add(slot.spent, OFF if begins else what, passed)
            continue
        held = slot.held.setdefault(run.run, HeldTime())
        add(held.unseen if begins else held.spent, what, passed)
        if begins:  # whether the run went on after its engine was killed is known at its end
            held.unseen_until = until


def add(spent: dict[str, float], what: str, seconds: float) -> None:
    spent[what] = spent.get(what, 0.0) + seconds


def run_ended(state: State, b: e.RunFinished, run: Run, time: float) -> None:
    """Set down what a run took. One that gave no verdict and was or will be run again was a retry."""
    slot = state.slot_times.get(run.slot)
    held = slot.held.pop(b.run, None) if slot else None
    if slot is None or held is None:
        return
    ended = b.ended_at if b.ended_at is not None else run.started + b.wall_seconds
    if run.phase == "training" and b.ended_at is not None:  # its process had ended before this event
        _move(held.spent, "training", "scoring", time - ended)
    late = max(0.0, held.unseen_until - ended)
    for what, seconds in held.unseen.items():
        missed = min(late, seconds)
        late -= missed
        add(slot.spent, OFF, missed)
        add(held.spent, what, seconds - missed)
    for what, seconds in held.spent.items():
        add(slot.spent, "retries" if b.ended == "abandoned" else what, seconds)


def hidden_scored(state: State, b: e.HiddenScored) -> None:
    """A score on the hidden slice took a slot without a run."""
    spent, left = state.slot_times.get(b.slot, SlotTime()).spent, b.seconds
    for what in _WITHOUT_RUN:
        left -= _move(spent, what, "scoring", left)


def _move(spent: dict[str, float], what: str, to: str, seconds: float) -> float:
    moved = max(0.0, min(seconds, spent.get(what, 0.0)))
    if moved:
        spent[what] -= moved
        add(spent, to, moved)
    return moved


def _devices(state: State) -> int:
    """Number of devices whose time is paid: those of the slots, while an engine holds the session."""
    return len({device_of(name) for name in state.slots}) if state.engine_open else 0


def device_of(slot: str) -> str:
    """The device of a slot: `gpu0` of `gpu0` and `gpu0.1`; all processors of a machine are one, `cpu`."""
    place, stroke, name = slot.rpartition("/")
    name = name.partition(".")[0]
    return place + stroke + (name if name.startswith("gpu") else name.rstrip("0123456789"))


def at_present(state: State) -> Iterator[tuple[str, str, Run | None]]:
    """Each slot, what its time is spent on, and the run that it is spent on. A removed slot is left out once its run
    has ended.
    """
    if not state.engine_open:
        yield from ((name, OFF, None) for name in state.slots)
        return
    runs: dict[str, Run] = {}
    for run in state.live_runs():
        other = runs.get(run.slot)
        if other is None or _ORDER[run.phase or "starting"] < _ORDER[other.phase or "starting"]:
            runs[run.slot] = run
    free = [name for name in state.slots if name not in runs]
    yield from ((name, _PHASES[run.phase or "starting"], run) for name, run in runs.items())
    yield from ((name, what, None) for name, what in zip(free, _idle(state, free), strict=True))


def _idle(state: State, free: list[str]) -> Iterator[str]:
    """What each of the slots without a run waits for."""
    aside = state.aside
    next_ones = _next(state)
    for name in free:
        if name in aside:
            yield "set_aside"
        elif state.engine is not None and name in state.engine.quiet:
            yield "memory"
        else:
            yield next(next_ones)


def _next(state: State) -> Iterator[str]:
    """What the first, second, … free slot waits for: as many as proposals are ready start, and so on."""
    if state.state == "paused":
        yield from _forever("person")
    if state.state == "starting" or state.preparing:
        yield from _forever("starting")
    last = "idle"
    if state.state == "running":
        ready = (x for x in _waiting(state) if x.phase in ("queued", "checking") and x.live_run is None)
        yield from ("starting" for _ in ready)
        yield from ("person" for _ in state.approvals)
        thinking = any(x.phase in ("thinking", "waiting") for x in _waiting(state))
        last = "idle" if not thinking else "person" if state.researcher == HUMAN else "researcher"
    yield from _forever(last)


def _waiting(state: State) -> Iterator[Experiment]:
    """Experiments without a verdict, one by one: a long session may have hundreds that are to be repeated."""
    return (state.experiments[n] for n in state.live if n != BASELINE)


def _forever(word: str) -> Iterator[str]:
    while True:
        yield word


def split(state: State, now: float) -> dict[str, dict[str, float]]:
    """Seconds of each slot by what they were spent on, up to `now`, in the order of SPENDING; nothing is left out, so a
    slot's seconds are its time since it began.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in state.slots}
    for name, slot in state.slot_times.items():
        spent = found.setdefault(name, {})
        for part in (slot.spent, *(held.spent for held in slot.held.values())):
            for what, seconds in part.items():
                add(spent, what, seconds)
        add(spent, OFF, sum(sum(held.unseen.values()) for held in slot.held.values()))
    rest = max(0.0, now - state.time)
    for name, what, _ in at_present(state):
        add(found.setdefault(name, {}), what, rest)
    return {name: {what: spent.get(what, 0.0) for what in SPENDING} for name, spent in found.items()}


def device_time(state: State, now: float) -> tuple[float, float]:
    """Hours of the devices while engines held the session, up to `now`, and what they cost in dollars."""
    more = max(0.0, now - state.time) * _devices(state) / 3600
    price = state.budget.get("device_usd_per_hour") or 0.0
    return state.device_hours + more, state.device_usd + more * price


def device_rate(state: State) -> float:
    """Dollars that the devices cost an hour while an engine holds the session."""
    return _devices(state) * (state.budget.get("device_usd_per_hour") or 0.0)


def dollars(state: State, now: float) -> float:
    """Dollars spent up to `now`: the model's and the devices'."""
    return state.usd + device_time(state, now)[1]
