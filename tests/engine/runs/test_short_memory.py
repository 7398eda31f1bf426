"""Memory that runs short while the next run starts up: that start is held back or withdrawn, never the run that trains.

The engine is moved into a control group of its own, whose memory a process of the test fills.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from core.client import read_state
from core.engine.runs.ahead.room import Room
from core.lab import container
from core.record import commands as c
from core.record import events as e
from core.record.state import State
from core.session.lock import lock_holder
from core.session.paths import SessionPaths
from tests.engine.runs.test_next_start import STARTING, counted, gone, ready, session, start_up, tree, verdicts
from tests.engine.support import accepted, bodies, wait_end, wait_for, wait_state

GROUPS = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
LIMIT = 3 << 30
LEFT = 160 << 20  # free: less than is kept for the machine
FILL = """
import os, sys, time
with open(sys.argv[1] + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
held = bytearray(int(sys.argv[2]))
held[::4096] = b"x" * len(held[::4096])
print("full", flush=True)
time.sleep(1e6)
"""


class Group:
    """A control group whose memory is limited."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fill: subprocess.Popen[str] | None = None

    def free(self) -> int:
        used = next(f for f in ("memory.current", "memory.usage_in_bytes") if (self.folder / f).exists())
        return LIMIT - int((self.folder / used).read_text())

    def fill(self, left: int) -> None:
        """Use all of it but `left`."""
        words = [sys.executable, "-c", FILL, str(self.folder), str(self.free() - left)]
        self._fill = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._fill.stdout is not None and self._fill.stdout.readline() == "full\n"

    def empty(self) -> None:
        if self._fill is not None:
            self._fill.kill()
            self._fill.wait()
            self._fill = None


@pytest.fixture
def group() -> Iterator[Group]:
    for root in GROUPS:
        folder = root / f"autoresearch-test-{os.getpid()}"
        limit = folder / ("memory.limit_in_bytes" if root.name == "memory" else "memory.max")
        with suppress(OSError):
            folder.mkdir()
            limit.write_text(str(LIMIT))
            break
        with suppress(OSError):
            folder.rmdir()
    else:
        pytest.skip("no control group for memory can be made here")
    made = Group(folder)
    yield made
    made.empty()
    wait_for(lambda: not (folder / "cgroup.procs").read_text(), "the end of what is in the control group")
    wait_for(lambda: _removed(folder), "the control group to be empty")


def _removed(folder: Path) -> bool:
    with suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def enter(paths: SessionPaths, group: Group) -> None:
    """Put the engine and the runs that it has started into the group."""
    pids = [lock_holder(paths), *(pid for run in read_state(paths).live_runs() for pid in tree(paths, run.run))]
    for pid in pids:
        with suppress(ProcessLookupError):
            (group.folder / "cgroup.procs").write_text(str(pid))


def first_trains(state: State) -> bool:
    return any(run.experiment == 1 and run.phase == "training" for run in state.live_runs())


def noted(paths: SessionPaths, words: str) -> list[str]:
    return [b.text for b in bodies(paths, e.Noted) if words in b.text]


def test_a_start_that_waits_is_withdrawn(tmp_path: Path, group: Group) -> None:
    with session(tmp_path, start_up(STARTING), start_up(STARTING, 3)) as (paths, gate):
        _, pids = ready(paths)
        enter(paths, group)
        group.fill(left=LEFT)
        state = wait_state(paths, lambda s: counted(s, 2)[0][0], "its end in the log")
        gone(pids)
        assert counted(state, 2)[0] == (
            "abandoned",
            "withdrawn while it waited for its slot, as memory was short: it starts again alone",
        )
        assert first_trains(state) and len(noted(paths, "is withdrawn while it waits")) == 1
        group.empty()
        gate.touch()
        state = wait_end(paths)
    assert verdicts(state) == ["discarded"] * 3
    assert [ended for ended, _ in counted(state, 1)] == ["done"]
    assert [ended for ended, _ in counted(state, 2)] == ["abandoned", "done"]


def test_nothing_starts_up_beside_a_run_with_too_little_memory(tmp_path: Path, group: Group) -> None:
    with session(tmp_path, start_up(STARTING), overrides=("approve=true",)) as (paths, gate):
        wait_state(paths, lambda s: 1 in s.approvals, "1 to wait for approval")
        enter(paths, group)
        group.fill(left=LEFT)
        accepted(paths, c.Approve(1, all=True))
        wait_state(paths, first_trains, "the first to train")
        wait_for(lambda: noted(paths, "does not start up beside the present one"), "words about that")
        assert not any(run.experiment == 2 for run in read_state(paths).live_runs())
        gate.touch()
        state = wait_end(paths)
    assert verdicts(state) == ["discarded"] * 2 and [len(state.experiments[n].runs) for n in (1, 2)] == [1, 1]
    assert len(noted(paths, "memory")) == 1


def test_a_start_that_the_kernel_kills_starts_again_alone(tmp_path: Path) -> None:
    with session(tmp_path, start_up(STARTING)) as (paths, gate):
        _, pids = ready(paths)
        for pid in pids[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        state = wait_state(paths, lambda s: counted(s, 2)[0][0], "its end in the log")
        ended, reason = counted(state, 2)[0]
        assert ended == "abandoned" and "lack of memory" in reason and "starts again alone" in reason
        gate.touch()
        state = wait_end(paths)
    assert verdicts(state) == ["discarded"] * 2


def test_room_for_both_is_what_runs_have_used_and_a_reserve() -> None:
    room, gb = Room(), 2**30
    assert "not known" in room.of(0, 16 * gb, 16 * gb)[1]
    room.peaks.extend([gb, 4 * gb])
    assert room.of(used=4 * gb, total=16 * gb, free=10 * gb) == (9 * gb, "")
    left, words = room.of(used=gb, total=16 * gb, free=8 * gb)  # the present run may still grow by 3
    assert left == 0 and words == "4.0 GB of memory are free beside a run, and a run needs 4.0"
    assert room.of(used=4 * gb, total=16 * gb, free=0)[1].startswith("0.0 GB")
    assert room.short() == "" or container.memory_used() > 0.9 * container.memory_total()
