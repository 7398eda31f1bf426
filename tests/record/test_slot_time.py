"""The time of the slots: every second has its place, and the parts add up to the whole exactly."""

from __future__ import annotations

import itertools
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from core.record import events as e
from core.record import wire
from core.record.events import Body, Event
from core.record.fold import fold
from core.record.slot_time import OFF, SPENDING, device_of, device_time, split
from core.record.state import HUMAN, State
from tests.recorded import START, Story, story_events

BUDGET = {"hours": None, "experiments": None, "usd": None}


def wall(events: list[Event]) -> float:
    """Seconds that passed from the first engine to the last event; a clock that is set back passes none."""
    first = next(i for i, event in enumerate(events) if isinstance(event.body, e.EngineStarted))
    return sum(max(0.0, b.time - a.time) for a, b in itertools.pairwise(events[first:]))


class Told:
    """A session told event by event at given times after START."""

    def __init__(self, *slots: str, researcher: str = "claude", price: float | None = None) -> None:
        self.state, self.events, self.slots = State(), list[Event](), slots
        story = Story()
        started = {**BUDGET, "device_usd_per_hour": price}
        session = wire.from_plain(e.SessionStarted, {**wire.to_plain(story._started()), "budget": started})
        self.at(0, session, self.engine(researcher))
        self.at(0, e.StateChanged("running"))

    def engine(self, researcher: str = "claude") -> e.EngineStarted:
        return e.EngineStarted(pid=1, boot_id="b", researcher=researcher, model=None, slots=self.slots, sandbox="A")

    def at(self, seconds: float, *bodies: Body) -> Told:
        for body in bodies:
            event = Event(self.state.seq + 1, START + seconds, body)
            self.events.append(event)
            fold(self.state, event)
        return self

    def run(self, seconds: float, run: int, experiment: int, slot: str) -> Told:
        started = e.RunStarted(
            run=run, experiment=experiment, kind="candidate", slot=slot, seed=1, commit="c", budget="20s"
        )
        return self.at(seconds, started)

    def phase(self, seconds: float, run: int, experiment: int, phase: e.RunPhase) -> Told:
        return self.at(seconds, e.RunPhaseChanged(run, experiment, phase))

    def end(self, seconds: float, run: int, experiment: int, ended: e.Ended = "done", at: float | None = None) -> Told:
        metric = 1.0 if ended == "done" else None
        gone = None if at is None else START + at
        return self.at(seconds, e.RunFinished(
            run=run, experiment=experiment, ended=ended, metric=metric, seconds=1, wall_seconds=0, ended_at=gone,
        ))  # fmt: skip

    def thinks(self, seconds: float, number: int) -> Told:
        begun = e.ExperimentStarted(experiment=number, parent=0, parent_commit="c", researcher="claude")
        return self.at(seconds, begun)

    def proposes(self, seconds: float, number: int) -> Told:
        return self.at(seconds, e.Committed(number, f"c{number}", "c"))

    def spent(self, slot: str, seconds: float) -> dict[str, float]:
        """What took time, up to `seconds`; the whole is the wall time, exactly."""
        found = split(self.state, START + seconds)[slot]
        assert sum(found.values()) == wall([*self.events, Event(0, START + seconds, self.events[-1].body)])
        assert wire.from_plain(State, json.loads(wire.dumps(wire.to_plain(self.state)))) == self.state
        return {what: told for what, told in found.items() if told}


def test_one_run_is_started_trained_and_scored_while_the_next_is_thought_of() -> None:
    told = Told("gpu0").thinks(1, 1).proposes(5, 1).run(6, 1, 1, "gpu0").phase(8, 1, 1, "training").thinks(9, 2)
    told.phase(28, 1, 1, "scoring").end(31, 1, 1)
    assert told.spent("gpu0", 36) == {
        "idle": 1.0, "researcher": 4.0, "starting": 1.0 + 2.0 + 5.0, "training": 20.0, "scoring": 3.0,
    }  # fmt: skip
    judged = e.Judged(experiment=1, verdict="discarded", metric=1.0, delta=0.1, reason="no better")
    assert told.at(36, judged).spent("gpu0", 40)["researcher"] == 4.0 + 4.0


def test_a_start_behind_training_takes_no_time() -> None:
    told = Told("gpu0").thinks(0, 1).proposes(0, 1).run(0, 1, 1, "gpu0").phase(0, 1, 1, "training").thinks(0, 2)
    told.proposes(0, 2).run(5, 2, 2, "gpu0").phase(10, 1, 1, "scoring").phase(12, 2, 2, "training").end(14, 1, 1)
    assert told.spent("gpu0", 20) == {"training": 10.0 + 8.0, "scoring": 2.0}


def test_what_a_person_is_waited_for() -> None:
    told = Told("cpu0", "cpu1").thinks(0, 1).proposes(0, 1).at(0, e.ApprovalRequested(1)).thinks(0, 2)
    assert told.spent("cpu0", 8) == {"person": 8.0} and told.spent("cpu1", 8) == {"researcher": 8.0}
    told.at(10, e.StateChanged("paused", "by hand"))
    assert told.spent("cpu1", 16) == {"researcher": 10.0, "person": 6.0}
    alone = Told("cpu0", researcher=HUMAN).thinks(0, 1)
    assert alone.spent("cpu0", 5) == {"person": 5.0}


def test_slots_that_are_set_aside_or_wait_for_memory() -> None:
    told = Told("gpu0", "gpu1").thinks(0, 1).at(0, e.SlotsChanged(("gpu0", "gpu1"), {"gpu0": "broken"}, ("gpu1",)))
    assert told.spent("gpu0", 4) == {"set_aside": 4.0} and told.spent("gpu1", 4) == {"memory": 4.0}
    told.at(4, e.SlotsChanged(("gpu0", "gpu1")))
    assert told.spent("gpu0", 6) == {"set_aside": 4.0, "researcher": 2.0}


def test_a_run_that_gave_no_verdict_was_a_retry() -> None:
    told = Told("cpu0").thinks(0, 1).proposes(0, 1).run(0, 1, 1, "cpu0").phase(2, 1, 1, "training")
    assert told.spent("cpu0", 9) == {"starting": 2.0, "training": 7.0}
    assert told.end(9, 1, 1, "abandoned").spent("cpu0", 9) == {"retries": 9.0}


def test_a_removed_slot_takes_no_further_time() -> None:
    told = Told("cpu0", "cpu1").at(10, e.SlotsChanged(("cpu0",)))
    assert told.spent("cpu0", 30) == {"idle": 30.0}
    assert sum(split(told.state, START + 30)["cpu1"].values()) == 10.0


def test_a_run_goes_on_while_its_engine_is_dead_and_counts_up_to_its_end() -> None:
    told = Told("cpu0").thinks(0, 1).proposes(0, 1).run(0, 1, 1, "cpu0").phase(2, 1, 1, "training")
    told.at(100, told.engine())
    assert told.spent("cpu0", 101) == {"starting": 2.0, "training": 1.0, OFF: 98.0}
    told.end(102, 1, 1, at=22.0)
    assert told.spent("cpu0", 102) == {"starting": 2.0, "training": 20.0, "scoring": 2.0, OFF: 78.0}


def test_a_run_that_was_killed_with_its_engine_was_a_retry_and_the_rest_is_no_engines() -> None:
    told = Told("cpu0").thinks(0, 1).proposes(0, 1).run(0, 1, 1, "cpu0").phase(2, 1, 1, "training")
    told.at(7, e.Noted("info", "the last word of an engine that is killed")).at(100, told.engine())
    told.end(101, 1, 1, "abandoned")
    assert told.spent("cpu0", 101) == {"retries": 7.0 + 1.0, OFF: 93.0}
    assert told.state.engine_seconds == 7.0


def test_a_session_that_rests_without_an_engine_costs_nothing() -> None:
    told = Told("gpu0", "gpu0.1", "gpu1", price=2.0).at(3600, e.EngineStopped("stopped"))
    told.at(360_000, told.engine()).at(361_800, e.Noted("info", "half an hour later"))
    assert told.spent("gpu0", 361_800) == {"idle": 3600.0, OFF: 356_400.0, "starting": 1800.0}
    assert device_time(told.state, START + 361_800) == (3.0, 6.0)
    told.at(361_800, e.BudgetChanged({**BUDGET, "device_usd_per_hour": 10.0}))
    assert device_time(told.state, START + 361_800 + 1800) == (4.0, 16.0)


def test_a_clock_that_is_set_back_between_two_engines_loses_nothing_that_follows() -> None:
    told = Told("cpu0").at(50, e.EngineStopped("stopped")).at(-86_400, told_engine("cpu0"))
    told.at(-86_390, e.StateChanged("running"))
    assert told.spent("cpu0", -86_380) == {"idle": 50.0 + 10.0, "starting": 10.0}


def told_engine(*slots: str) -> e.EngineStarted:
    return e.EngineStarted(pid=2, boot_id="b", researcher="claude", model=None, slots=slots, sandbox="A")


def test_the_score_on_the_hidden_slice_is_scoring() -> None:
    told = Told("cpu0").thinks(0, 1).proposes(0, 1).run(0, 1, 1, "cpu0").end(2, 1, 1).thinks(2, 2)
    told.at(9, e.HiddenScored(experiment=1, metric=1.0, gap=None, slot="cpu0", seconds=4.0))
    assert told.spent("cpu0", 9) == {"starting": 2.0 + 7.0 - 4.0, "scoring": 4.0}


def test_slots_of_one_device() -> None:
    names = {"gpu0": "gpu0", "gpu0.1": "gpu0", "gpu12": "gpu12", "cpu1": "cpu"}
    names |= {"n1/gpu0.2": "n1/gpu0", "n1/cpu3": "n1/cpu"}
    assert {name: device_of(name) for name in names} == names


@given(
    st.integers(0, 14), st.integers(0, 10**6), st.booleans(),
    st.lists(st.sampled_from(e.VERDICTS), min_size=1, max_size=8), st.data(),
)  # fmt: skip
@settings(max_examples=60)
def test_every_second_of_a_session_has_its_place(
    count: int, seed: int, live: bool, verdicts: list[e.Verdict], data: st.DataObject
) -> None:
    """Also where engines are killed at any moment, and the clock is set between them."""
    events = story_events(experiments=count, seed=seed, live=live, verdicts=verdicts)
    state, told, moved = State(), list[Event](), 0.0
    kills = data.draw(st.sets(st.integers(5, len(events)), max_size=3))
    for number, event in enumerate(events):
        if number in kills:
            moved += data.draw(st.sampled_from([-1e6, -3.7, 0.0, 0.1, 20.3, 1e6]))
            told.append(Event(len(told) + 1, event.time + moved, told_engine("cpu0", "cpu1")))
        told.append(Event(len(told) + 1, event.time + moved, event.body))
    for event in told:
        fold(state, event)
    for spent in split(state, state.time).values():
        assert sum(spent.values()) == wall(told)
        assert set(spent) == set(SPENDING) and min(spent.values()) >= 0
