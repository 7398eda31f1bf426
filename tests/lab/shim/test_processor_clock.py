"""A clock of processor seconds: what others take of the machine does not count, and neither does waiting."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from core.lab.runner import RunSpec, start
from tests.lab.conftest import Make, run, until

TRAIN = """
go, _ = ready()
assert go["clock"] == "cpu", go
begun = time.process_time()
while time.process_time() < begun + go["seconds"]: pass
done(steps=1)
"""


@pytest.fixture
def clocked(job: Make) -> Make:
    """Make a job of a channel on a clock of processor seconds."""

    def build(program: str, seconds: float = 0.6, **more: object) -> RunSpec:
        return job(program, **{"channel": True, "clock": "cpu", "seconds": seconds, **more})

    return build


@pytest.fixture
def rivals() -> Iterator[Callable[[], None]]:
    """Starts processes that keep every processor busy, three for each."""
    busy: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        number = 3 * len(os.sched_getaffinity(0))
        command = [sys.executable, "-S", "-c", "while True: pass"]
        # The kernel shares the processors by session first.
        busy.extend(subprocess.Popen(command, start_new_session=True) for _ in range(number))

    yield begin
    for process in busy:
        process.kill()
        process.wait()


async def test_what_others_take_does_not_count(clocked: Make, rivals: Callable[[], None]) -> None:
    rivals()
    result = await run(clocked(TRAIN, 1.0))
    assert result.ended == "done" and result.on_clock is not None
    assert 0.99 < result.seconds < 1.2 and result.on_clock > 1.2 * result.seconds


@pytest.mark.parametrize("cores", [None, 1.0])
async def test_a_run_that_trains_on_is_ended(clocked: Make, cores: float | None) -> None:
    result = await run(clocked("ready()\nwhile True: pass", 2.0, cores=cores))
    assert result.ended == "overtime" and 2.0 * 1.02 + 2 <= result.seconds < 5.2
    assert "processor seconds: still training past its budget of 2 processor seconds" in result.reason


async def test_sleep_takes_nothing_from_the_clock_and_has_an_end(clocked: Make) -> None:
    result = await run(clocked("ready()\ntime.sleep(60)", 0.3))
    assert result.ended == "overtime" and result.seconds < 0.2
    assert "was killed after 1.2 s by the wall, 4 times its budget: it used 0.0 of its 0.3" in result.reason


async def test_work_before_the_clock_is_counted_apart(clocked: Make) -> None:
    program = "begun = time.process_time()\nwhile time.process_time() < begun + 0.4: pass\n" + TRAIN
    result = await run(clocked(program, 0.3))
    assert result.ended == "done" and result.before_clock is not None and result.before_clock >= 0.4
    assert result.seconds < 0.5


async def test_threads_and_processes_count(clocked: Make) -> None:
    program = """
    import threading
    ready()
    def work(seconds):
        begun = time.thread_time()
        while time.thread_time() < begun + seconds: pass
    if os.fork() == 0:
        work(0.3)
        os._exit(0)
    thread = threading.Thread(target=work, args=(0.3,))
    thread.start(); thread.join()
    if os.fork() == 0:
        os.setsid()
        work(0.3)
        os._exit(0)
    os.wait(); os.wait()
    done(steps=1)
    """
    result = await run(clocked(program, 5.0))
    assert result.ended == "done" and 0.85 < result.seconds < 1.4


@pytest.mark.parametrize("burn", ["while True: pass", "while True: os.fork() or os._exit(0); os.wait()"])
async def test_a_plain_command_is_ended_at_its_processor_seconds(clocked: Make, burn: str) -> None:
    spec = clocked(f"import os\n{burn}", 0.5, channel=False, at_limit=True)
    result = await run(spec)
    assert result.ended == "overtime" and result.reason == "was ended at its budget of 0.5 processor seconds"
    assert 0.5 <= result.seconds < 0.8


async def test_the_share_of_a_live_run_follows_its_processor_time(clocked: Make) -> None:
    program = "ready()\nend = time.process_time() + 1.0\nwhile time.process_time() < end: pass\ntime.sleep(60)"
    live = await start(clocked(program, 4.0))
    await until(lambda: live.fraction is not None and live.fraction > 0.2)
    used = live.seconds
    assert used > 0.8
    begun = time.monotonic()
    await until(lambda: live.status["now"] - begun > 1.0)
    assert live.seconds < 2.0, "sleep does not count"
    await live.kill("enough")
