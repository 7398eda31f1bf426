"""The page of one experiment: idea, diff, runs, curves, output and reasoning"""

from __future__ import annotations

from typing import ClassVar

from textual.strip import Strip
from textual.widget import Widget

from core.views import in_short
from tui.paint.canvas import Canvas, Pane
from tui.paint.cells import brief, strip_of
from tui.screens.reading import experiment_text
from tui.screens.reading.reader import ReadingScreen
from tui.session_view import SessionView
from tui.widgets.diff.diff_pane import DiffPane
from tui.widgets.page import Page
from tui.widgets.reasoning import ReasoningPane
from tui.widgets.run.loss_curves import Curves
from tui.widgets.run.loss_pane import LossPane, Picked
from tui.widgets.run.run_output import OutputPane


class Head(Canvas):
    """Three lines: number, verdict, result; the hypothesis; the reason of the verdict."""

    DEFAULT_CSS = "Head { height: 3; width: 1fr; }"

    def __init__(self, view: SessionView, experiment: int) -> None:
        super().__init__(view)
        self.experiment = experiment

    def paint(self, width: int, height: int) -> list[Strip]:
        look = self.look
        x = self.view.experiment(self.experiment)
        if x is None:
            return [strip_of([(f" there is no experiment {self.experiment}", look["warn"])], width, look["text"])]
        text = look["text"]
        title = brief(x.hypothesis) or "not proposed yet"
        return [
            strip_of(experiment_text.result(self.view, x), width, text),
            strip_of([(" ", text), (title, look["bright"])], width, text),
            strip_of([(" ", text), (brief(in_short(x.reason)), look["dim"])], width, text),
        ]


class DetailScreen(ReadingScreen):
    PLACE: ClassVar[str] = "detail"
    TABS = ("idea", "diff", "runs", "curves", "output", "reasoning")

    def __init__(self, view: SessionView, experiment: int, tab: int = 0) -> None:
        super().__init__(view, tab)
        self.experiment = experiment
        self.curves = Curves(view.paths)

    @property
    def page(self) -> int | None:
        return self.experiment

    def head(self) -> list[Widget]:
        return [Head(self.view, self.experiment)]

    def make_panes(self) -> list[Pane]:
        view, number = self.view, self.experiment
        x = view.experiment(number)
        self.output = OutputPane(view, run=x.runs[-1].run if x and x.runs else -1)
        self.output.curves = self.curves
        self.diff = DiffPane(view, experiment=number)
        self.diff.highlights = True
        self.losses = LossPane(view, self.curves, self._picked)
        self.reasoning = ReasoningPane(view, experiment=number)
        return [
            Page(view, "idea", lambda width: experiment_text.idea(view, number, width)),
            self.diff,
            Page(view, "runs", lambda width: experiment_text.runs(view, number, width)),
            self.losses,
            self.output,
            self.reasoning,
        ]

    def _picked(self) -> Picked:
        """The live run, else the first with a metric, else the last; beside the best's and the baseline's."""
        x = self.view.experiment(self.experiment)
        if x is None or not x.runs:
            return None, []
        run = x.live_run or self.view.finished_run(self.experiment) or x.runs[-1]
        return run, self.view.references(run)

    def follow_files(self) -> None:
        shown = self.output.shown()
        self.curves.poll(self.losses.wanted() | ({shown.run} if shown else set()))

    # -- actions ------------------------------------------------------------------------------------------------

    def show_beside(self, step: int) -> None:
        """Show the next experiment (1) or the previous one (-1)."""
        numbers = sorted(self.view.state.experiments)
        at = numbers.index(self.experiment) + step if self.experiment in numbers else 0
        if 0 <= at < len(numbers):
            self.app.switch_screen(DetailScreen(self.view, numbers[at], self.tab))
        else:
            self.say("there is no further experiment", "warn", 2.0)

    def next_diff_base(self) -> None:
        self.show_tab(1)
        self.say(f"the diff is against {self.diff.next_base()}", "accent", 2.0)

    def next_fold(self) -> None:
        self.show_tab(5)
        self.say(f"reasoning: {self.reasoning.next_fold()}", "accent", 2.0)
