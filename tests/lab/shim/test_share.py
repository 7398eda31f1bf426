"""What a run got of its processors: threads that wait for each other have not been starved by others."""

from __future__ import annotations

import os

import pytest

from core.lab.shim.clocks import share
from core.lab.shim.clocks.share import ShareMeter

SECONDS = 10


def measured(patch: pytest.MonkeyPatch, *, others: float, own: float, waited: float, processors: float = 1.0) -> float:
    """The share of a run on two processors that `others` kept busy for so many seconds of ten."""
    at = 0.0
    patch.setattr("core.lab.shim.clocks.share.time.monotonic", lambda: at)
    patch.setattr("core.lab.shim.clocks.share.os.sched_getaffinity", lambda pid: {0, 1})
    patch.setattr(share, "_busy", lambda usable: (others + own) * at / SECONDS)
    meter = ShareMeter(processors, lambda pids: own * at / SECONDS)
    meter.start([])
    for second in range(1, SECONDS + 1):
        at = float(second)
        meter.sample([])
    meter._used, meter._waited = own, waited
    found = meter.share(SECONDS)
    assert found is not None
    return found


def test_a_run_whose_own_threads_wait_for_each_other_has_got_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, others=9.0, own=0.5, waited=4.0) == 1.0  # another slot is at work


def test_a_run_that_others_starved_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, others=18.0, own=2.0, waited=8.0) == 0.2
    assert measured(monkeypatch, others=18.0, own=2.0, waited=8.0, processors=2.0) == 0.2


def test_where_the_work_of_others_is_not_told_waiting_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, others=float("inf"), own=0.5, waited=4.5) == 0.1


def test_the_kernel_tells_how_busy_its_processors_were() -> None:
    first = share._busy(os.sched_getaffinity(0))
    assert 0 < first <= share._busy(os.sched_getaffinity(0)) < float("inf")
