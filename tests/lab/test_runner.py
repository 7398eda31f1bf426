"""Runs of real processes that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.lab.runner import RunProcess, RunSpec, adopt, start
from core.lab.sandbox.tiers import Tier
from core.lab.shim.proctree import descendants, process_stat, same_process
from tests.lab.conftest import Make, log, marked, run, until


def environ(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


HONEST = """
time.sleep(0.3)
message, fds = ready()
print(message, os.read(fds[0], 100).decode())
begun = time.time()
step = 0
while step < 3 or time.time() - begun < message.get("seconds", 0.5):
    step += 1
    print(f"step {step:05d} | loss {5 / step:.4f} | lr 0.1")
    time.sleep(0.02)
done(steps=step, tokens=step * 10)
time.sleep(0.2)
open(os.environ["AUTORESEARCH_RUN_DIR"] + "/weights", "w").write("w")
"""


async def test_training_time_runs_from_go_to_done(job: Make) -> None:
    spec = job(HONEST, channel=True, seconds=0.6)
    phases: list[str] = []
    result = await (await start(spec)).wait(phases.append)
    assert result.ended == "done" and result.exit_code == 0 and result.reason == ""
    assert phases == ["starting", "training", "saving"]
    assert result.saving_seconds is not None and result.saving_seconds > 0.15
    assert 0.55 < result.seconds < result.wall_seconds - result.saving_seconds - 0.25
    assert result.steps is not None and result.tokens == result.steps * 10 and result.params == 123
    assert "'names': ['train.bin'], 'seconds': 0.6} training data" in log(spec)
    assert (spec.out / "weights").read_text() == "w"
    curve = [line.split("\t") for line in (spec.folder / "curve.tsv").read_text().splitlines()]
    assert 2 <= len(curve) <= 2 + 10 * result.seconds and curve[0][1] == "1" and float(curve[0][2]) == 5.0
    assert all(0 <= float(line[0]) < result.wall_seconds for line in curve)
    assert abs(result.ended_at - time.time()) < 60 and result.clock_started and result.clock_started < result.ended_at
    assert result.peak_memory and result.peak_memory > 1 << 20
    await until(lambda: not (spec.folder / "home").exists() and not (spec.folder / "tmp").exists())


async def test_a_step_budget_is_sent_to_the_run(job: Make) -> None:
    spec = job("print(ready()[0])\nprint('step 7 loss 1.5')\ndone(steps=400)", channel=True, seconds=None, steps=400)
    result = await run(spec)
    assert "'steps': 400}" in log(spec) and result.steps == 400 and result.tokens is None


async def test_progress_is_reported_during_a_run(job: Make) -> None:
    one = await start(job(HONEST, channel=True, seconds=20.0))
    await until(lambda: one.phase == "training")
    begun = one.seconds
    await until(lambda: one.seconds > begun + 0.3)
    assert one.fraction is not None and 0.01 < one.fraction < 0.9
    await until(lambda: one.status.get("step"))
    assert one.status["loss"] > 0
    result = await one.kill("enough")
    assert result.ended == "killed" and result.reason == "enough" and one.phase == "ended" and one.fraction == 1.0


async def test_the_clock_of_a_plain_command_starts_with_it(job: Make) -> None:
    spec = job("print('step 3 loss: 0.5')\ntime.sleep(0.3)\nprint('val_bpb: 1.25')", seconds=20.0)
    one = await start(spec)
    await until(lambda: one.phase == "training")
    result = await one.wait()
    assert result.ended == "done" and result.seconds >= 0.3 and abs(result.seconds - result.wall_seconds) < 0.01
    assert result.steps == 3 and result.log_tail.endswith("val_bpb: 1.25\n")


@pytest.mark.slow
async def test_a_run_past_its_budget_is_ended(job: Make) -> None:
    stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nready()\nwhile True: time.sleep(1)"
    result = await run(job(stubborn, channel=True, seconds=0.5))
    assert result.ended == "overtime" and 2.5 < result.seconds < 8
    assert result.reason == "was killed after 2.5 s: still training past its budget of 0.5 s"


async def test_steps_start_up_and_saving_are_limited(job: Make) -> None:
    result = await run(job("ready()\ntime.sleep(60)", channel=True, seconds=None, steps=5, limit_seconds=0.5))
    assert result.ended == "overtime" and "the limit of 0.5 s on a run of 5 steps" in result.reason
    result = await run(job("time.sleep(60)", channel=True, startup_seconds=0.4))
    assert result.ended == "startup_timeout" and "start-up allowance of 0.4 s" in result.reason and result.seconds == 0
    result = await run(job("ready()\ndone(steps=1)\ntime.sleep(60)", channel=True, saving_seconds=0.4))
    assert result.ended == "overtime" and "0.4 s after it reported" in result.reason
    assert result.seconds < result.wall_seconds - 0.4, "its clock stood still"


async def test_no_process_survives_a_kill(job: Make) -> None:
    nasty = """
    import signal
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                while True: time.sleep(1)
            os._exit(0)
    print("up", flush=True)
    while True: time.sleep(1)
    """
    spec = job(nasty)
    one = await start(spec)
    await until(lambda: "up" in log(spec) and len(marked(spec)) == 4)
    begun = time.monotonic()
    result = await one.kill("skipped by the user 🚀")
    assert time.monotonic() - begun < 10, "it was left to _KILL_SECONDS"
    assert result.ended == "killed" and result.reason == "skipped by the user 🚀" and marked(spec) == []


async def test_a_daemon_of_a_run_is_ended_with_it(job: Make) -> None:
    daemon = """
    if os.fork() == 0:
        os.setsid()
        if os.fork(): os._exit(0)
        while True: time.sleep(1)
    os.wait()
    """
    result = await run(job(daemon))
    assert result.ended == "done" and result.wall_seconds < 15


async def test_a_crash_is_reported_with_its_cause(job: Make) -> None:
    result = await run(job("print('so far')\ndef f(): raise ValueError('the loss is \\x1b[31mNaN')\nf()"))
    assert result.ended == "crashed" and result.exit_code == 1
    assert result.reason == "exited with code 1: ValueError: the loss is NaN"
    assert "Traceback" in result.log_tail and "\x1b" not in result.log_tail
    result = await run(job("import ctypes\nctypes.string_at(0)"))
    assert result.ended == "crashed" and result.reason.startswith("was ended by SIGSEGV")
    result = await run(job("os.kill(os.getpid(), 9)"))
    assert result.ended == "crashed" and "lack of memory" in result.reason


async def test_a_program_that_cannot_start_is_reported(job: Make) -> None:
    spec = job("")
    result = await run(
        RunSpec(
            run=1, folder=spec.folder, argv=("/no/such program",), cwd=spec.cwd, env=spec.env, seconds=1.0, plain=True
        )
    )
    assert result.ended == "crashed" and result.exit_code == 127 and "could not start /no/such program" in result.reason


async def test_missing_data_is_reported(job: Make, tmp_path: Path) -> None:
    spec = job("ready()\ntime.sleep(60)", channel=True, train_files={"train.bin": str(tmp_path / "gone")})
    result = await run(spec)
    assert result.ended == "crashed" and "could not open the training data" in result.reason


async def test_invalid_messages_on_the_channel_are_ignored(job: Make) -> None:
    program = """
    for junk in (b"{", b"[]", b"\\xff", b'{"type": "go"}', b'{"type": 5}', b'{"type": "done", "steps": "x"}'):
        channel.send(junk)
    message, fds = ready()
    channel.send(b'{"type": "ready"}')
    channel.send(json.dumps({"type": "done", "steps": -5, "tokens": {"a": 1}}).encode())
    """
    result = await run(job(program, channel=True))
    assert result.ended == "done" and result.steps is None and result.tokens is None


@pytest.mark.slow
async def test_the_log_of_gigabytes_of_output_is_bounded(job: Make) -> None:
    program = """
    line = b"x" * 1000 + b"\\n"
    block = line * 1000
    for i in range(1000): os.write(1, block)
    os.write(1, b"step 9 | loss 0.25\\nlast words\\n")
    """
    spec = job(program, seconds=100.0)
    result = await run(spec)
    assert result.ended == "done" and result.wall_seconds < 60
    assert (spec.folder / "output.log").stat().st_size < 13 << 20
    text = log(spec)
    assert "of output left out here" in text and text.endswith("last words\n") and result.steps == 9


async def test_escape_sequences_are_removed_from_the_log(job: Make) -> None:
    program = r"""
    os.write(1, b"a\x1b[31mred\x1b[0m\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c\r\nd\x9b1me\xc2\x9b2mf\x00\x08\x7fg\n")
    os.write(1, b"split\x1b[3")
    time.sleep(0.1)
    os.write(1, b"1mhere \xe2\x9c\x93\n10%\r20%\r30%\n")
    """
    spec = job(program)
    await run(spec)
    raw = (spec.folder / "output.log").read_bytes()
    assert raw == b"aredbc\nd\x9b1me2mfg\nsplithere \xe2\x9c\x93\n10%\n20%\n30%\n"


async def test_the_shim_and_the_job_have_no_secret_in_their_environment(
    job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-very-secret")
    spec = job("print(sorted(os.environ), flush=True)\ntime.sleep(60)")
    one = await start(spec)
    await until(lambda: "PATH" in log(spec))
    assert all("sk-very-secret" not in environ(one.status[who][1]) for who in ("shim", "job"))
    await one.kill("done looking")
    assert "ANTHROPIC" not in log(spec) and "sk-very" not in (spec.folder / "spec.json").read_text()


async def test_a_killed_shim_ends_its_run(job: Make, tier: Tier) -> None:
    program = """
    if os.fork() == 0:
        os.setsid()
        if os.fork(): os._exit(0)
    print("up", flush=True)
    while True: time.sleep(1)
    """
    spec = job(program, sandbox=tier)
    one = await start(spec)
    await until(lambda: log(spec).count("up") == 2 and one.status.get("tree"))
    job_identity = tuple(one.status["job"])
    os.kill(one.status["shim"][1], signal.SIGKILL)
    result = await one.wait()
    assert result.ended == "abandoned" and result.ended_at
    assert marked(spec) == [] and not same_process(job_identity)
    assert adopt(spec.folder) is None


ENGINE = """
import asyncio, json, sys
from pathlib import Path
from core.lab.runner import RunSpec, start
async def main():
    raw = json.loads(sys.argv[1])
    place, argv = Path(raw["folder"]), tuple(raw["argv"])
    spec = RunSpec(run=1, folder=place, argv=argv, cwd=Path(raw["cwd"]), env=raw["env"],
                   plain=True, seconds=raw["seconds"])
    await start(spec)
    print("started", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.slow
async def test_another_engine_adopts_the_run_of_a_killed_engine(job: Make) -> None:
    spec = job("import signal\nsignal.signal(15, signal.SIG_IGN)\nwhile True: time.sleep(1)", seconds=0.5)
    raw = json.dumps({"folder": str(spec.folder), "argv": spec.argv, "cwd": str(spec.cwd), "env": dict(spec.env),
                      "seconds": 0.5})  # fmt: skip
    engine = await asyncio.create_subprocess_exec(sys.executable, "-c", ENGINE, raw, stdout=subprocess.PIPE)
    assert engine.stdout and await engine.stdout.readline() == b"started\n"
    assert descendants(engine.pid) == []
    engine.kill()
    await engine.wait()
    job_alive = adopt(spec.folder)
    assert job_alive is not None and job_alive.phase == "training"
    result = await job_alive.wait()
    assert result.ended == "overtime" and 2.5 < result.seconds < 8 and marked(spec) == []
    again = adopt(spec.folder)
    assert again is not None and await again.wait() == result


async def test_an_adopted_job_can_be_killed_by_file(job: Make) -> None:
    spec = job("time.sleep(60)")
    await start(spec)
    other = adopt(spec.folder)
    assert other is not None
    assert (await other.kill("moved on")).reason == "moved on"
    spec = job("time.sleep(60)")
    one = await start(spec)
    (spec.folder / "kill").write_text("by file")
    assert (await one.wait()).reason == "by file"


async def test_a_run_folder_is_used_once(job: Make) -> None:
    spec = job("time.sleep(60)")
    one = await start(spec)
    with pytest.raises(Exception, match="another process supervises this run"):
        await start(spec)
    await one.kill("x")
    await until(lambda: subprocess.run(["flock", "-n", str(spec.folder / "lock"), "true"]).returncode == 0)
    with pytest.raises(Exception, match="already ended"):
        await start(spec)
    assert adopt(spec.folder / "nowhere") is None


async def test_twenty_concurrent_waits_use_little_processor_time(job: Make) -> None:
    spec = job("time.sleep(1.0)")
    one: RunProcess = await start(spec)
    before = time.process_time()
    await one.wait()
    assert time.process_time() - before < 0.3


async def test_weights_are_fixed_at_the_first_done(job: Make) -> None:
    spec = job("ready(); done(steps=1, sha256='a' * 64); done(steps=2, sha256='b' * 64)", channel=True)
    result = await (await start(spec)).wait()
    assert (result.ended, result.weights_sha256, result.steps) == ("done", "a" * 64, 1)
    for odd in ("'A' * 64", "'a' * 63", "['a']", "7", "None"):
        result = await (await start(job(f"ready(); done(steps=1, sha256={odd})", channel=True))).wait()
        assert (result.ended, result.weights_sha256) == ("done", None), odd


async def test_the_fault_of_a_shim_that_could_write_no_result_is_told(job: Make) -> None:
    spec = job("while True: time.sleep(1)")
    one = await start(spec)
    (spec.folder / "exit.json").mkdir()  # in the way of the file
    result = await one.kill("enough")
    assert result.ended == "abandoned"
    assert result.reason.startswith("the shim that supervises the run failed: IsADirectoryError"), result.reason


async def test_a_held_run_that_is_killed_as_it_is_released_ends(job: Make) -> None:
    """Its data cannot be sent any more; the shim went on trying, and the slot was blocked for an hour."""
    one = await start(job("ready()", channel=True, hold=True))
    await until(lambda: one.phase == "ready")
    shim, process = one.status["shim"][1], one.status["job"][1]
    os.kill(shim, signal.SIGSTOP)
    try:
        os.kill(process, signal.SIGKILL)
        one.release()
    finally:
        os.kill(shim, signal.SIGCONT)
    result = await asyncio.wait_for(one.wait(), 60)
    assert result.ended == "crashed" and result.exit_code == -signal.SIGKILL and result.seconds == 0.0


async def test_a_held_run_that_closed_its_channel_ends_at_its_release(job: Make) -> None:
    program = """
    channel.send(json.dumps({"type": "ready"}).encode())
    channel.close()
    while True: time.sleep(1)
    """
    one = await start(job(program, channel=True, hold=True))
    await until(lambda: one.phase == "ready")
    one.release()
    result = await asyncio.wait_for(one.wait(), 60)
    assert (result.ended, result.reason) == ("crashed", "closed its control channel before it got its data")


@pytest.mark.parametrize("shim_too", [False, True])
async def test_a_start_that_is_killed_is_no_fault_of_the_run(job: Make, shim_too: bool) -> None:
    """Its shim may live: then the run goes on. A shim that was killed too has abandoned it, to be made again."""
    spec = job("print('up')")
    spec.folder.mkdir()
    os.mkfifo(spec.folder / "shim.log")  # the shim waits here for a reader
    starting = asyncio.create_task(start(spec))

    def chain() -> tuple[int, int] | None:
        """The process that was started, and the shim, once the one between them is gone."""
        needle, parents = os.fsencode(spec.folder / "spec.json"), {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if needle in (path / "cmdline").read_bytes() and (stat := process_stat(int(path.name))):
                    parents[int(path.name)] = stat.parent
        first = [pid for pid, parent in parents.items() if parent == os.getpid()]
        shims = [pid for pid, parent in parents.items() if pid not in first and parent not in parents]
        return (first[0], shims[0]) if len(first) == len(shims) == 1 else None

    await until(chain)
    found = chain()
    assert found is not None
    for process in found[: 1 + shim_too]:
        os.kill(process, signal.SIGKILL)
    reader = os.open(spec.folder / "shim.log", os.O_RDONLY | os.O_NONBLOCK)
    try:
        one = await asyncio.wait_for(starting, 60)
        (spec.folder / "shim.log").unlink()  # it would be read
        result = await asyncio.wait_for(one.wait(), 60)
    finally:
        os.close(reader)
    assert result.ended == ("abandoned" if shim_too else "done")
    assert marked(spec) == []
