"""Run pane: the output of a run, with its loss curve beside it."""

from __future__ import annotations

from pathlib import Path

from rich.segment import Segment
from textual.strip import Strip

from core.record.metric import format_delta
from core.record.state import Run
from tui.paint.cells import Part, filled
from tui.session_view import SessionView, name_of
from tui.widgets.run.loss_curves import Curves
from tui.widgets.run.loss_pane import run_plot, standing
from tui.widgets.tail import LogPane

MAX_PLOT_CELLS = 90
MIN_CELLS_WITH_PLOT = 50
MIN_WRAPPED_CELLS = 150  # a narrower pane cuts lines, so that they keep their columns


class OutputPane(LogPane):
    NUMBER = 6
    MAX_ENTRIES = 3000
    MAX_BYTES = 256_000
    MAX_POLL_LINES = 400  # of a run that prints gigabytes, the end is shown
    curves: Curves

    def __init__(self, view: SessionView, *, id: str | None = None, run: int | None = None) -> None:
        """`run`: shows this run; None: the one that the session view shows."""
        super().__init__(view, "run", self._output, "", id=id)
        self.fixed = run

    def shown(self) -> Run | None:
        if self.fixed is None:
            return self.view.shown_run
        runs = (r for x in self.view.state.experiments.values() for r in x.runs)
        return next((r for r in runs if r.run == self.fixed), None)

    def _output(self) -> Path | None:
        run = self.shown()
        return self.view.paths.run(run.run) / "output.log" if run else None

    def role_of(self, line: str) -> str:
        return "dim" if line.startswith("step ") else "text"

    def heading(self) -> list[Part]:
        run = self.shown()
        if run is None:
            return []
        more = "" if self.fixed is None and run.kind in ("candidate", "baseline") else f" {run.kind}"
        return [(f" · {name_of(run.experiment)}{more} run {run.run}", self.look["dim"])]

    def aside(self) -> list[Part]:
        run = self.shown()
        found = standing(self.view, self.curves, run) if run else None
        if found is None:
            return []
        look = self.look
        parts: list[Part] = [("loss ", look["dim"]), (f"{found.loss:.4f}", look["text"])]
        if found.difference is not None:
            good = found.difference < 0
            sign, style = look.glyph("down" if good else "up"), look["good" if good else "warn"]
            parts.append((f"  {sign} {format_delta(found.difference)}", style))
            parts.append((f" vs {found.beside} at equal time", look["dim"]))
        return parts

    def empty(self) -> str:
        return "no output yet" if self.shown() else "nothing has run yet"

    def body(self, width: int, height: int) -> list[Strip]:
        run = self.shown()
        wraps = not self.framed or width >= MIN_WRAPPED_CELLS
        if wraps != self.wraps:
            self.wraps, self._wrapped_for = wraps, 0
        if run is None or len(self.curves.of(run.run)) < 2 or width < MIN_CELLS_WITH_PLOT or height < 3:
            return super().body(width, height)
        plot = min(MAX_PLOT_CELLS, width // 2)
        cells, fill = width - plot - 3, self.look["text"]
        text = filled(super().body(cells, height), cells, height, fill)
        curve = run_plot(self.view, self.curves, run, self.view.references(run), plot, height)
        rule = Strip([Segment(f" {self.look.glyph('v')} ", self.look["frame"])], 3)
        return [Strip.join((a, rule, b)) for a, b in zip(text, filled(curve, plot, height, fill), strict=True)]
