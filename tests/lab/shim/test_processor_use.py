"""What a run on its clock keeps of the processors: what it is expected to use, then what it was seen to use."""

from __future__ import annotations

from core.lab.shim.clocks.processor_use import ProcessorUse


def looked(use: ProcessorUse, rates: list[float]) -> list[float]:
    """What is kept after each second, in which so many processors were used."""
    used, kept = 10.0, []
    use.look(used, 100.0)
    for second, rate in enumerate(rates, 1):
        used += rate
        use.look(used, 100.0 + second)
        kept.append(use.kept)
    return kept


def test_a_run_that_sleeps_keeps_little_and_a_busy_one_what_it_uses() -> None:
    asleep, busy = ProcessorUse(1.5, 1.5), ProcessorUse(0.1, 6.0)
    assert (asleep.kept, asleep.peak) == (1.5, None), "not measured yet"
    assert looked(asleep, [0.0, 0.01]) == [0.1, 0.1] and asleep.peak == 0.1
    assert looked(busy, [2.0, 0.0, 4.0]) == [2.5, 2.5, 5.0], "the most of the last seconds, and a quarter more"
    assert ProcessorUse(9.0, 2.0).kept == 2.0


def test_it_keeps_no_more_than_its_part_and_forgets_what_was_long_ago() -> None:
    use = ProcessorUse(1.0, 2.0)
    assert looked(use, [8.0, *[0.2] * 40])[::40] == [2.0, 0.25] and use.peak == 2.0


def test_looks_that_follow_each_other_closely_count_as_one() -> None:
    use = ProcessorUse(1.0, 2.0)
    assert not use.look(0.0, 50.0) and not use.look(0.4, 50.4) and use.kept == 1.0
    assert use.look(0.4, 51.0) and use.kept == 0.5
