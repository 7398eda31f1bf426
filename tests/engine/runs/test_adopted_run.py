"""A run that outlives its engine keeps its own time under the next one."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from core.client import read_state
from core.client.live import Client
from core.clock import now
from tests.engine.runs.test_next_start import STARTING, counted, ready, session, start_up
from tests.engine.support import engine, kill_engine, wait_end, wait_state
from tests.lab.conftest import until


async def test_an_adopted_run_keeps_its_own_time(tmp_path: Path) -> None:
    with session(tmp_path, start_up(STARTING)) as (paths, gate):
        ready(paths)
        before = next(run for run in read_state(paths).live_runs() if run.experiment == 1)
        kill_engine(paths, signal.SIGKILL)
        killed = now()
        with engine(paths.project):
            wait_state(paths, lambda s: counted(s, 2)[0][0], "the adoption")
            client = Client(paths)
            following = asyncio.create_task(client.run())
            await until(lambda: client.pulse is not None and client.pulse.slots[0].run == before.run)
            following.cancel()
            assert client.pulse is not None
            reading = client.pulse.slots[0]
            gate.touch()
            state = wait_end(paths)
    assert before.clock_started is not None and reading.phase == "training"
    assert reading.seconds >= killed - before.clock_started
    after = state.experiments[1].runs[0]
    assert after.run == before.run and after.clock_started == before.clock_started and after.ended == "done"
    assert after.wall_seconds >= after.on_clock >= killed - before.clock_started
