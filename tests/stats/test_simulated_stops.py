"""Early stops in simulated sessions, whose truth is known: time is saved, gains are kept, a bad rule ends."""

from __future__ import annotations

from benchmarks.stop_simulation import World, simulated


def test_hopeless_changes_save_time_and_no_gain_is_lost() -> None:
    found, _ = simulated(World(mix="all harm much"), 4, 120)
    assert found.saved / found.runs > 0.1 and found.stopped > 50
    assert found.keeps > 20 and found.lost <= 1 and found.wrong <= 2


def test_false_curves_have_few_others_stopped() -> None:
    found, _ = simulated(World(false=0.1), 4, 120)
    assert found.keeps > 20 and found.lost / found.keeps < 0.06
    assert found.stopped / found.runs < 0.06, "what cannot be believed stops little"


def test_a_rule_that_went_bad_is_switched_off() -> None:
    found, offs = simulated(World(slow_from=60), 4, 120)
    assert sum(off is not None for off in offs) >= 3, offs
    assert found.after / found.since < 0.1, "wrong stops, of the experiments since then"
