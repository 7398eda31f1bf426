"""The limits on the processes of a model, each tested in a separate process that adopts orphans as the scorer does."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from tests.nanotrain.worlds import REPOSITORY

PRELUDE = """
import os, subprocess, sys, threading, time
from nanotrain import process_limits
process_limits.become_subreaper()
def start(code):
    return subprocess.Popen([sys.executable, "-S", "-c", code])
def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen within 60 s"
        time.sleep(0.02)
"""


def output_of(code: str) -> str:
    """The output of a Python program that may use the names of PRELUDE."""
    argv = [sys.executable, "-c", PRELUDE + textwrap.dedent(code)]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_process_that_left_its_group_and_its_parent_is_killed() -> None:
    found = output_of("""
        detached = "import os, time\\nif os.fork() == 0:\\n  os.setsid()\\n  if os.fork(): os._exit(0)\\ntime.sleep(90)"
        child = start(detached)
        me = os.getpid()
        wait_for(lambda: list(process_limits.parent_pids().values()).count(me) == 2)
        process_limits.kill_tree(child.pid)
        print(process_limits.process_tree(me) == [me])
    """)
    assert found == "True"


def test_an_exempt_process_survives() -> None:
    found = output_of("""
        first, second = start("import time; time.sleep(90)"), start("import time; time.sleep(90)")
        process_limits.kill_tree(first.pid, keep=[second.pid])
        print(first.wait() < 0, second.poll())
        second.kill()
    """)
    assert found == "True None"


def test_too_many_processes_are_a_violation() -> None:
    found = output_of("""
        child = start("import os, time\\nfor _ in range(70):\\n  if os.fork() == 0: break\\ntime.sleep(90)")
        reasons = []
        monitor = process_limits.ProcessMonitor(child.pid, reasons.append, 4 << 30)
        wait_for(lambda: reasons)
        process_limits.kill_tree(child.pid)
        print(reasons[0])
    """)
    assert found == "the model started more than 64 processes while it was scored"


def test_processor_time_of_an_ended_child_counts() -> None:
    found = output_of("""
        busy = "import time\\nwhile time.process_time() < 0.5: pass"
        child = start(f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {busy!r}]); time.sleep(90)")
        monitor = process_limits.ProcessMonitor(child.pid, print, 4 << 30)
        wait_for(lambda: monitor.cpu_seconds() >= 0.5)
        monitor.stopped.set()
        process_limits.kill_tree(child.pid)
        print("counted")
    """)
    assert found == "counted"
