"""The child of a shim before it is the run's command: it ends with the shim, and holds none of the shim's locks."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from core.lab.shim.clocks.clock_register import is_locked
from core.lab.shim.proctree import process_stat, sigkill
from tests.lab.conftest import until

# A shim whose child stands still where it enters its control group, which may be frozen: it tells its number there.
SHIM = """
import fcntl, os, sys, time
from core.lab.shim.child import execute
class Frozen:
    def enter(self):
        os.write(1, f"{os.getpid()}\\n".encode())
        time.sleep(300)
shim, lock = os.getpid(), os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
if os.fork() == 0:
    execute({"beside": False, "argv": ["true"]}, 1, 1, None, Frozen(), shim=shim, locks=(lock,))
time.sleep(300)
"""


async def test_a_child_that_stands_still_ends_with_its_shim(tmp_path: Path) -> None:
    """Or the engine would wait for ever: the lock, which says that the shim lives, would be held by the child."""
    lock = tmp_path / "lock"
    shim = await asyncio.create_subprocess_exec(sys.executable, "-c", SHIM, str(lock), stdout=PIPE)
    assert shim.stdout is not None
    child = int(await asyncio.wait_for(shim.stdout.readline(), 60))
    try:
        shim.kill()
        await shim.wait()
        await until(lambda: (stat := process_stat(child)) is None or not stat.alive)
    finally:
        sigkill(child)
    assert not is_locked(str(lock))


async def test_a_child_without_its_shim_does_not_begin() -> None:
    """It was killed before the child could ask to end with it."""
    code = 'from core.lab.shim.child import execute\nexecute({"beside": False}, 1, 1, None, shim=1)'
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=PIPE)
    assert (await child.communicate())[1] == b"" and child.returncode == 127
