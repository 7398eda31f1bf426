"""Drift: what a slot's last run of unchanged code says of the machine."""

from __future__ import annotations

from dataclasses import replace

from core.ordered import Ordered
from core.record.events import NoiseEstimated
from core.record.state import Experiment, Run, State
from core.stats.drift import speed_change

BASE = Run(
    run=1,
    experiment=0,
    kind="baseline",
    slot="cpu0",
    seed=1,
    commit="c0",
    budget="20s",
    started=0.0,
    phase=None,
    ended="done",
    metric=1.0,
    seconds=20.0,
    steps=1000,
)


def state_of(*steps: tuple[str, int], seconds: float = 20.0) -> State:
    """A baseline that ran so often: each run's slot and steps."""
    runs = tuple(
        replace(BASE, run=n, slot=slot, steps=count, seconds=seconds) for n, (slot, count) in enumerate(steps, 1)
    )
    return State(
        experiments=Ordered(
            {
                0: Experiment(
                    number=0,
                    parent=0,
                    parent_commit="c0",
                    researcher="baseline",
                    model=None,
                    started=0.0,
                    commit="c0",
                    runs=runs,
                )
            }
        )
    )


def test_a_slot_with_changed_speed_of_unchanged_code_is_reported() -> None:
    steady = [("cpu0", 1000), ("cpu1", 1010), ("cpu0", 990), ("cpu1", 1005)]
    assert speed_change(state_of(*steady), "cpu0") == speed_change(state_of(*steady), "cpu1") == ""
    slower = state_of(*steady, ("cpu1", 700))
    assert "cpu1 ran unchanged code 30% slower" in speed_change(slower, "cpu1")
    assert speed_change(slower, "cpu0") == "", "one slot's trouble is not another's"
    assert "39% faster" in speed_change(state_of(*steady, ("cpu0", 1400)), "cpu0")
    assert speed_change(state_of(*steady, ("cpu1", 700), ("cpu1", 1000)), "cpu1") == "", "the speed has recovered"


def test_a_machine_with_varying_speed_is_not_reported() -> None:
    restless = [("cpu0", n) for n in (800, 1200, 900, 1100, 1000, 760, 1240, 1150)]
    assert speed_change(state_of(*restless, ("cpu0", 760)), "cpu0") == ""


def test_steps_that_a_change_reports_are_not_believed() -> None:
    state = state_of(*[("cpu0", 1000)] * 4)
    runs = tuple(
        replace(BASE, run=n, experiment=1, commit="c1", steps=steps, metric=metric)
        for n, (steps, metric) in enumerate([(1000, 0.9), (10**11, 0.91), (1, 0.9)], 5)
    )
    state.experiments[1] = replace(state.experiments[0], number=1, commit="c1", runs=runs, verdict="discarded")
    assert speed_change(state, "cpu0") == ""
    state.best, state.noise = 1, NoiseEstimated(sigma=0.01, low=0.01, high=0.02, df=5.0)
    assert speed_change(state, "cpu0") == "", "nor those of the best"
    worse = (*runs, replace(runs[0], run=9, metric=1.0))
    state.experiments[1] = replace(state.experiments[1], runs=worse)
    assert "9.7σ worse" in speed_change(state, "cpu0"), "its results are measured by the harness"


def test_too_few_runs_are_not_reported() -> None:
    assert speed_change(State(), "cpu0") == ""
    assert speed_change(state_of(("cpu0", 1000), ("cpu0", 500)), "cpu0") == ""
    assert speed_change(state_of(*[("cpu0", 1000)] * 4, ("cpu0", 500), seconds=2.0), "cpu0") == "", "a short run"
    assert speed_change(state_of(*[("cpu0", 1000)] * 4), "cpu7") == ""
