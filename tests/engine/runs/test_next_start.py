"""The next run starts up while the present one trains, and waits for its clock; whatever it does, no result is lost.

The first experiment trains until a file is there, so that nothing depends on the machine's speed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from core.client import read_events, read_state
from core.lab import container
from core.lab.shim.clocks.low_priority import LowPriority
from core.lab.shim.proctree import threads_of
from core.record import commands as c
from core.record import events as e
from core.record.state import State
from core.session.disk import read_json
from core.session.lock import lock_holder
from core.session.paths import SessionPaths
from tests.engine.support import (
    accepted,
    bodies,
    engine,
    final_verdicts,
    kill_engine,
    slot_seconds,
    wait_end,
    wait_for,
    wait_state,
)
from tests.false_driver import FalseDriver
from tests.projects import SCORED_FILES, SCORED_PROGRAM, SCORED_TRAIN, make_project, write_script

Body = TypeVar("Body")
STARTING = "time.sleep(0.5)  # starting up\n"


def start_up(code: str, number: int = 2) -> dict[str, Any]:
    """A proposal whose run does this before it asks for its data."""
    edits = [
        {"path": "train.py", "search": STARTING, "replace": code},
        {"path": "train.py", "search": "RATE = 0.5", "replace": f"RATE = 0.6{number}"},
    ]
    return {"hypothesis": f"another start, {number}", "kind": "other", "edits": edits}


@contextmanager
def session(
    tmp_path: Path, *proposals: dict[str, Any], train: str = SCORED_TRAIN, **options: Any
) -> Iterator[tuple[SessionPaths, Path]]:
    """An engine whose first experiment trains until a file is made: the path is yielded. Others are `proposals`."""
    program = SCORED_PROGRAM.replace('edit = ["train.py"]', 'edit = ["train.py"]\ninputs = ["gate"]')
    project = make_project(tmp_path / "p", train=train, program=program, more=SCORED_FILES)
    gate = project / "gate"
    gate.mkdir()
    wait = "while not os.path.exists('gate/open'): time.sleep(0.02)\n"
    edit = {"path": "train.py", "search": "time.sleep(SECONDS)\n", "replace": wait}
    first = {"hypothesis": "wait", "kind": "other", "edits": [edit]}
    script = write_script(tmp_path / "s.jsonl", [first, *proposals])
    overrides = ("decide.baseline=1", "budget.run=5m", *options.pop("overrides", ()))
    options = {"slots": "cpu:1", "researcher": "scripted", "script": str(script), **options}
    with engine(project, overrides=overrides, **options) as paths:
        yield paths, gate / "open"


def start_of(paths: SessionPaths, experiment: int) -> int:
    """The number of the run of an experiment that starts up beside that of the first, which trains."""

    def is_there(state: State) -> bool:
        runs = state.live_runs()
        first = any(run.experiment == 1 and run.phase == "training" for run in runs)
        return first and any(run.experiment == experiment for run in runs)

    state = wait_state(paths, is_there, f"a start of {experiment} beside the first")
    return next(run.run for run in state.live_runs() if run.experiment == experiment)


def of(paths: SessionPaths, kind: type[Body]) -> list[tuple[float, Body]]:
    """The events of one kind, with their times."""
    return [(event.time, event.body) for event in read_events(paths) if isinstance(event.body, kind)]


def phase(paths: SessionPaths, run: int) -> str:
    return str(read_json(paths.run(run) / "status.json").get("phase", ""))


def tree(paths: SessionPaths, run: int) -> list[int]:
    """The processes of a run, its shim first."""
    shim: Any = read_json(paths.run(run) / "status.json").get("shim")
    try:
        return [shim[1], *(child.pid for child in psutil.Process(shim[1]).children(recursive=True))] if shim else []
    except psutil.NoSuchProcess:
        return []


def ready(paths: SessionPaths, experiment: int = 2) -> tuple[int, list[int]]:
    """The run of an experiment once it waits for its clock beside the first, and its processes."""
    run = start_of(paths, experiment)
    wait_for(lambda: phase(paths, run) == "ready", "the start to wait for its clock")
    return run, tree(paths, run)


def gone(pids: list[int]) -> None:
    wait_for(lambda: not any(map(psutil.pid_exists, pids)), "the end of a start that was withdrawn")


def verdicts(state: State) -> list[str | None]:
    return [x.verdict for n, x in state.experiments.items() if n]


def counted(state: State, experiment: int) -> list[tuple[str | None, str]]:
    return [(run.ended, run.reason) for run in state.experiments[experiment].runs]


def test_the_next_run_is_up_when_the_one_before_ends(tmp_path: Path) -> None:
    with session(tmp_path, start_up(STARTING), start_up(STARTING, 3)) as (paths, gate):
        run, pids = ready(paths)
        assert len(pids) > 1 and not any(r.experiment == 3 for r in read_state(paths).live_runs()), "one at most"
        wait_for(lambda: all(_stands_still(pid) for pid in pids[1:]), "the waiting run to be stopped")
        gate.touch()
        state = wait_end(paths)
    assert verdicts(state) == ["discarded"] * 3 and state.state == "finished"
    second = next(r for r in state.experiments[2].runs if r.run == run)
    finished = next(t for t, b in of(paths, e.RunFinished) if b.experiment == 1)
    assert second.clock_started is not None and second.clock_started >= finished - 0.05, "a clock ran while scoring"
    assert all(len(x.runs) == 1 for x in state.experiments.values()) and second.gap is not None
    slot_seconds(paths)


def test_the_smoke_check_goes_where_starts_are_hidden(tmp_path: Path) -> None:
    later = [start_up(STARTING, n) for n in (2, 3, 4, 5)]
    with session(tmp_path, *later, overrides=("checks.smoke='true'", "checks.other='true'")) as (paths, gate):
        ready(paths)
        gate.touch()
        state = wait_end(paths)
    assert verdicts(state) == ["discarded"] * 5
    smoke = [b.experiment for _, b in of(paths, e.Checked) if b.name == "smoke"]
    assert 1 in smoke and 5 not in smoke
    assert [b.experiment for _, b in of(paths, e.Checked) if b.name == "other"] == [1, 2, 3, 4, 5]


def _stands_still(pid: int) -> bool:
    group = Path(f"/proc/{pid}/cgroup").read_text()
    return "autoresearch-" in group or {thread.state for thread in threads_of(pid).values()} <= set("TtZX")


def test_a_start_has_the_lowest_priority_until_its_turn(tmp_path: Path) -> None:
    low = LowPriority()
    if not low._idle:
        pytest.skip("the idle class cannot be left here")
    with session(tmp_path, start_up("while True: pass\n")) as (paths, gate):
        run = start_of(paths, 2)
        wait_for(lambda: len(tree(paths, run)) > 1, "the run's processes")
        wait_for(lambda: _classes(paths, run) == {os.SCHED_IDLE}, "the idle class")
        gate.touch()
        wait_state(paths, lambda s: s.experiments[1].verdict, "the first verdict")
        wait_for(lambda: _classes(paths, run) == {os.SCHED_OTHER}, "the usual class")
        accepted(paths, c.Skip(2))
        assert verdicts(wait_end(paths)) == ["discarded", "skipped"]


def _classes(paths: SessionPaths, run: int) -> set[int]:
    """Those of the threads of a run's processes."""
    return {os.sched_getscheduler(thread) for pid in tree(paths, run)[1:] for thread in threads_of(pid)}


def test_a_start_that_dies_is_a_crash_and_the_next_takes_its_place(tmp_path: Path) -> None:
    with session(tmp_path, start_up("raise SystemExit('out of ' + 'ideas')\n"), start_up(STARTING, 3)) as (paths, gate):
        state = wait_state(paths, lambda s: 2 in s.experiments and s.experiments[2].verdict, "a verdict on the second")
        assert state.experiments[1].verdict is None, "while the first trains"
        assert state.experiments[2].verdict == "crashed" and "out of ideas" in state.experiments[2].reason
        ready(paths, 3)
        gate.touch()
        state = wait_end(paths)
    assert verdicts(state) == ["discarded", "crashed", "discarded"]
    assert [r.seconds for r in state.experiments[2].runs] == [0.0], "it took no device time"


def test_a_start_that_hangs_ends_at_its_allowance(tmp_path: Path) -> None:
    with session(tmp_path, start_up("time.sleep(1e6)\n"), overrides=("budget.startup=8s",)) as (paths, gate):
        state = wait_state(paths, lambda s: 2 in s.experiments and s.experiments[2].verdict, "a verdict on the second")
        assert state.experiments[1].verdict is None and state.experiments[2].verdict == "crashed"
        assert "start-up allowance of 8 s" in state.experiments[2].reason
        gate.touch()
        assert verdicts(wait_end(paths)) == ["discarded", "crashed"]


def test_a_start_that_grows_is_tried_again_alone(tmp_path: Path) -> None:
    grows = "x = bytearray(400 << 20)\nx[::4096] = bytes(len(x[::4096]))\ntime.sleep(1e6)\n"
    with session(tmp_path, start_up(grows), overrides=("sandbox.memory_gb=0.3",)) as (paths, gate):
        state = wait_state(paths, lambda s: 2 in s.experiments and any(ended for ended, _ in counted(s, 2)), "its end")
        assert state.experiments[1].verdict is None and state.experiments[2].verdict is None
        [(ended, reason)] = counted(state, 2)
        assert ended == "abandoned" and "MB of memory" in reason and "starts again alone" in reason
        gate.touch()
        state = wait_end(paths)
    assert verdicts(state) == ["discarded", "crashed"]
    assert counted(state, 2)[1][0] == "resources" and "beside" not in state.experiments[2].reason


def test_a_start_that_prints_without_end_costs_little(tmp_path: Path) -> None:
    prints = "while True: os.write(1, b'step 1 | loss 2\\n' * 4000)\n"
    with session(tmp_path, start_up(prints)) as (paths, gate):
        run = start_of(paths, 2)
        wait_for(lambda: tree(paths, run), "its processes")
        shim = psutil.Process(tree(paths, run)[0])
        wait_for(lambda: sum(shim.cpu_times()[:2]) > 0.4, "its supervisor to have read much")
        before, begun = sum(shim.cpu_times()[:2]), time.monotonic()
        wait_for(lambda: time.monotonic() > begun + 4, "some seconds")
        used, passed = sum(shim.cpu_times()[:2]) - before, time.monotonic() - begun
        assert used < 0.3 + 0.15 * passed, (used, passed)
        accepted(paths, c.Skip(2))
        gone(tree(paths, run))
        gate.touch()
        assert verdicts(wait_end(paths)) == ["discarded", "skipped"]


def test_a_skipped_start_is_gone_and_the_next_takes_its_place(tmp_path: Path) -> None:
    with session(tmp_path, start_up(STARTING), start_up(STARTING, 3)) as (paths, gate):
        _, pids = ready(paths)
        accepted(paths, c.Skip(2))
        gone(pids)
        ready(paths, 3)
        gate.touch()
        state = wait_end(paths)
    assert verdicts(state) == ["discarded", "skipped", "discarded"]
    assert not list(paths.worktrees.iterdir())


def test_a_pause_ends_a_waiting_start_and_it_runs_after_it(tmp_path: Path) -> None:
    with session(tmp_path, start_up(STARTING)) as (paths, gate):
        _, pids = ready(paths)
        assert "1 run in progress" in accepted(paths, c.Pause())
        gone(pids)
        gate.touch()
        state = wait_state(paths, lambda s: s.experiments[1].verdict, "the first verdict")
        assert counted(state, 2) == [("abandoned", "withdrawn while it waited for its slot")]
        accepted(paths, c.Resume())
        state = wait_end(paths)
    assert verdicts(state) == ["discarded", "discarded"] and len(state.experiments[2].runs) == 2


@pytest.mark.parametrize("now", [False, True])
def test_a_stop_ends_a_waiting_start_and_the_next_engine_runs_it(tmp_path: Path, now: bool) -> None:
    with session(tmp_path, start_up(STARTING)) as (paths, gate):
        _, pids = ready(paths)
        assert "1 run" in accepted(paths, c.Stop(now=now))
        gone(pids)
        gate.touch()
        state = wait_end(paths)
        assert state.state == "stopped" and state.experiments[2].verdict is None and not state.live_runs()
    with engine(paths.project):
        state = wait_end(paths)
    assert verdicts(state) == ["discarded", "discarded"] and sorted(final_verdicts(paths)) == [1, 2]


def test_a_waiting_start_does_not_outlive_a_killed_engine(tmp_path: Path) -> None:
    with session(tmp_path, start_up(STARTING)) as (paths, gate):
        run, pids = ready(paths)
        kill_engine(paths, signal.SIGKILL)
        assert phase(paths, run) == "ready"
        with engine(paths.project):
            gone(pids)
            wait_state(paths, lambda s: counted(s, 2)[0][0] == "abandoned", "its end in the log")
            gate.touch()
            state = wait_end(paths)
    assert verdicts(state) == ["discarded", "discarded"] and sorted(final_verdicts(paths)) == [1, 2]
    assert not list(paths.worktrees.iterdir()) and not any("clock" in one.name for one in paths.clocks.iterdir())


def test_a_killed_waiting_start_runs_again(tmp_path: Path) -> None:
    with session(tmp_path, start_up(STARTING)) as (paths, gate):
        _, pids = ready(paths)
        os.kill(pids[0], signal.SIGKILL)
        state = wait_state(paths, lambda s: counted(s, 2)[0][0], "its end in the log")
        assert state.experiments[1].verdict is None and counted(state, 2)[0][0] == "abandoned"
        gone(pids)
        gate.touch()
        state = wait_end(paths)
    assert verdicts(state) == ["discarded", "discarded"]
    assert [ended for ended, _ in counted(state, 2)] == ["abandoned", "done"]


def test_approval_goes_on_while_a_start_waits(tmp_path: Path) -> None:
    with session(tmp_path, start_up(STARTING), start_up(STARTING, 3), overrides=("approve=true",)) as (paths, gate):
        for number in (1, 2):
            wait_state(paths, lambda s, number=number: number in s.approvals, f"{number} to wait for approval")  # type: ignore[misc]
            accepted(paths, c.Approve(number))
        ready(paths)
        gate.touch()
        wait_state(paths, lambda s: 3 in s.approvals, "3 to wait for approval")
        accepted(paths, c.Approve(3))
        state = wait_end(paths)
    assert verdicts(state) == ["discarded"] * 3


def test_a_budget_that_is_spent_ends_a_waiting_start(tmp_path: Path) -> None:
    with session(tmp_path, start_up(STARTING)) as (paths, gate):
        _, pids = ready(paths)
        accepted(paths, c.ChangeBudget(hours=1e-4))
        gone(pids)
        gate.touch()
        state = wait_end(paths)
    assert state.state == "finished" and verdicts(state) == ["discarded", "abandoned"]
    assert "budget was spent before it ran" in state.experiments[2].reason


def test_beside_a_clock_by_the_wall_nothing_starts_on_its_processors(tmp_path: Path) -> None:
    with session(tmp_path, start_up(STARTING), overrides=('budget.clock="wall"',)) as (paths, gate):
        wait_state(paths, lambda s: 2 in s.experiments and s.experiments[2].phase == "queued", "the second to wait")
        gate.touch()
        wait_end(paths)
    begun = next(at for at, b in of(paths, e.RunStarted) if b.experiment == 2)
    ended = next(at for at, b in of(paths, e.RunPhaseChanged) if (b.experiment, b.phase) == (1, "scoring"))
    assert begun > ended - 2, "it began while the first one was on its clock"


def test_beside_a_run_on_a_card_that_leaves_the_processors_alone_the_next_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if container.cores() < 2:
        pytest.skip("one processor is too few for a start beside a run")
    driver = FalseDriver(tmp_path / "driver")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver.folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    long = SCORED_TRAIN.replace("SECONDS = 0.2", "SECONDS = 4.5")  # enough to see the memory of its card
    with session(tmp_path, start_up(STARTING), start_up(STARTING, 3), slots="gpu:0", train=long) as (paths, gate):
        ready(paths)
        kept = [one.name.rpartition(".")[2] for one in paths.clocks.iterdir() if one.name.startswith("clock.")]
        assert kept == ["100"], "thousandths of a processor, as measured"
        gate.touch()
        state = wait_end(paths)
    assert verdicts(state) == ["discarded"] * 3
    slot_seconds(paths)


def test_slots_that_change_end_a_waiting_start(tmp_path: Path) -> None:
    with session(tmp_path, start_up(STARTING), start_up(STARTING, 3)) as (paths, gate):
        ready(paths)
        os.kill(lock_holder(paths), 0)
        accepted(paths, c.ChangeSlots("cpu:2"))
        gate.touch()
        state = wait_end(paths)
    assert verdicts(state) == ["discarded"] * 3
    assert not [b for b in bodies(paths, e.RunFinished) if b.ended not in ("done", "abandoned")]
