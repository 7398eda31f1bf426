"""Code under test that is off its clock takes nothing from a run on its clock, and is still while a model is scored."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.lab.harness_command import run_command
from core.lab.runner import RunSpec, start
from core.lab.sandbox.delegation import delegation
from core.lab.sandbox.tiers import Tier
from core.lab.shim.clocks.clock_register import ClockRegister
from core.lab.shim.clocks.off_clock import ESCAPED, OffClock
from core.lab.shim.group.cgroup import ControlGroup
from core.lab.shim.proctree import process_stat, threads_of
from tests.lab.conftest import Make, log, marked, run, until

BUSY = """
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        while True: pass
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
def beside(job: Make, tmp_path: Path) -> Make:
    """Make a job that is off its clock in a session with a machine of one processor, without a control group."""

    def build(program: str, **more: object) -> RunSpec:
        return job(program, **{"clocks": tmp_path / "clocks", "beside": True, "groups": "", **more})

    return build


@pytest.fixture
def others(tmp_path: Path) -> ClockRegister:
    """What the session's other runs say of themselves."""
    return ClockRegister(str(tmp_path / "clocks"), "others")


def used(spec: RunSpec) -> float:
    return sum(stat.cpu for pid in marked(spec) if (stat := process_stat(pid)))


def states(spec: RunSpec) -> set[str]:
    return {stat.state for pid in marked(spec) for stat in threads_of(pid).values()}


def allowed(spec: RunSpec) -> set[int]:
    """The sizes of the sets of processors on which the threads of the job may run."""
    return {len(os.sched_getaffinity(thread)) for pid in marked(spec) for thread in threads_of(pid)}


async def up(spec: RunSpec) -> None:
    await until(lambda: (spec.folder / "output.log").exists() and "up" in log(spec))


def test_a_killed_owner_is_not_believed(tmp_path: Path) -> None:
    folder = str(tmp_path / "clocks")
    one, other = ClockRegister(folder, "1"), ClockRegister(folder, "2")
    one.clock(1.5)
    assert other.others() == (1.5, False) and one.others() == (0.0, False)
    one.scoring()
    assert other.others() == (0.0, True) and one.others() == (0.0, False)
    one.leave()
    code = f"from core.lab.shim.clocks.clock_register import *; ClockRegister({folder!r}, '3').clock(2.0); os._exit(1)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert os.listdir(folder) == ["clock.3.2000"] and other.others() == (0.0, False) and os.listdir(folder) == []  # noqa: PTH208


def test_a_pipe_in_place_of_a_lock_is_held_by_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    code = f"from core.lab.shim.clocks.clock_register import *; print(is_locked({str(tmp_path / 'lock')!r}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n"


async def test_where_no_processor_is_free_it_runs_a_small_part_of_the_time(
    beside: Make, others: ClockRegister, tier: Tier
) -> None:
    spec = beside(BUSY, sandbox=tier)
    one = await start(spec)
    await up(spec)
    others.clock(1.0)
    await until(lambda: "T" in states(spec))
    before, begun = used(spec), time.monotonic()
    await asyncio.sleep(1.5)
    taken = (used(spec) - before) / (time.monotonic() - begun)
    others.leave()
    assert taken < 0.4, f"{taken:.2f} processors were taken by 4 processes"
    await until(lambda: "T" not in states(spec))
    await one.kill("enough")


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
async def test_it_is_bound_to_the_processors_that_are_free(beside: Make, others: ClockRegister) -> None:
    spec = beside(BUSY, machine_processors=2)
    one = await start(spec)
    await up(spec)
    everywhere = len(os.sched_getaffinity(0))
    assert allowed(spec) == {everywhere}
    others.clock(1.0)
    await until(lambda: allowed(spec) == {1})
    others.leave()
    await until(lambda: allowed(spec) == {everywhere} and "T" not in states(spec))
    await one.kill("enough")


async def test_what_asks_for_no_more_than_is_free_is_left_alone(beside: Make, others: ClockRegister) -> None:
    others.clock(1.0)
    spec = beside("begun = time.time()\nwhile time.time() < begun + 1: pass", machine_processors=2)
    one = await start(spec)
    seen: set[int] = set()
    while one.phase != "ended":
        seen |= allowed(spec)
        await asyncio.sleep(0.02)
        await asyncio.wait({asyncio.ensure_future(one.wait())}, timeout=0.02)
    assert seen == {len(os.sched_getaffinity(0))}


async def test_what_reads_its_output_counts_as_its_own(beside: Make, others: ClockRegister) -> None:
    spec = beside("print('up', flush=True)\nwhile True: os.write(1, b'step 1 | loss 2.0\\n' * 2000)")
    one = await start(spec)
    await up(spec)
    others.clock(1.0)
    await until(lambda: "T" in states(spec))

    def seconds() -> float:
        return sum(stat.cpu for pid in (one.status["shim"][1], *marked(spec)) if (stat := process_stat(pid)))

    before, begun = seconds(), time.monotonic()
    await asyncio.sleep(1.5)
    taken = (seconds() - before) / (time.monotonic() - begun)
    await one.kill("enough")
    assert taken < 0.4


async def test_a_tree_that_frees_itself_is_stopped(beside: Make, others: ClockRegister) -> None:
    freeing = "import threading\nevery = os.sched_getaffinity(0)\n" + BUSY.replace(
        "while True: pass", "while True: os.sched_setaffinity(0, every)"
    )
    spec = beside(freeing, machine_processors=2)
    one = await start(spec)
    await up(spec)
    others.clock(1.0)
    await until(lambda: "T" in states(spec))
    await asyncio.sleep(0.5)
    before, begun = used(spec), time.monotonic()
    await asyncio.sleep(1.5)
    taken = (used(spec) - before) / (time.monotonic() - begun)
    await one.kill("enough")
    assert taken < 0.4


async def test_it_is_still_while_a_model_is_scored_and_loses_no_time(
    beside: Make, others: ClockRegister, tier: Tier
) -> None:
    """It is stopped for longer than it may start up."""
    program = "print('up', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\nready()\ndone(steps=1)"
    spec = beside(program, channel=True, sandbox=tier, beside=False, startup_seconds=3.0)
    one = await start(spec)
    await up(spec)
    others.scoring()
    await until(lambda: states(spec) == {"T"})
    (spec.cwd / "go").touch()
    await asyncio.sleep(3.0)
    assert states(spec) == {"T"} and one.phase == "starting"
    others.leave()
    assert (await one.wait()).ended == "done"


async def test_a_run_that_waits_for_its_clock_is_still(beside: Make) -> None:
    program = """
    import threading
    def work():
        while True: pass
    threading.Thread(target=work, daemon=True).start()
    ready()
    done(steps=1)
    os._exit(0)
    """
    spec = beside(program, channel=True, beside=False, hold=True)
    one = await start(spec)
    await until(lambda: one.phase == "ready" and states(spec) == {"T"})
    one.release()
    assert (await one.wait()).ended == "done"


CONTINUES_ITSELF = """
import ctypes, signal
signal.signal(signal.SIGCONT, lambda *_: None)
event = (ctypes.c_byte * 64)()
ctypes.c_int.from_buffer(event, 8).value = signal.SIGCONT
libc = ctypes.CDLL(None, use_errno=True)
for number in range(1, 2000):
    timer, once = ctypes.c_void_p(), (ctypes.c_long * 4)(0, 0, number // 100, number % 100 * 10_000_000)
    assert libc.timer_create(1, event, ctypes.byref(timer)) == 0
    assert libc.timer_settime(timer, 0, once, None) == 0
print("up", flush=True)
while True: pass
"""


async def test_a_tree_that_continues_itself_is_ended(beside: Make, others: ClockRegister) -> None:
    spec = beside(CONTINUES_ITSELF)
    one = await start(spec)
    await up(spec)
    others.scoring()
    result = await one.wait()
    assert result.ended == "resources" and result.reason == ESCAPED


def group_of(spec: RunSpec, base: str) -> ControlGroup:
    line = Path(f"/proc/{marked(spec)[0]}/cgroup").read_text().splitlines()[-1]
    return ControlGroup(f"{base}/{line.rpartition('/')[2]}")


async def test_a_control_group_is_frozen_and_cannot_continue_itself(beside: Make, others: ClockRegister) -> None:
    if not (base := delegation().base):
        pytest.skip("no control group can be made here")
    spec = beside(CONTINUES_ITSELF, groups=base)
    one = await start(spec)
    await up(spec)
    group = group_of(spec, base)
    others.scoring()
    await until(group.frozen)
    before = group.cpu_seconds()
    await asyncio.sleep(0.3)
    after = group.cpu_seconds()
    assert before is not None and after is not None and after - before < 0.05 and group.frozen()
    others.leave()
    await until(lambda: not group.frozen())
    await one.kill("enough")


async def test_the_share_of_a_run_is_what_it_got_of_the_time_it_asked_for(job: Make) -> None:
    """The rivals fill all the processors: a run that has left one of them empty has got what it asked for."""
    program = "ready()\nbegun = time.time()\nwhile time.time() < begun + 1.5: pass\ndone(steps=1)"
    busy = [sys.executable, "-S", "-c", "while True: pass"]
    number = 4 * len(os.sched_getaffinity(0))
    rivals = [await asyncio.create_subprocess_exec(*busy, start_new_session=True) for _ in range(number)]
    try:
        result = await run(job(program, channel=True, cores=1.0))
    finally:
        for rival in rivals:
            rival.kill()
            await rival.wait()
    assert result.ended == "done" and result.share is not None and result.share < 0.6


async def test_a_kept_command_is_frozen_by_its_control_group(others: ClockRegister, tmp_path: Path) -> None:
    """A scorer or a coding agent, with what it started in sessions of its own."""
    if not (base := delegation().base):
        pytest.skip("no control group can be made here")
    off_clock = OffClock(ClockRegister(str(tmp_path / "clocks"), "agent"), 1)
    argv = [sys.executable, "-c", f"import os, time\n{BUSY}"]
    env = {"PATH": os.environ["PATH"]}
    running = asyncio.create_task(run_command(argv, cwd=tmp_path, env=env, off_clock=off_clock, kept=True))
    try:
        await until(lambda: off_clock.group)
        group = off_clock.group
        assert group is not None and group.path.startswith(base)
        others.scoring()
        await until(group.frozen)
        assert not off_clock.trouble
        others.leave()
        await until(lambda: not group.frozen())
    finally:
        running.cancel()
        await asyncio.wait({running})
    assert group.pids() is None, "nothing is left of it"
