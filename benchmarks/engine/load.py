"""The noise of nanotrain on two busy processors, on a clock of processor seconds and on one by the wall.

    python -m benchmarks load [RUNS] [RUN_BUDGET] [NEIGHBOURS]      # default 8, 6s and 6

Each of four sessions runs the baseline RUNS times in two slots: on either clock, alone and beside NEIGHBOURS processes
that never rest. Runs that were measured again are not among them. What other programs do on the machine is the same
for no two rows, so it must be idle but for this.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.engine.support import engine, product, wait_state, workplace
from benchmarks.screen.terminal import table
from core.record.state import BASELINE

PATIENCE = 3600.0  # seconds for one session
CASES = (("cpu", False), ("cpu", True), ("wall", False), ("wall", True))


@contextmanager
def neighbours(number: int) -> Iterator[None]:
    """Processes that never rest, for the duration of the block."""
    command = [sys.executable, "-S", "-c", "while True: pass"]
    # In one session they would have the share of one.
    busy = [subprocess.Popen(command, start_new_session=True) for _ in range(number)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def measure(project: Path, clock: str, runs: int, budget: str) -> list[str]:
    """Cells of one session: its sigma, its steps, and the seconds that it took."""
    begun, baseline = time.monotonic(), (f"decide.baseline={runs}", f"budget.clock={clock}")
    options: dict[str, object] = {"researcher": "control", "slots": "cpu:2", "overrides": baseline}
    with engine(project, f"s{begun:.0f}", run_budget=budget, **options) as (paths, _):
        state = wait_state(paths, lambda state: state.baseline is not None, "the baseline", PATIENCE)
    counted = [run for run in state.experiments[BASELINE].runs if run.metric is not None]
    values, steps = [run.metric for run in counted if run.metric is not None], [run.steps or 0 for run in counted]
    seconds = [run.on_clock for run in counted]
    return [
        f"{statistics.mean(values):.4f}", f"{statistics.stdev(values):.4f}", f"{statistics.median(steps):.0f}",
        f"{min(steps)} to {max(steps)}", f"{statistics.median(seconds):.1f}", f"{time.monotonic() - begun:.0f}",
    ]  # fmt: skip


def main(runs: int, budget: str, number: int) -> None:
    rows = []
    with workplace() as folder:
        project = folder / "nanotrain"
        subprocess.run(product("init", "--template", "nanotrain", str(project)), check=True, stdout=subprocess.DEVNULL)
        for clock, busy in CASES:
            with neighbours(number if busy else 0):
                rows.append([clock, str(number if busy else 0), *measure(project, clock, runs, budget)])
            print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    head = ["clock", "neighbours", "val_bpb", "sigma", "steps", "from, to", "seconds by the wall", "session, s"]
    print(table(head, rows))


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 8, given[1] if given[1:] else "6s", int(given[2]) if given[2:] else 6)
