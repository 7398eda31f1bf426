"""Progress pane: experiments as dots by verdict, the best as a step line, sigma as a band."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from textual import events
from textual.message import Message
from textual.strip import Strip

from core.record.budget import format_seconds
from core.record.metric import format_delta, format_metric
from core.record.state import BASELINE, Experiment
from tui.paint.braille import Dots, decimals, ticks
from tui.paint.canvas import Pane, joined
from tui.paint.cells import Part, brief, parts_width, strip_of
from tui.session_view import SessionView
from tui.widgets.leaderboard.columns import small
from tui.widgets.progress.dots import Cell, KeptDots, topmost
from tui.widgets.progress.series import AXES, OFF, Axis, Point, Points, Series, by_number, series_of

ZOOMS = (1000, 300, 100, 30)  # newest experiments that are shown


class ChartPane(Pane):
    NUMBER = 3
    NAME = "progress"

    @dataclass
    class Picked(Message):
        """A dot was clicked (`opened`: double-clicked)."""

        experiment: int
        opened: bool

    def __init__(self, view: SessionView, *, id: str | None = None) -> None:
        super().__init__(view, id=id)
        self.axis: Axis = "experiments"
        self.newest = 0  # experiments that are shown; 0: all
        self._series = Series()
        self._dots = KeptDots()
        self._made: Hashable = None
        self._plotted: list[list[Part]] = []
        self._plotted_for: Hashable = None
        self._lines_drawn: list[list[Part]] = []  # band and line of the best
        self._lines_drawn_for: Hashable = None
        self._left = 0  # cells before the plot

    def poll(self) -> None:
        made = (self.view.log_version, self.axis, self.newest)
        if made != self._made:
            self._series = series_of(self.view.state, self.axis, self.newest)
            self._made = made

    def paint_key(self) -> Hashable:
        return self._made, self.view.selected, tuple(self.view.marks)

    def next_axis(self) -> Axis:
        self.axis = AXES[(AXES.index(self.axis) + 1) % len(AXES)]
        self.poll()
        self.flush()
        return self.axis

    def zoom(self, closer: bool) -> int:
        """Show fewer of the newest experiments, or more; their number (0: all)."""
        sizes = [0, *(n for n in ZOOMS if n < self.view.state.total)]
        at = sizes.index(self.newest) if self.newest in sizes else 0
        self.newest = sizes[max(0, min(len(sizes) - 1, at + (1 if closer else -1)))]
        self.poll()
        self.flush()
        return self.newest

    def beside(self, experiment: int | None, step: int) -> int | None:
        """The experiment `step` dots from this one (None: the newest dot); None without dots."""
        numbers = self._series.numbers
        if not numbers:
            return None
        at = numbers.index(experiment) + step if experiment in numbers else len(numbers) - 1
        return numbers[max(0, min(len(numbers) - 1, at))]

    def on_click(self, event: events.Click) -> None:
        """Pick the dot nearest to the clicked column."""
        column, width = event.x - 2 * self.framed - self._left, self.size.width - 4 * self.framed - self._left
        points = self._series.points
        if column < 0 or not points:
            return
        columns = [self._column(point.x, width) for point in points]
        near = min(range(len(columns)), key=lambda i: (abs(columns[i] - column), -i))
        self.post_message(self.Picked(points[near].number, event.chain == 2))

    def heading(self) -> list[Part]:
        metric = self.view.state.metric
        parts: list[Part] = [(f" · {brief(metric.name)} {metric.arrow}", self.look["text"])]
        if metric.self_reported:
            parts.append((" · self-reported", self.look["warn"]))
        if self.axis != "experiments":
            parts.append((f" · by {self.axis}", self.look["warn"]))
        if self.newest:
            parts.append((f" · last {self.newest}", self.look["warn"]))
        return parts

    def aside(self) -> list[Part]:
        sigma = self.view.state.sigma
        if sigma == 0:
            return [("σ unknown", self.look["warn"])]
        return [] if sigma is None else [("σ ", self.look["dim"]), (small(sigma), self.look["dim"])]

    def foot(self) -> list[Part]:
        """The selected experiment; without one, the legend."""
        room = self.size.width - 8
        found = self.view.experiment(self.view.selected)
        if found is not None and found.number != BASELINE:
            parts = self._facts(found)
        else:
            parts = self._legend() if self.framed else []  # without a frame, the axis is on that line
        while parts and parts_width(parts) > room:
            del parts[-(2 if found is None else 1) :]
        return parts

    def _legend(self) -> list[Part]:
        """Each sign in the chart and its meaning."""
        look, out = self.look, list[Part]()
        for word in ("kept", "certified", "provisional", "discarded", "crashed", "rejected", "pruned"):
            if word in self._series.signs:
                sign = look.glyph("point" if word == "kept" else word)
                out += [(sign, look.verdict(word)), (f" {word}  ", look["dim"])]
        if OFF in self._series.signs:
            out += [(self._off_sign, look.verdict("discarded")), (f" {OFF}  ", look["dim"])]
        return out

    def _facts(self, x: Experiment) -> list[Part]:
        look = self.look
        word = self.view.phase_of(x)
        parts: list[Part] = [(f"#{x.number} ", look["bright"]), (f"{look.glyph(word)} {word}", look.verdict(word))]
        if x.metric is not None:
            off = self._off(Point(x.number, 0.0, x.metric, word, False))
            parts.append((f"  {format_metric(x.metric)}{f', {OFF}' * off}", look["bright"]))
        if x.delta is not None:
            parts.append((f"  {format_delta(x.delta)}", look["good" if x.verdict == "kept" else "dim"]))
        if x.certified:
            parts.append((f"  {look.glyph('certified')} {x.certified}", look["accent"]))
        if x.ended is not None:
            parts.append((f"  at {format_seconds(max(0.0, x.ended - self.view.state.started))}", look["dim"]))
        if x.usd:
            parts.append((f"  ${x.usd:.3f}", look["dim"]))
        return [*parts, ("  enter opens", look["faint"])]

    def body(self, width: int, height: int) -> list[Strip]:
        look, series = self.look, self._series
        if not series.steps and not series.has_results:
            return [strip_of([("  " + words, look["dim"])], width, look["text"]) for words in self._baseline()]
        if height < 4 or width < 24:
            return []
        rows = height - 1
        marks = ticks(series.low, series.high, max(2, rows // 3))
        places = decimals(marks)
        labels = max(len(f"{m:.{places}f}") for m in marks)
        plot = width - labels - 2
        self._left = labels + 2
        shown = (self._made, plot, rows, look.name, look.ascii, self.view.selected)
        if self._plotted_for != shown:
            self._plotted, self._plotted_for = self._plot(plot, rows), shown
        lines = []
        at = {self._row(m, rows): f"{m:.{places}f}" for m in marks}
        for row in range(rows):
            axis = look.glyph("tick") if row in at else look.glyph("v")
            parts: list[Part] = [(f"{at.get(row, ''):>{labels}} ", look["dim"]), (axis, look["frame"])]
            lines.append(strip_of([*parts, *self._plotted[row]], width, look["text"]))
        lines.append(self._axis(labels, plot, width))
        return lines

    def _baseline(self) -> list[str]:
        """State of the baseline, before there is a point to plot."""
        base = self.view.experiment(BASELINE)
        if base is None:
            return ["nothing has run yet"]
        measured = [format_metric(r.metric) for r in base.runs if r.kind == "baseline" and r.metric is not None]
        wanted = self.view.baseline_runs
        if self.view.connection.status == "dead":
            cut_off = self.view.state.state != "crashed" and BASELINE in self.view.state.live
            words = "the baseline was interrupted" if cut_off else "the baseline has no result"
        elif base.live_run is not None:
            number = f"{len(measured) + 1} of {wanted}" if wanted else f"run {len(measured) + 1}"
            number = "a warm-up, which does not count" if base.live_run.kind == "warmup" else number
            words = f"the baseline is running ({number})"
        elif BASELINE in self.view.state.live:
            words = "the baseline is being measured"
        else:
            words = "the baseline has no result"
        return [words, *([f"so far {', '.join(measured)}"] if measured else [])]

    def _row(self, value: float, rows: int) -> int:
        series = self._series
        share = (value - series.low) / ((series.high - series.low) or 1.0)
        return max(0, min(rows - 1, int((1 - share) * rows)))

    def _column(self, x: float, width: int) -> int:
        series = self._series
        share = (x - series.first) / ((series.last - series.first) or 1.0)
        return max(0, min(width - 1, round(share * (width - 1))))

    def _plot(self, width: int, rows: int) -> list[list[Part]]:
        """Rows of cells: the band, the line of the best over it, the dots on top."""
        look, series = self.look, self._series
        shown = (series.window, tuple(series.steps), self.view.state.sigma, width, rows, look.name, look.ascii)
        if shown != self._lines_drawn_for:
            self._lines_drawn, self._lines_drawn_for = self._lines_of_best(width, rows), shown
        grid = [row.copy() for row in self._lines_drawn]
        self._cursor(grid, width, rows)
        return [joined(row) for row in grid]

    def _lines_of_best(self, width: int, rows: int) -> list[list[Part]]:
        look = self.look
        grid: list[list[Part]] = [[(" ", look["text"])] * width for _ in range(rows)]
        band, line = self._band(width, rows), self._steps(width, rows)
        for y in range(rows):
            for x in range(width):
                if line.any(x, y):
                    grid[y][x] = (line.text(x, y), look["line"])
                elif band.any(x, y):
                    grid[y][x] = (band.text(x, y), look["band"])
        return grid

    def _cursor(self, grid: list[list[Part]], width: int, rows: int) -> None:
        """Draw the dots, with a vertical line through the selected experiment."""
        found = self.view.experiment(self.view.selected)
        chosen = None if found is None else self._series.point(found.number)
        if chosen is not None:
            column = self._column(chosen.x, width)
            for row in grid:
                if row[column][0] == " ":
                    row[column] = (self.look.glyph("cursor"), self.look["key"])
        for (y, x), point in self._tops(width, rows).items():
            grid[y][x] = self._sign(point)
        if chosen is not None:
            y, x = self._cell(chosen, width, rows)
            sign, style = self._sign(chosen)
            grid[y][x] = (sign, style + self.look.overlay("cursor"))

    def _off(self, point: Point) -> bool:
        """Whether its metric is outside the chart, so that its sign is at the edge."""
        return point.metric is not None and not self._series.low <= point.metric <= self._series.high

    @property
    def _off_sign(self) -> str:
        """Sign of a discarded experiment that is off the scale: it points to its place."""
        return self.look.glyph("up" if self.view.state.metric.direction == "min" else "down")

    def _tops(self, width: int, rows: int) -> dict[Cell, Point]:
        """The experiment that each cell shows."""
        series, state = self._series, self.view.state

        def place(point: Point) -> Cell:
            return self._cell(point, width, rows)

        if not isinstance(series.points, Points):
            return topmost(series.points, place)
        scale = (series.window, width, rows, state.metric.direction)
        return self._dots.follow(state.experiments, by_number, place, scale)

    def _cell(self, point: Point, width: int, rows: int) -> Cell:
        """Row and column of a dot; without a result it is where the worst would be."""
        worse = 0 if self.view.state.metric.direction == "min" else rows - 1
        return worse if point.metric is None else self._row(point.metric, rows), self._column(point.x, width)

    def _sign(self, point: Point) -> Part:
        look = self.look
        sign = look.glyph("point" if point.verdict == "kept" else point.verdict)
        if point.certified:
            sign = look.glyph("certified")
        elif self._off(point) and point.verdict == "discarded":
            sign = self._off_sign
        return sign, look.verdict(point.verdict)

    def _band(self, width: int, rows: int) -> Dots:
        """Sparse dots within sigma of the best at each time: differences in this band may be noise."""
        dots = Dots(width, rows)
        sigma = self.view.state.sigma
        if not sigma:
            return dots
        for x0, x1, metric in self._spans(width):
            upper, lower = self._row(metric + sigma, rows * 4), self._row(metric - sigma, rows * 4)
            for x in range(x0, x1 + 2):
                for y in range(upper, lower + 1):
                    if (x + 2 * y) % 4 == 0:
                        dots.set(x, y)
        return dots

    def _spans(self, width: int) -> Iterator[tuple[int, int, float]]:
        """First and last dot column of each best, and its metric."""
        steps = self._series.steps
        for (begin, metric), end in zip(steps, [*(x for x, _ in steps[1:]), self._series.last], strict=False):
            yield self._column(begin, width) * 2, self._column(end, width) * 2, metric

    def _steps(self, width: int, rows: int) -> Dots:
        dots = Dots(width, rows)
        before: int | None = None
        for x0, x1, metric in self._spans(width):
            y = self._row(metric, rows * 4)
            if before is not None and before != y:
                dots.line(x0, before, x0, y)
            dots.line(x0, y, x1, y)
            before = y
        return dots

    def _axis(self, labels: int, plot: int, width: int) -> Strip:
        """The line under the plot: experiment numbers, hours or dollars."""
        look = self.look
        text = [look.glyph("h")] * plot
        wanted = ticks(self._series.first, self._series.last, max(2, plot // 16))
        if self.axis == "experiments":
            wanted = [v for v in wanted if v == int(v)]
        places = decimals(wanted)
        before, after = {"experiments": ("", ""), "hours": ("", " h"), "dollars": ("$", "")}[self.axis]
        for value in wanted:
            label = f"{before}{value:.{places}f}{after}"
            x = min(plot - len(label), max(0, self._column(value, plot) - len(label) // 2))
            text[x : x + len(label)] = list(label)
        parts: list[Part] = [(" " * (labels + 1), look["text"]), (look.glyph("axis"), look["frame"])]
        parts += [(sign, look["frame"] if sign == look.glyph("h") else look["dim"]) for sign in text]
        return strip_of(joined(parts), width, look["text"])
