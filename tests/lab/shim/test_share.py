"""What the rest of the machine leaves a run, which nothing that the run does can change."""

from __future__ import annotations

import os
import random

from core.lab.shim.clocks.share import ShareMeter, runnable_threads, running_threads


def measured(others: int, own: list[int], *, processors: float = 1.0) -> float | None:
    """The share of a run on two processors beside `others`, which has so many threads at work at each look."""
    at = iter(own)
    now = {"own": 0}

    def runnable() -> int:
        now["own"] = next(at)
        return 1 + others + now["own"]

    meter = ShareMeter(processors, 2, runnable, lambda pids: now["own"])
    meter.start()
    for _ in own:
        meter.sample([])
    return meter.share()


def test_a_run_gets_less_beside_more_threads_of_others() -> None:
    busy = [1] * 10
    assert [measured(others, busy) for others in (0, 1, 3, 9)] == [1.0, 1.0, 0.5, 0.2]
    assert measured(2, [2] * 10, processors=2.0) == 0.5


def test_no_run_can_starve_itself() -> None:
    chance = random.Random(1)
    idle, crowd = [0] * 10, [chance.choice((0, 0, 4, 8)) for _ in range(10)]  # its own threads wait for each other
    assert measured(3, idle) == measured(3, crowd) == measured(3, [1] * 10) == 0.5
    assert measured(0, crowd) == measured(0, idle) == 1.0
    meter = ShareMeter(1.0, 2, lambda: 6, lambda pids: 3)
    for _ in range(10):
        meter.sample([])
    assert (meter.share(), meter.wanted()) == (0.667, 3.0)


def test_nothing_follows_from_a_few_looks_or_where_the_machine_does_not_tell() -> None:
    assert measured(3, [1, 1]) is None
    meter = ShareMeter(1.0, 2, lambda: None)
    for _ in range(10):
        meter.sample([os.getpid()])
    assert meter.share() is None


def test_the_kernel_tells_who_wants_a_processor() -> None:
    runnable = runnable_threads()
    assert runnable is None or runnable >= 1
    assert running_threads([os.getpid()]) >= 1 and running_threads([]) == 0
