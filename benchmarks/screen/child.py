"""The two screens that `screen.stream` compares, each on the same staged session: `ours FOLDER` or `naive FOLDER`."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path

from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.widgets import DataTable, RichLog, Sparkline, Static

from core.client import FileTail
from core.views import clean
from tests.tui.stage import Playing, Stage, readings
from tui.app import Cockpit
from tui.paint.theme import choose_look


class Ticking(Playing):
    """A staged session whose engine sends its readings once a second."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.began = time.time()
        self.start = stage.now

    def clock(self) -> float:
        return self.start + time.time() - self.began

    async def run(self) -> None:
        import asyncio

        while True:
            await asyncio.sleep(1.0)
            self.pulse = readings(self.clock(), self.state)
            self.version += 1


class Naive(App[None]):
    """The same content with Textual's own widgets and a write per line: the simplest implementation."""

    CSS = "Horizontal { height: 1fr; } RichLog, DataTable, Static { width: 1fr; } #status { height: 1; }"

    def __init__(self, source: Ticking) -> None:
        super().__init__()
        self.source = source
        self.word = "metric"

    def compose(self) -> ComposeResult:
        yield Static("status", id="status")
        with Horizontal():
            yield RichLog(id="reasoning", wrap=True)
            yield Static(self.source.events_of(40)[1].body.diff, id="diff", markup=False)  # type: ignore[union-attr]
        with Horizontal():
            yield Sparkline([1.0, 2.0], id="curve")
            yield DataTable[str](id="board")
        yield RichLog(id="output")

    def on_mount(self) -> None:
        board = self.query_one(DataTable)
        board.add_columns("#", "verdict", "val_bpb", "hypothesis")
        for number, x in self.source.state.experiments.items():
            board.add_row(str(number), x.verdict or x.phase, str(x.metric), x.hypothesis)
        state = self.source.state
        self.thoughts = FileTail(self.source.paths.reasoning(max(state.live)))
        self.lines = FileTail(self.source.paths.run(state.live_runs()[0].run) / "output.log")
        self.losses = [1.0]
        self.set_interval(1 / 60, self.follow)
        self.set_interval(1.0, self.tick)

    def follow(self) -> None:
        for line in self.thoughts.read().splitlines():
            with contextlib.suppress(ValueError):  # the first line of a long file may be half a line
                self.query_one("#reasoning", RichLog).write(clean(json.loads(line)["s"]).rstrip())
        for line in self.lines.read().splitlines():
            self.query_one("#output", RichLog).write(clean(line))
            self.losses.append(float(line.split("loss ")[1].split()[0]))
            self.query_one(Sparkline).data = self.losses[-400:]

    def tick(self) -> None:
        self.query_one("#status", Static).update(f"RUNNING {time.time():.0f} by {self.word}")

    def on_key(self, event: object) -> None:
        if getattr(event, "key", "") == "s":
            words = ["metric", "number", "change", "verdict", "noise", "hypothesis"]
            self.word = words[(words.index(self.word) + 1) % len(words)]
            self.query_one("#status", Static).update(f"RUNNING by {self.word}")


def main(kind: str, folder: Path, now: float) -> None:
    from core.session.paths import SessionPaths

    source = Ticking(Stage(SessionPaths(folder, "nov23"), now))
    if kind == "ours":
        Cockpit(
            folder, source.paths, source=source, look=choose_look({"COLORTERM": "truecolor"}), clock=source.clock
        ).run()
    elif kind == "ansi":
        Cockpit(folder, source.paths, source=source, look=choose_look({"SSH_TTY": "y"}), clock=source.clock).run()
    else:
        Naive(source).run()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
