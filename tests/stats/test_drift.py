"""Drift: what a slot's last run of unchanged code says of the machine."""

from __future__ import annotations

from dataclasses import replace

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
        experiments={
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


def test_too_few_runs_are_not_reported() -> None:
    assert speed_change(State(), "cpu0") == ""
    assert speed_change(state_of(("cpu0", 1000), ("cpu0", 500)), "cpu0") == ""
    assert speed_change(state_of(*[("cpu0", 1000)] * 4, ("cpu0", 500), seconds=2.0), "cpu0") == "", "a short run"
    assert speed_change(state_of(*[("cpu0", 1000)] * 4), "cpu7") == ""
