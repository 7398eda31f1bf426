"""The run's own words as they come, and its loss curve beside them."""

from __future__ import annotations

from rich.segment import Segment
from textual.strip import Strip

from core.client import FileTail
from core.record.state import Run
from tui.braille import curve
from tui.model import Model
from tui.text import Part, flat, strip_of
from tui.widgets.curves import Curves
from tui.widgets.tail import Tail

LINES_A_POLL = 400  # a run that prints gigabytes is followed at its end


class OutputPane(Tail):
    NUMBER = 6
    NAME = "output"
    curves: Curves

    def __init__(self, model: Model, *, id: str | None = None, run: int | None = None) -> None:
        super().__init__(model, id=id)
        self.fixed = run
        self._run: int | None = None
        self._file: FileTail | None = None
        self._partial = ""

    def shown(self) -> Run | None:
        if self.fixed is None:
            return self.model.shown_run
        runs = (r for x in self.model.state.experiments.values() for r in x.runs)
        return next((r for r in runs if r.run == self.fixed), None)

    def poll(self) -> None:
        run = self.shown()
        number = run.run if run else None
        if number != self._run:
            self._run = number
            self.clear()
            self._partial = ""
            self._file = FileTail(self.model.paths.run(number) / "output.log") if number is not None else None
        if self._file is None:
            return
        data = self._partial + self._file.read()
        *lines, self._partial = data.split("\n")
        if len(self._partial) > 8000:
            lines.append(self._partial)
            self._partial = ""
        if len(lines) > LINES_A_POLL:
            self.add(f"{len(lines) - LINES_A_POLL:,} lines passed", "faint")
            lines = lines[-LINES_A_POLL:]
        for line in lines:
            last = line.rstrip("\r").rpartition("\r")[2]  # a progress bar overwrites its line: keep its last state
            self.add(flat(last, 8), "dim" if line.startswith("step ") else "text", "")

    def heading(self) -> list[Part]:
        run = self.shown()
        if run is None:
            return []
        what = "baseline" if run.experiment == 0 else f"#{run.experiment}"
        more = "" if self.fixed is None and run.kind == "candidate" else f" {run.kind}"
        return [(f" · {what}{more} run {run.run}", self.look["dim"])]

    def aside(self) -> list[Part]:
        run = self.shown()
        points = self.curves.of(run.run) if run else []
        return [("loss ", self.look["dim"]), (f"{points[-1][1]:.4f}", self.look["text"])] if points else []

    def empty(self) -> str:
        return "no output yet" if self.shown() else "nothing has run yet"

    def body(self, width: int, height: int) -> list[Strip]:
        run = self.shown()
        points = self.curves.of(run.run) if run else []
        wraps = not self.framed or width >= 100  # beside other panes a line is cut, so that lines keep their columns
        if wraps != self.wraps:
            self.wraps, self._wrapped_for = wraps, 0
        if len(points) < 2 or width < 50 or height < 3:
            return super().body(width, height)
        plot = min(40, width * 2 // 5)
        text = super().body(width - plot - 3, height)
        blank = strip_of([], width - plot - 3, self.look["text"])
        text += [blank] * (height - len(text))
        rule = Segment(f" {self.look.glyph('v')} ", self.look["frame"])
        return [
            Strip([*line._segments, rule, *right._segments], width)
            for line, right in zip(text, self._curve(points, plot, height), strict=True)
        ]

    def _curve(self, points: list[tuple[float, float]], width: int, height: int) -> list[Strip]:
        """The loss over the seconds of the run, with its lowest and highest value."""
        look = self.look
        values = sorted(v for _, v in points)
        low, high = values[0], values[min(len(values) - 1, int(len(values) * 0.98))]
        rows = height - 1
        dots = curve(points, width - 7, rows, low, high, points[0][0], points[-1][0])
        lines = []
        for y in range(rows):
            label = f"{high:6.3g} " if y == 0 else f"{low:6.3g} " if y == rows - 1 else " " * 7
            text = "".join(dots.text(x, y) for x in range(width - 7))
            lines.append(strip_of([(label, look["dim"]), (text, look["curve"])], width, look["text"]))
        end = f"{points[-1][0]:.0f}s" if len(points) else ""
        axis = " " * 7 + "0" + " " * (width - 8 - len(end)) + end
        return [*lines, strip_of([(axis, look["faint"])], width, look["text"])]
