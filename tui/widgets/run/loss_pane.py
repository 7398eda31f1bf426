"""A pane of loss curves over one another, with what they say beside them."""

from __future__ import annotations

from collections.abc import Callable

from textual.strip import Strip

from core.record.state import Run
from tui.paint.canvas import Pane
from tui.paint.cells import strip_of
from tui.session_view import SessionView
from tui.widgets.run.loss_curves import Curves
from tui.widgets.run.run_output import run_plot

Picked = tuple[Run | None, list[tuple[str, Run]]]


class LossPane(Pane):
    """`pick()` gives the run that is looked at and those that it is laid over."""

    NAME = "curves"

    def __init__(self, model: SessionView, curves: Curves, pick: Callable[[], Picked]) -> None:
        super().__init__(model)
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
            words = "it has not run" if run is None else "this run printed no loss: nothing to draw"
            return [strip_of([("  " + words, look["dim"])], width, look["text"])]
        return run_plot(self.model, self.curves, run, others, width, height)
