"""The limits on the processes of a model, each tested in a separate process that adopts orphans as the scorer does."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import pytest

from core.lab.sandbox.delegation import delegation
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
        busy = "import time\\nwhile time.process_time() < 0.6: pass"
        child = start(f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {busy!r}]); time.sleep(90)")
        monitor = process_limits.ProcessMonitor(child.pid, print, 4 << 30)
        wait_for(lambda: monitor.cpu_seconds() >= 0.5)
        monitor.stopped.set()
        process_limits.kill_tree(child.pid)
        print("counted")
    """)
    assert found == "counted"


# A child whose first thread has ended, while `WORK` goes on in another.
LEADERLESS = """
import ctypes, os, signal, threading, time
def work():
    {work}
    time.sleep(90)
def leaderless():
    threading.Thread(target=work).start()
    ctypes.CDLL(None).syscall({{"x86_64": 60, "aarch64": 93}}[os.uname().machine], 0)
{start}
time.sleep(90)
"""
BUSY = "while time.process_time() < 0.6: pass"  # the kernel counts in hundredths, by thread
# Where the child comes from: of the process that is looked at, of one that ended, and of one that never waits.
STARTS = {
    "child": "if os.fork() == 0: leaderless()",
    "orphan": "if os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0: leaderless()\n  os._exit(0)",
    "of one that ignores its end": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nif os.fork() == 0: leaderless()",
}


@pytest.mark.parametrize("start", STARTS)
def test_a_process_whose_first_thread_has_ended_counts(start: str) -> None:
    program = LEADERLESS.format(work=f"held = bytearray(b'x') * (64 << 20)\n    {BUSY}", start=STARTS[start])
    found = output_of(f"""
        child = subprocess.Popen([sys.executable, "-S", "-c", {program!r}], start_new_session=True)
        monitor = process_limits.ProcessMonitor(child.pid, print, 4 << 30)
        wait_for(lambda: monitor.cpu_seconds() >= 0.5)
        pids = monitor.pids()
        print(len(pids) >= 2, process_limits.resident_bytes(pids) > 64 << 20)
        monitor.stopped.set()
        process_limits.kill_tree(child.pid)
        print(process_limits.process_tree(os.getpid()) == [os.getpid()])
    """)
    assert found == "True True\nTrue"


def test_a_process_that_reads_many_pages_from_the_disk_is_a_violation() -> None:
    """One page at a time of a file that is not in memory: so one process could tell another, page by page."""
    program = """
        import mmap, sys, time
        with open(sys.argv[1], "rb") as file:
            pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        pages.madvise(mmap.MADV_RANDOM)
        sys.stdin.readline()
        for page in range(0, len(pages), mmap.PAGESIZE):
            pages[page]
        time.sleep(90)
    """
    found = output_of(f"""
        import tempfile
        reasons = []
        with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
            file.write(os.urandom(1000 * process_limits.PAGE_BYTES))
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            argv = [sys.executable, "-S", "-c", {textwrap.dedent(program)!r}, file.name]
            child = subprocess.Popen(argv, stdin=subprocess.PIPE)
            monitor = process_limits.ProcessMonitor(child.pid, reasons.append, 4 << 30)
            monitor.limit_reads(500)
            child.stdin.write(b"go\\n")
            child.stdin.flush()
            wait_for(lambda: reasons)
            process_limits.kill_tree(child.pid)
        print(reasons[0] == process_limits.READS)
    """)
    assert found == "True"


def test_time_of_orphans_that_ended_counts() -> None:
    """A chain of short processes: each leaves the next one behind, and is nobody's when it ends."""
    program = """
        import os, sys, time
        os.setsid() if os.fork() == 0 else time.sleep(90)
        for _ in range(10):
            if os.fork(): break
            end = time.process_time() + 0.05
            while time.process_time() < end: pass
        os._exit(0)
    """
    found = output_of(f"""
        child = subprocess.Popen([sys.executable, "-S", "-c", {textwrap.dedent(program)!r}], start_new_session=True)
        monitor = process_limits.ProcessMonitor(child.pid, print, 4 << 30)
        wait_for(lambda: monitor.cpu_seconds() >= 0.5)
        print(subprocess.run(["true"]).returncode, subprocess.run(["false"]).returncode)
        monitor.stopped.set()
        process_limits.kill_tree(child.pid)
    """)
    assert found == "0 1"


def test_too_many_threads_are_a_violation() -> None:
    found = output_of("""
        code = "import threading, time; threading.stack_size(65536)\\n"
        code += "for _ in range(3000): threading.Thread(target=time.sleep, args=(90,)).start()"
        child, reasons = start(code), []
        monitor = process_limits.ProcessMonitor(child.pid, reasons.append, 4 << 30)
        wait_for(lambda: reasons)
        process_limits.kill_tree(child.pid)
        print(reasons[0])
    """)
    assert re.fullmatch(r"the model started more than \d+ threads while it was scored", found)


def test_a_control_group_counts_and_ends() -> None:
    """Where one can be made: what it counts is the kernel's, whatever the processes do."""
    if not (base := delegation().base):
        pytest.skip("no control group can be made here")
    program = LEADERLESS.format(work=BUSY, start=STARTS["orphan"])
    found = output_of(f"""
        os.environ["AUTORESEARCH_CGROUP"] = {base!r}
        group = process_limits.ModelGroup.make(4 << 30)
        child = subprocess.Popen(group.enter([sys.executable, "-S", "-c", {program!r}]), start_new_session=True)
        monitor = process_limits.ProcessMonitor(child.pid, print, 4 << 30, group)
        wait_for(lambda: monitor.cpu_seconds() >= 0.5)
        print(len(monitor.pids()), monitor.out_of_memory())
        monitor.stopped.set()
        group.kill()
        process_limits.kill_tree(child.pid)
        child.wait()
        group.remove()
        print(group.folder.exists(), process_limits.process_tree(os.getpid()) == [os.getpid()])
    """)
    assert found == "2 False\nFalse True"
