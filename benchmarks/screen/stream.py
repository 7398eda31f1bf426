"""Streaming: bytes a second, CPU and key-to-paint at 160x48, and the same for a naive Textual screen.

    python -m benchmarks.screen.stream [SECONDS [EXPERIMENTS]]
    python -m benchmarks.screen.stream soak [HOURS [SECONDS]]

The session has 10,000 experiments. Reasoning at 50 lines a second and a run's output at 20 lines a second are written
to its files; meanwhile keys are pressed that sort the leaderboard. The naive screen uses RichLog, DataTable and
Sparkline, with a write per line. One row is over a link of 32 KB a second. `soak` writes the lines of HOURS (default
24) within SECONDS (default 240), and reports the memory before and after.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.screen.terminal import Terminal, table
from tests.tui.stage import Playing, Stage, build

SORTS = (b"number", b"change", b"verdict", b"noise", b"hypothesis", b"metric")
SLOW_LINK = 32_000  # bytes a second
SOAK_HOURS = 24.0
SOAK_SECONDS = 240.0


class Writer:
    """Writer of the streams, at their pace."""

    def __init__(self, stage: Stage, pace: float = 1.0) -> None:
        self._pace = pace
        state = Playing(stage).state
        run = stage.paths.run(state.live_runs()[0].run)
        self._thoughts = stage.paths.reasoning(max(state.live)).open("a", buffering=1)
        self._output = (run / "output.log").open("a", buffering=1)
        self._curve = (run / "curve.tsv").open("a", buffering=1)
        self._began = time.perf_counter()
        self.written = [0, 0]

    def __call__(self) -> None:
        elapsed = (time.perf_counter() - self._began) * self._pace
        while self.written[0] < elapsed * 50:
            n = self.written[0] = self.written[0] + 1
            words = (
                f"{n}: the gradient noise scale at this width is {n * 37 % 91} tokens; a smaller batch should help\n"
            )
            self._thoughts.write(json.dumps({"t": n, "k": "text", "s": words}) + "\n")
        while self.written[1] < elapsed * 20:
            n = self.written[1] = self.written[1] + 1
            loss = 1.9 + 2 / (1 + n / 50)
            self._output.write(f"step {n:05d} | loss {loss:.4f} | rate 0.01000 | {18000 + n % 77} tok/s\n")
            self._curve.write(f"{n / 20:.2f}\t{n}\t{loss:.4f}\n")


def started(kind: str, stage: Stage, link: float | None = None) -> Terminal:
    argv = [sys.executable, "-m", "benchmarks.screen.child", kind, str(stage.paths.project), str(stage.now)]
    return Terminal(argv, link=link)


def measure(kind: str, stage: Stage, seconds: float, link: float | None = None) -> list[str]:
    writer = Writer(stage)
    terminal = started(kind, stage, link)
    try:
        terminal.wait_for(b"RUNNING", 60, writer)
        terminal.run(5, writer)
        rate, cpu = terminal.run(seconds, writer)
        times = []
        for n in range(42):
            terminal.run(0.13 + 0.011 * (n % 7), writer)
            times.append(terminal.press(b"s", SORTS[n % len(SORTS)], 20, writer))
        memory = terminal.memory() / 2**20
    finally:
        terminal.close()
    times.sort()
    p95 = times[int(len(times) * 0.95) - 1]
    return [f"{rate / 1000:.1f}", f"{cpu:.1f}", f"{statistics.median(times):.1f}", f"{p95:.1f}", f"{memory:.0f}"]


def soak(hours: float, seconds: float) -> None:
    """Memory of this screen after many lines, each of which it must read or skip."""
    with tempfile.TemporaryDirectory() as folder:
        stage = build(Path(folder), 10_000, files=40)
        terminal = started("ours", stage)
        try:
            terminal.wait_for(b"RUNNING", 60)
            terminal.run(5)
            before = terminal.memory() / 2**20
            writer = Writer(stage, hours * 3600 / seconds)
            terminal.run(seconds, writer)
            terminal.run(5)
            after = terminal.memory() / 2**20
        finally:
            terminal.close()
    lines = f"{writer.written[0]:,} lines of reasoning and {writer.written[1]:,} of output"
    print(f"\n{lines} in {seconds:g} s: {before:.0f} MB before, {after:.0f} MB after")


def main(seconds: float, experiments: int) -> None:
    kinds = (
        ("ours", "this screen, 24-bit colour", None),
        ("ansi", "this screen, ANSI (over SSH)", None),
        ("ansi", "the same on a link of 32 KB/s", SLOW_LINK),
        ("naive", "RichLog and DataTable", None),
    )
    with tempfile.TemporaryDirectory() as folder:
        stage = build(Path(folder), experiments, files=40)
        rows = []
        for kind, name, link in kinds:
            rows.append([name, *measure(kind, stage, seconds, link)])
            print(*rows[-1], sep="   ", file=sys.stderr, flush=True)
        head = f"160x48, {experiments:,} experiments, 50 + 20 lines/s"
        print(table([head, "KB/s", "CPU %", "key to paint, median ms", "p95 ms", "memory MB"], rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["soak"]:
        given = [float(word) for word in sys.argv[2:4]]
        hours, seconds = [*given, *[SOAK_HOURS, SOAK_SECONDS][len(given) :]]
        soak(hours, seconds)
        sys.exit()
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 15.0, int(sys.argv[2]) if len(sys.argv) > 2 else 10_000)
