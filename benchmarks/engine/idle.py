"""Processor time of an idle engine, alone and with an attached app.

    python -m benchmarks idle [SECONDS]

The engine runs some experiments and is paused; then the app is attached to it in a pseudo-terminal of 160x48. In
percent of one core, from the kernel's count of the processes' own time, over SECONDS (default 30).
"""

from __future__ import annotations

import sys
import time

import psutil

from benchmarks.engine.memory import SETTLED
from benchmarks.engine.support import engine, instant_project, pause, wait_verdicts, workplace
from benchmarks.screen.terminal import Terminal, table

SETTLING = 5.0  # seconds for the work that pausing or attaching causes


def busy(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def alone(process: psutil.Process, seconds: float) -> float:
    """Share of a core in percent."""
    time.sleep(SETTLING)
    before, began = busy(process), time.perf_counter()
    time.sleep(seconds)
    return 100 * (busy(process) - before) / (time.perf_counter() - began)


def main(seconds: float) -> None:
    with workplace() as folder:
        project, script = instant_project(folder / "project", 50)
        with engine(project, researcher="scripted", script=str(script)) as (paths, process):
            wait_verdicts(paths, SETTLED)
            pause(paths)
            share = f"{alone(process, seconds):.2f}"
            rows = [["engine alone", share, "", share, ""]]
            argv = [sys.executable, "-m", "tui.main", "attach", "-C", str(project), paths.name]
            terminal = Terminal(argv)
            try:
                terminal.wait_for(b"PAUSED", 60)
                terminal.run(SETTLING)
                before, began = busy(process), time.perf_counter()
                rate, app = terminal.run(seconds)
                own = 100 * (busy(process) - before) / (time.perf_counter() - began)
            finally:
                terminal.close()
            rows.append(["with an app attached", f"{own:.2f}", f"{app:.2f}", f"{own + app:.2f}", f"{rate:.0f}"])
        head = [f"paused, {seconds:g} s", "engine %", "app %", "together %", "bytes/s to the terminal"]
        print(table(head, rows))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0)
