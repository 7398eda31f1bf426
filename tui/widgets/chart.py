"""Progress: every experiment a dot by its verdict, the best as a step line, the noise as a band."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

from rich.style import Style
from textual.strip import Strip

from core.record.metric import format_metric
from core.record.state import BASELINE, State
from tui.braille import Dots, decimals, ticks
from tui.model import Model
from tui.text import Part, brief, strip_of
from tui.widgets.canvas import Pane

# When several experiments fall into one cell, the one that matters more is shown.
_RANK = {"kept": 6, "provisional": 5, "running": 4, "discarded": 3, "pruned": 2, "crashed": 1, "rejected": 1}


@dataclass(slots=True)
class Series:
    """What is drawn: `points` (experiment, metric or None, verdict) in order, `best` as steps (experiment, metric)."""

    seq: int = -1
    points: list[tuple[int, float | None, str]] = field(default_factory=list)
    steps: list[tuple[int, float]] = field(default_factory=list)
    first: int = 1
    last: int = 1
    low: float = 0.0
    high: float = 1.0


def series_of(state: State) -> Series:
    """Points, steps and a vertical window that outliers cannot squash."""
    out = Series(state.seq)
    if state.baseline:
        out.steps.append((BASELINE, state.baseline.metric))
    for number in sorted(state.experiments):
        x = state.experiments[number]
        if number == BASELINE or (x.verdict is None and not x.live_run):
            continue
        metric = x.metric if x.metric is not None and math.isfinite(x.metric) else None
        out.points.append((number, metric, x.verdict or "running"))
        if x.verdict == "kept" and metric is not None:
            out.steps.append((number, metric))
    out.last = max(out.points[-1][0] if out.points else 1, 8)
    out.first = 0
    values = sorted(m for _, m, _ in out.points if m is not None)
    anchors = [m for _, m in out.steps]
    if not (values or anchors):
        return out
    sigma = state.sigma or 0.0
    best_low, best_high = min(anchors or values), max(anchors or values)
    worst_first = values if state.metric.direction == "min" else [-v for v in reversed(values)]
    cut = worst_first[min(len(worst_first) - 1, int(len(worst_first) * 0.8))] if worst_first else None
    if cut is not None:
        edge = cut if state.metric.direction == "min" else -cut
        reach = max(best_high - best_low, 6 * sigma) * 1.2
        best_high = max(best_high, min(edge, best_high + reach))
        best_low = min(best_low, max(edge, best_low - reach))
    margin = max((best_high - best_low) * 0.08, sigma * 1.5, abs(best_high) * 1e-6)
    out.low, out.high = best_low - margin, best_high + margin
    return out


class ChartPane(Pane):
    NUMBER = 3
    NAME = "progress"

    def __init__(self, model: Model, *, id: str | None = None) -> None:
        super().__init__(model, id=id)
        self._series = Series()
        self._plotted: list[list[Part]] = []
        self._plotted_for: tuple[int, int, int, int] = (-1, 0, 0, 0)

    def poll(self) -> None:
        if self._series.seq != self.model.state.seq:
            self._series = series_of(self.model.state)

    def tells(self) -> Hashable:
        return self.model.state.seq

    def heading(self) -> list[Part]:
        metric = self.model.state.metric
        parts: list[Part] = [(f" · {brief(metric.name)} {metric.arrow}", self.look["text"])]
        if metric.self_reported:
            parts.append((" · self-reported", self.look["warn"]))
        return parts

    def aside(self) -> list[Part]:
        baseline = self.model.state.baseline
        if baseline is None:
            return []
        sigma = f"σ {baseline.sigma:.4f}"
        return [(sigma, self.look["dim"])]

    def body(self, width: int, height: int) -> list[Strip]:
        look, series = self.look, self._series
        if not series.steps and all(metric is None for _, metric, _ in series.points):
            return [strip_of([("  " + words, look["dim"])], width, look["text"]) for words in self._before()]
        if height < 4 or width < 24:
            return []
        rows = height - 1
        marks = ticks(series.low, series.high, max(2, rows // 3))
        places = decimals(marks)
        labels = max(len(f"{m:.{places}f}") for m in marks)
        plot = width - labels - 2
        shown = (series.seq, plot, rows, id(look))
        if self._plotted_for != shown:
            self._plotted, self._plotted_for = self._plot(plot, rows), shown
        cells = self._plotted
        lines = []
        at = {self._row(m, rows): f"{m:.{places}f}" for m in marks}
        for row in range(rows):
            axis = look.glyph("tick") if row in at else look.glyph("v")
            parts: list[Part] = [(f"{at.get(row, ''):>{labels}} ", look["dim"]), (axis, look["frame"])]
            lines.append(strip_of([*parts, *cells[row]], width, look["text"]))
        lines.append(self._axis(labels, plot, width))
        return lines

    def _before(self) -> list[str]:
        """What there is to say before there is anything to plot."""
        base = self.model.experiment(BASELINE)
        if base is None:
            return ["nothing has run yet"]
        measured = [format_metric(r.metric) for r in base.runs if r.metric is not None]
        live, wanted = base.live_run, self.model.baseline_runs
        if live is None:
            words = (
                "the baseline is being measured" if BASELINE in self.model.state.live else "the baseline has no result"
            )
        else:
            place = f"{len(measured) + 1} of {wanted}" if wanted else f"run {len(measured) + 1}"
            words = f"the baseline is running ({place})"
        return [words, *([f"so far {', '.join(measured)}"] if measured else [])]

    def _row(self, value: float, rows: int) -> int:
        series = self._series
        share = (value - series.low) / ((series.high - series.low) or 1.0)
        return max(0, min(rows - 1, int((1 - share) * rows)))

    def _column(self, number: float, width: int) -> int:
        series = self._series
        return max(0, min(width - 1, round((number - series.first) / max(1, series.last - series.first) * (width - 1))))

    def _plot(self, width: int, rows: int) -> list[list[Part]]:
        """Rows of cells: the band at the bottom, the best line on it, the dots on top."""
        look = self.look
        grid: list[list[Part]] = [[(" ", look["text"])] * width for _ in range(rows)]
        band, line = self._band(width, rows), self._steps(width, rows)
        for y in range(rows):
            for x in range(width):
                if line.any(x, y):
                    grid[y][x] = (line.text(x, y), look["line"])
                elif band.any(x, y):
                    grid[y][x] = (band.text(x, y), look["band"])
        top: dict[tuple[int, int], tuple[int, str, str]] = {}
        worse = 0 if self.model.state.metric.direction == "min" else rows - 1
        for number, metric, verdict in self._series.points:
            x = self._column(number, width)
            y = worse if metric is None else self._row(metric, rows)
            rank = _RANK.get(verdict, 0)
            if verdict == "skipped" or rank < top.get((y, x), (-1, "", ""))[0]:
                continue
            outside = metric is not None and not self._series.low <= metric <= self._series.high
            sign = look.glyph("point" if verdict == "kept" else verdict)
            if outside and verdict == "discarded":
                sign = look.glyph("up" if worse == 0 else "down")
            top[y, x] = (rank, sign, verdict)
        for (y, x), (_, sign, verdict) in top.items():
            grid[y][x] = (sign, look.verdict(verdict))
        return [_joined(row) for row in grid]

    def _band(self, width: int, rows: int) -> Dots:
        """Within sigma of the best of its time, sparsely dotted: changes in here may be chance."""
        dots, series = Dots(width, rows), self._series
        sigma = self.model.state.sigma
        if not sigma:
            return dots
        for index, (number, metric) in enumerate(series.steps):
            end = series.steps[index + 1][0] if index + 1 < len(series.steps) else series.last
            upper, lower = self._dot_row(metric + sigma, rows), self._dot_row(metric - sigma, rows)
            for x in range(self._column(number, width) * 2, self._column(end, width) * 2 + 2):
                for y in range(upper, lower + 1):
                    if (x + 2 * y) % 4 == 0:
                        dots.set(x, y)
        return dots

    def _dot_row(self, value: float, rows: int) -> int:
        series = self._series
        share = (value - series.low) / ((series.high - series.low) or 1.0)
        return max(0, min(rows * 4 - 1, int((1 - share) * rows * 4)))

    def _steps(self, width: int, rows: int) -> Dots:
        dots = Dots(width, rows)
        before: int | None = None
        series = self._series
        for index, (number, metric) in enumerate(series.steps):
            end = series.steps[index + 1][0] if index + 1 < len(series.steps) else series.last
            y = self._dot_row(metric, rows)
            x0, x1 = self._column(number, width) * 2, self._column(end, width) * 2
            if before is not None and before != y:
                dots.line(x0, before, x0, y)
            dots.line(x0, y, x1, y)
            before = y
        return dots

    def _axis(self, labels: int, plot: int, width: int) -> Strip:
        """Experiment numbers under the plot."""
        look = self.look
        text = [look.glyph("h")] * plot
        wanted = ticks(self._series.first, self._series.last, max(2, plot // 16))
        for value in [v for v in wanted if v == int(v)]:
            label = f"{int(value)}"
            x = min(plot - len(label), max(0, self._column(value, plot) - len(label) // 2))
            text[x : x + len(label)] = list(label)
        parts: list[Part] = [(" " * (labels + 1), look["text"]), (look.glyph("axis"), look["frame"])]
        for sign in text:
            parts.append((sign, look["dim"] if sign.isdigit() else look["frame"]))
        return strip_of(_joined(parts), width, look["text"])


def _joined(cells: list[Part]) -> list[Part]:
    """Neighbouring cells of one style as one part: fewer escape sequences on the wire."""
    out: list[Part] = []
    run: list[str] = []
    style: Style | None = None
    for text, own in cells:
        if own is not style and run and style is not None:
            out.append(("".join(run), style))
            run = []
        run.append(text)
        style = own
    if run and style is not None:
        out.append(("".join(run), style))
    return out
