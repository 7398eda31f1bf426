"""Loss curve of a run over those of other runs at equal time, with its legend; the pane of curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual.strip import Strip

from core import views
from core.record.metric import format_metric
from core.record.state import Run, who
from tui.paint.canvas import Pane
from tui.paint.cells import Part, filled, strip_of, wrap
from tui.session_view import SessionView, name_of
from tui.widgets.run.loss_curves import Curves, Points, overlay

LEGEND_CELLS = 30
MIN_CELLS_WITH_LEGEND = 64
MIN_PLOT_ROWS = 6
ROLES = {"best": "curve_best", "baseline": "curve_base", "other": "curve_best"}
References = list[tuple[str, Run]]  # ("best", "baseline" or "other", its run)
Picked = tuple[Run | None, References]


@dataclass(frozen=True, slots=True)
class Standing:
    """A run so far: its loss, its difference from the best (or the baseline) at equal time, its forecast, its speed."""

    loss: float
    beside: str = ""  # the experiment of the other curve
    difference: float | None = None
    forecast: views.Forecast | None = None
    rate: float | None = None  # steps per second
    share: float | None = None  # of the other run's steps in the same time


def standing(view: SessionView, curves: Curves, run: Run) -> Standing | None:
    """The standing of a run by its curve; None before it has one."""
    own = curves.of(run.run)
    if len(own) < 2:
        return None
    beside, other_run = "", None
    for _name, found in view.references(run):
        if curves.of(found.run):
            beside, other_run = who(found.experiment), found.run
    other, usual = curves.of(other_run), curves.steps_of(other_run)
    end = view.length_of(run, [other])
    guess = views.forecast(own, min(end, other[-1][0]) if other else end, other, beside) if run.phase else None
    pace = views.speed(curves.steps_of(run.run), usual)
    return Standing(own[-1][1], beside, views.difference(own, other), guess, *(pace or (None, None)))


class LossPane(Pane):
    """The curves of the runs that `pick()` gives: one run, and those under it."""

    NAME = "curves"

    def __init__(self, view: SessionView, curves: Curves, pick: Callable[[], Picked]) -> None:
        super().__init__(view)
        self.curves = curves
        self.pick = pick

    def wanted(self) -> set[int]:
        """The runs whose files it reads."""
        run, others = self.pick()
        return {r.run for _, r in others} | ({run.run} if run else set())

    def body(self, width: int, height: int) -> list[Strip]:
        look = self.look
        run, others = self.pick()
        if run is None or len(self.curves.of(run.run)) < 2:
            words = "this experiment has not run" if run is None else "this run printed no loss"
            return [strip_of([("  " + words, look["dim"])], width, look["text"])]
        return run_plot(self.view, self.curves, run, others, width, height)


def run_plot(
    view: SessionView, curves: Curves, run: Run, references: References, width: int, height: int
) -> list[Strip]:
    """The curve of a run over those of `references`, with a legend beside or below it."""
    look, own = view.look, curves.of(run.run)
    others = [(name, found) for name, found in references if curves.of(found.run)]
    lines: list[tuple[Points, str]] = [(curves.of(found.run), ROLES[name]) for name, found in others]
    end = view.length_of(run, [points for points, _ in lines] or [own])
    longest = max((points[-1][0] for points in [*(points for points, _ in lines), own] if points), default=end)
    if lines and longest < 0.9 * end:
        end = longest  # no run uses up its budget: the right side of the plot would be empty
    lines.append((own, "curve"))
    words = _legend(view, curves, run, others)
    if width >= MIN_CELLS_WITH_LEGEND:
        cells, fill = width - LEGEND_CELLS - 2, look["text"]
        plot = filled(overlay(lines, end, cells, height, look), cells, height, fill)
        legend = [strip_of([("  ", fill), *parts], LEGEND_CELLS + 2, fill) for parts in words[:height]]
        return [Strip.join(pair) for pair in zip(plot, filled(legend, LEGEND_CELLS + 2, height, fill), strict=True)]
    below = words if height >= len(words) + MIN_PLOT_ROWS else words[-1:] if height >= MIN_PLOT_ROWS else []
    plot = overlay(lines, end, width, height - len(below), look)
    return [*plot, *(strip_of(parts, width, look["text"]) for parts in below)]


def _legend(view: SessionView, curves: Curves, run: Run, others: References) -> list[list[Part]]:
    """Each curve's loss at the present time; then the run's forecast and speed."""
    look = view.look
    own = curves.of(run.run)
    if len(own) < 2:
        return []
    now, loss = own[-1]
    rule = look.glyph("h") * 2
    out: list[list[Part]] = [
        [(rule, look["curve"]), (f" {name_of(run.experiment):<9}", look["text"]), (f"{loss:.4f}", look["bright"])]
    ]
    for kind, found in reversed(others):
        theirs = curves.of(found.run)
        at = views.loss_at(theirs, now)
        label = "baseline" if kind == "baseline" else f"{'best ' * (kind == 'best')}#{found.experiment}"
        value = f"{at if at is not None else theirs[-1][1]:.4f}"
        ended = "" if at is not None or now <= theirs[-1][0] else "  final"
        style = look[ROLES[kind]]
        out.append([(rule, style), (f" {label:<9}", look["dim"]), (value, look["text"]), (ended, look["dim"])])
    so_far = standing(view, curves, run)
    if so_far and so_far.forecast:
        guess = so_far.forecast
        out.append([("forecast ", look["dim"]), (format_metric(guess.loss), look["accent"])])
        out += [[(line, look["dim"])] for line in wrap(guess.method, LEGEND_CELLS)]
    elif run.metric is not None:
        out.append([("score ", look["dim"]), (format_metric(run.metric), look["bright"])])
    if so_far and so_far.rate:
        parts: list[Part] = [("speed ", look["dim"]), (f"{so_far.rate:,.3g} steps/s", look["text"])]
        if so_far.share is not None:
            percent = round((so_far.share - 1) * 100)
            words = "as usual" if abs(percent) < 2 else f"{abs(percent)}% {'faster' if percent > 0 else 'slower'}"
            parts.append((f"  {words}", look["warn" if percent <= -10 else "dim"]))
        out.append(parts)
    return out
