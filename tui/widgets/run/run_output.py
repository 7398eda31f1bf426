"""The run as it goes: its own words, and its loss over the best's and the baseline's at equal time."""

from __future__ import annotations

from dataclasses import dataclass

from rich.segment import Segment
from textual.strip import Strip

from core import views
from core.client import FileTail
from core.record.metric import format_delta, format_metric
from core.record.state import BASELINE, Run, who
from tui.paint.cells import Part, flat, strip_of, wrap
from tui.session_view import SessionView
from tui.widgets.run.loss_curves import Curves, Points, overlay
from tui.widgets.tail import LONGEST, Tail, last_state

LINES_A_POLL = 400  # a run that prints gigabytes is followed at its end
LEGEND = 30  # cells beside a plot
ROLES = {"best": "curve_best", "baseline": "curve_base", "other": "curve_best"}


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stands: its loss, its distance to the best (or the baseline) at equal time, its end, its speed."""

    loss: float
    beside: str = ""  # whom `difference` is against
    difference: float | None = None
    forecast: views.Forecast | None = None
    rate: float | None = None  # steps a second
    share: float | None = None  # of the other's steps in the same time


def standing(model: SessionView, curves: Curves, run: Run) -> Standing | None:
    """What the curves say of a run so far, or None before there is a curve."""
    own = curves.of(run.run)
    if len(own) < 2:
        return None
    beside, other_run = "", None
    for _name, found in model.references(run):
        if curves.of(found.run):
            beside, other_run = who(found.experiment), found.run
    other, usual = curves.of(other_run), curves.steps_of(other_run)
    end = model.length_of(run, [other])
    guess = views.forecast(own, min(end, other[-1][0]) if other else end, other, beside) if run.phase else None
    pace = views.speed(curves.steps_of(run.run), usual)
    return Standing(own[-1][1], beside, views.difference(own, other), guess, *(pace or (None, None)))


class OutputPane(Tail):
    NUMBER = 6
    NAME = "run"
    curves: Curves

    def __init__(
        self, model: SessionView, *, id: str | None = None, run: int | None = None, plotted: bool = True
    ) -> None:
        """`run`: always this one. `plotted`: with its curve beside it."""
        super().__init__(model, id=id)
        self.fixed = run
        self.plotted = plotted
        self._run: int | None = None
        self._file: FileTail | None = None

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
            self._file = FileTail(self.model.paths.run(number) / "output.log") if number is not None else None
        if self._file is None:
            return
        lines = self._file.lines(LONGEST)
        if len(lines) > LINES_A_POLL:
            self.add(f"{len(lines) - LINES_A_POLL:,} lines passed", "faint")
            lines = lines[-LINES_A_POLL:]
        for line in lines:
            self.add(flat(last_state(line), 8), "dim" if line.startswith("step ") else "text", "")

    # -- frame --------------------------------------------------------------------------------------------------

    def heading(self) -> list[Part]:
        run = self.shown()
        if run is None:
            return []
        what = "baseline" if run.experiment == BASELINE else f"#{run.experiment}"
        more = "" if self.fixed is None and run.kind in ("candidate", "baseline") else f" {run.kind}"
        return [(f" · {what}{more} run {run.run}", self.look["dim"])]

    def aside(self) -> list[Part]:
        run = self.shown()
        found = standing(self.model, self.curves, run) if run else None
        if found is None:
            return []
        look = self.look
        parts: list[Part] = [("loss ", look["dim"]), (f"{found.loss:.4f}", look["text"])]
        if found.difference is not None:
            good = found.difference < 0
            parts += [
                (f"  {look.glyph('down' if good else 'up')} {format_delta(found.difference)}",
                 look["good" if good else "warn"]),
                (f" vs {found.beside} at equal time", look["dim"]),
            ]  # fmt: skip
        return parts

    def empty(self) -> str:
        return "no output yet" if self.shown() else "nothing has run yet"

    # -- body ---------------------------------------------------------------------------------------------------

    def body(self, width: int, height: int) -> list[Strip]:
        run = self.shown()
        points = self.curves.of(run.run) if run else []
        wraps = not self.framed or width >= 150  # beside other panes a line is cut, so that lines keep their columns
        if wraps != self.wraps:
            self.wraps, self._wrapped_for = wraps, 0
        if run is None or not self.plotted or len(points) < 2 or width < 50 or height < 3:
            return super().body(width, height)
        plot = min(90, width // 2)
        text = super().body(width - plot - 3, height)
        blank = strip_of([], width - plot - 3, self.look["text"])
        text += [blank] * (height - len(text))
        rule = Segment(f" {self.look.glyph('v')} ", self.look["frame"])
        right = run_plot(self.model, self.curves, run, self.model.references(run), plot, height)
        right += [strip_of([], plot, self.look["text"])] * (height - len(right))
        return [
            Strip([*line._segments, rule, *beside._segments], width) for line, beside in zip(text, right, strict=True)
        ]


def run_plot(
    model: SessionView, curves: Curves, run: Run, beside: list[tuple[str, Run]], width: int, height: int
) -> list[Strip]:
    """A run's curve over those `beside` it ("best", "baseline" or "other", and its run), and what they say."""
    look = model.look
    others = [(name, found) for name, found in beside if curves.of(found.run)]
    lines: list[tuple[Points, str]] = [(curves.of(found.run), ROLES[name]) for name, found in others]
    end = model.length_of(run, [points for points, _ in lines] or [curves.of(run.run)])
    longest = max((points[-1][0] for points, _ in [*lines, (curves.of(run.run), "")] if points), default=end)
    if lines and longest < 0.9 * end:
        end = longest  # a budget that no run uses up leaves the right side empty
    words = _words(model, curves, run, others)
    drawn = [*lines, (curves.of(run.run), "curve")]
    if width >= 64:
        room = LEGEND
        plot = overlay(drawn, end, width - room - 2, height, look)
        plot += [strip_of([], width - room - 2, look["text"])] * (height - len(plot))
        legend = [strip_of([("  ", look["text"]), *parts], room + 2, look["text"]) for parts in words[:height]]
        legend += [strip_of([], room + 2, look["text"])] * (height - len(legend))
        return [Strip([*a._segments, *b._segments], width) for a, b in zip(plot, legend, strict=True)]
    below = words if height >= len(words) + 6 else words[-1:] if height >= 6 else []
    plot = overlay(drawn, end, width, height - len(below), look)
    return [*plot, *(strip_of(parts, width, look["text"]) for parts in below)]


def _words(model: SessionView, curves: Curves, run: Run, others: list[tuple[str, Run]]) -> list[list[Part]]:
    """The legend: each curve at the present moment; then where this one goes, and how fast."""
    look = model.look
    own = curves.of(run.run)
    if len(own) < 2:
        return []
    now, loss = own[-1]
    name = "baseline" if run.experiment == BASELINE else f"#{run.experiment}"
    rule = look.glyph("h") * 2
    out: list[list[Part]] = [[(rule, look["curve"]), (f" {name:<9}", look["text"]), (f"{loss:.4f}", look["bright"])]]
    for kind, found in reversed(others):
        theirs = curves.of(found.run)
        at = views.loss_at(theirs, now)
        label = "baseline" if kind == "baseline" else f"{'best ' * (kind == 'best')}#{found.experiment}"
        value = at if at is not None else theirs[-1][1]
        ended = "" if at is not None or now <= theirs[-1][0] else "  its end"
        out.append(
            [
                (rule, look[ROLES[kind]]),
                (f" {label:<9}", look["dim"]),
                (f"{value:.4f}", look["text"]),
                (ended, look["dim"]),
            ]
        )
    found_standing = standing(model, curves, run)
    if found_standing and found_standing.forecast:
        guess = found_standing.forecast
        out.append([("ends near ", look["dim"]), (format_metric(guess.loss), look["accent"])])
        out += [[(line, look["dim"])] for line in wrap(guess.method, LEGEND)]
    elif run.metric is not None:
        out.append([("scored ", look["dim"]), (format_metric(run.metric), look["bright"])])
    if found_standing and found_standing.rate:
        rate = found_standing.rate
        parts: list[Part] = [("speed ", look["dim"]), (f"{rate:,.3g} steps/s", look["text"])]
        if found_standing.share is not None:
            percent = round((found_standing.share - 1) * 100)
            words = "as usual" if abs(percent) < 2 else f"{abs(percent)}% {'faster' if percent > 0 else 'slower'}"
            parts.append((f"  {words}", look["warn" if percent <= -10 else "dim"]))
        out.append(parts)
    return out
