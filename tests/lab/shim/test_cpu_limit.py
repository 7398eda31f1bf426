"""Processor time of a tree without a control group: what nobody waits for is counted by samples."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from core.lab.shim.cpu_limit import CpuMeter
from core.lab.shim.proctree import descendants, threads_of
from tests.lab.conftest import until

PARENT = """
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while os.read(0, 1):
    if os.fork() == 0:
        while True: pass
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ignores the end of its children, and begins one that computes for each byte."""
    process = subprocess.Popen([sys.executable, "-S", "-c", PARENT], stdin=subprocess.PIPE, start_new_session=True)
    yield process
    for pid in (*descendants(process.pid), process.pid):
        subprocess.run(["kill", "-9", str(pid)], check=False)
    process.wait()


async def test_a_process_that_begins_after_a_reading_is_charged_from_the_last_sample(
    parent: subprocess.Popen[bytes],
) -> None:
    """The run chooses the time of a reading: it prints a line."""
    meter = CpuMeter(None, clock=True)
    meter.start([parent.pid], 1000.0)
    meter.read([parent.pid], 1000.19)
    assert meter.used < 0.1 and meter.read_at == 1000.19
    assert parent.stdin is not None
    parent.stdin.write(b"x")
    parent.stdin.flush()
    await until(lambda: any(stat.state == "R" for pid in descendants(parent.pid) for stat in threads_of(pid).values()))
    meter.sample([parent.pid, *descendants(parent.pid)], 1000.2)
    assert meter.used >= 0.2
