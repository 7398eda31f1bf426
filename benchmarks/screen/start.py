"""Start of the app: first paint, opening a long session, and its cost while idle.

    python -m benchmarks.screen.start [EXPERIMENTS]

The measured command is `autoresearch-tui attach`, in a pseudo-terminal of 160x48, on sessions without an engine.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.screen.terminal import Terminal, table
from tests.recorded import make_session

RUNS = 5


def opened(project: Path, marker: bytes, times: int) -> tuple[list[float], float, float, float]:
    """Seconds to `marker` at each start; then bytes a second, CPU percent and MB at rest."""
    found: list[float] = []
    rest = (0.0, 0.0)
    memory = 0.0
    for n in range(times):
        argv = [sys.executable, "-m", "tui.main", "attach", "-C", str(project), "nov23"]
        terminal = Terminal(argv)
        try:
            found.append(terminal.wait_for(marker))
            if n == times - 1:
                terminal.run(4)
                rest = terminal.run(10)
                memory = terminal.memory() / 2**20
        finally:
            terminal.close()
    return found, *rest, memory


def main(experiments: int) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, count, marker in (
            ("first paint, 40 experiments", 40, b"leaderboard"),
            ("the whole screen, 40 experiments", 40, b"FINISHED"),
            (f"the whole screen, {experiments:,} experiments", experiments, f"{experiments:,}".encode()),
        ):
            project = Path(folder) / str(count)
            if not project.exists():
                make_session(project, count, files=count < 1000)
            times, rate, cpu, memory = opened(project, marker, RUNS)
            row = [
                name,
                f"{statistics.median(times):.2f}",
                f"{max(times):.2f}",
                f"{rate:.0f}",
                f"{cpu:.2f}",
                f"{memory:.0f}",
            ]
            rows.append(row)
    print(table([f"attach, {RUNS} starts", "median s", "worst s", "idle bytes/s", "idle CPU %", "memory MB"], rows))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
