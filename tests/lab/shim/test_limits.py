"""Limits on the memory, processes, disk and processors of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.lab.runner import start
from core.lab.sandbox.tiers import Tier
from core.record.errors import LabError
from tests.disks import fill, small_disk
from tests.lab.conftest import Make, run


async def test_memory_is_limited(job: Make) -> None:
    spec = job(
        "held = []\nwhile True:\n    held.append(bytearray(b'x') * (8 << 20)); time.sleep(0.01)", memory_limit=200 << 20
    )
    result = await run(spec)
    assert result.ended == "resources" and result.reason == "was killed: it used more than 200 MB of memory"
    assert result.peak_memory is not None and 200 << 20 < result.peak_memory < 2 << 30


async def test_memory_shared_by_a_fork_counts_once(job: Make) -> None:
    program = """
    held = bytearray(b"x") * (60 << 20)
    for _ in range(5):
        if os.fork() == 0:
            time.sleep(1.2); os._exit(0)
    time.sleep(1.0)
    """
    spec = job(program, memory_limit=200 << 20)
    result = await run(spec)
    assert result.ended == "done", result.reason


async def test_processes_are_limited(job: Make) -> None:
    program = """
    for _ in range(500):
        if os.fork() == 0:
            time.sleep(60); os._exit(0)
    time.sleep(60)
    """
    spec = job(program, process_limit=64)
    result = await run(spec)
    assert result.ended == "resources" and "more than 64 processes" in result.reason and result.wall_seconds < 50


@pytest.mark.slow
async def test_a_fork_bomb_is_ended(job: Make, tier: Tier) -> None:
    spec = job("while True:\n    try: os.fork()\n    except OSError: pass", sandbox=tier, process_limit=256)
    result = await run(spec)
    assert result.ended == "resources" and "more than 256 processes" in result.reason, result
    assert result.wall_seconds < 60


@pytest.mark.parametrize("where", ["AUTORESEARCH_RUN_DIR", "TMPDIR", "HOME", "."])
async def test_disk_is_limited(job: Make, where: str) -> None:
    program = f"""
    folder = os.environ.get({where!r}, ".")
    for i in range(10_000):
        open(f"{{folder}}/{{i}}", "wb").write(bytes(1 << 20)); time.sleep(0.02)
    """
    spec = job(program, disk_limit=30 << 20)
    result = await run(spec)
    assert result.ended == "resources" and "more than 30 MB to disk" in result.reason


async def test_a_file_above_the_limit_ends_the_run(job: Make) -> None:
    spec = job("f = open('big', 'wb')\nwhile True: f.write(bytes(1 << 20))", disk_limit=30 << 20)
    result = await run(spec)
    assert result.ended in ("resources", "crashed") and (spec.cwd / "big").stat().st_size <= 30 << 20


async def test_the_result_is_written_on_a_full_disk(job: Make, tmp_path: Path) -> None:
    program = """
    with open(os.environ["AUTORESEARCH_RUN_DIR"] + "/fill", "wb", buffering=0) as file:
        try:
            while True: file.write(bytes(4096))
        except OSError as error: print("x" * 100_000, error)
    time.sleep(1.5)
    raise SystemExit("no room for the weights")
    """
    with small_disk(tmp_path / "disk", 2) as disk:
        spec = replace(job(program), folder=disk / "run")
        result = await run(spec)
        assert result.ended == "crashed" and "no room for the weights" in result.reason
        fill(disk)
        with pytest.raises(LabError, match="free some space"):
            await start(replace(spec, folder=disk / "next"))


async def test_a_run_above_the_processors_of_its_slot_is_ended(job: Make) -> None:
    program = """
    ready()
    if os.fork() == 0:  # a child that has ended counts too
        while time.process_time() < 0.7: pass
        os._exit(0)
    while time.process_time() < 0.7: pass
    os.wait()
    done(steps=1)
    """
    result = await run(job(program, channel=True, cores=0.05, seconds=1.0))
    assert result.ended == "resources" and "where its slot has 0.05 processors" in result.reason
    assert "was killed" in result.reason, "the run was not killed before its end"
    result = await run(job(program, channel=True, cores=2.0))
    assert result.ended == "done" and result.cpu_seconds is not None and 1.3 < result.cpu_seconds < 2.5
    # The limit also holds for a run that ends without `done`, whose time then counts and not its budget.
    result = await run(job(program.replace("done(steps=1)", ""), channel=True, cores=0.03, seconds=60.0))
    assert result.ended == "resources", result


async def test_processes_that_share_a_processor_are_counted(job: Make) -> None:
    """They get a larger share without using the seconds of a whole processor; in this test they share one."""
    program = """
    ready()
    os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
    end = time.monotonic() + 3
    for _ in range(COUNT):
        if os.fork() == 0:
            while time.monotonic() < end: pass
            os._exit(0)
    while time.monotonic() < end: time.sleep(0.01)
    done(steps=1)
    """
    for count, ended in ((1, "done"), (4, "resources")):
        result = await run(job(program.replace("COUNT", str(count)), channel=True, cores=1.0, seconds=3.0))
        assert result.ended == ended and result.cpu_seconds and result.cpu_seconds < 3.5, result
    assert "threads at work at once" in result.reason


async def test_orphaned_processes_are_counted(job: Make) -> None:
    """The kernel does not count a child whose parent ignores its end. These live shorter than a sampling interval.

    Together they use 3 s, however busy the machine is, where 1.3 s are allowed.
    """
    program = """
    import signal
    ready()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(30):
        if os.fork() == 0:
            while time.process_time() < 0.1: pass
            os._exit(0)
        try: os.waitpid(-1, 0)
        except ChildProcessError: pass
    done(steps=1)
    """
    result = await run(job(program, channel=True, cores=0.02, seconds=60.0))
    assert result.ended == "resources" and "processor seconds in" in result.reason, result
