"""Streaming: bytes a second, CPU and key-to-paint at 160x48, beside a naive Textual screen of the same content.

    python -m benchmarks.screen_stream [SECONDS]

Reasoning at 50 lines a second and a run's output at 20 lines a second are written to the session's files; keys are
pressed all the while. The naive screen uses RichLog, DataTable and Sparkline, a write per line.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.terminal import Terminal, table
from tests.tui.stage import Playing, Stage, build

SORTS = (b"number", b"change", b"verdict", b"metric")


class Writer:
    """Writes the streams at their pace whenever it is asked."""

    def __init__(self, stage: Stage) -> None:
        state = Playing(stage).state
        run = stage.paths.run(state.live_runs()[0].run)
        self._thoughts = stage.paths.reasoning(max(state.live)).open("a", buffering=1)
        self._output = (run / "output.log").open("a", buffering=1)
        self._curve = (run / "curve.tsv").open("a", buffering=1)
        self._began = time.perf_counter()
        self._written = [0, 0]

    def __call__(self) -> None:
        elapsed = time.perf_counter() - self._began
        while self._written[0] < elapsed * 50:
            n = self._written[0] = self._written[0] + 1
            words = (
                f"{n}: the gradient noise scale at this width is {n * 37 % 91} tokens; a smaller batch should help\n"
            )
            self._thoughts.write(json.dumps({"t": n, "k": "text", "s": words}) + "\n")
        while self._written[1] < elapsed * 20:
            n = self._written[1] = self._written[1] + 1
            loss = 1.9 + 2 / (1 + n / 50)
            self._output.write(f"step {n:05d} | loss {loss:.4f} | rate 0.01000 | {18000 + n % 77} tok/s\n")
            self._curve.write(f"{n / 20:.2f}\t{n}\t{loss:.4f}\n")


def measure(kind: str, seconds: float) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        stage = build(Path(folder))
        writer = Writer(stage)
        argv = [sys.executable, "-m", "benchmarks.screen_child", kind, str(stage.paths.project), str(stage.now)]
        terminal = Terminal(argv)
        try:
            terminal.wait_for(b"RUNNING", 30, writer)
            terminal.run(3, writer)
            rate, cpu = terminal.run(seconds, writer)
            times = []
            for n in range(40):
                terminal.run(0.13 + 0.011 * (n % 7), writer)
                times.append(terminal.press(b"s", SORTS[n % 4], 10, writer))
            memory = terminal.memory() / 2**20
        finally:
            terminal.close()
    times.sort()
    p95 = times[int(len(times) * 0.95) - 1]
    return [f"{rate / 1000:.1f}", f"{cpu:.1f}", f"{statistics.median(times):.1f}", f"{p95:.1f}", f"{memory:.0f}"]


def main(seconds: float) -> None:
    names = {
        "ours": "this screen, 24-bit colour",
        "ansi": "this screen, ANSI (over SSH)",
        "naive": "RichLog and DataTable",
    }
    rows = [[name, *measure(kind, seconds)] for kind, name in names.items()]
    print(table(["160x48, 50 + 20 lines/s", "KB/s", "CPU %", "key to paint, median ms", "p95 ms", "memory MB"], rows))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 15.0)
