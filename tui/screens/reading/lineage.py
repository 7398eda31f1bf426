"""The lineage: ancestry of the best as a tree of kept, provisional and forked experiments"""

from __future__ import annotations

from typing import ClassVar

from core import views
from core.record.metric import format_delta, format_metric
from core.record.state import BASELINE
from core.views import LineageRow
from tui.paint.canvas import Pane
from tui.paint.cells import Part, brief, fit, left, parts_width, right
from tui.paint.theme import Look
from tui.screens.reading.reader import ListScreen
from tui.widgets.leaderboard.listing import Listing


class LineageScreen(ListScreen):
    """The tree of kept, provisional and forked experiments."""

    PLACE: ClassVar[str] = "lineage"

    def make_panes(self) -> list[Pane]:
        self._branches: list[LineageRow] = []
        view = self.view
        words = "no experiment is kept yet: the tree starts with the baseline"
        self.listing = Listing(view, "lineage", self._make, self._line, lambda: view.log_version, words)
        self.listing.cursor = view.state.best if view.selected is None else view.selected
        return [self.listing]

    def on_mount(self) -> None:
        self.call_after_refresh(self._reveal)

    def _reveal(self) -> None:
        if self.listing.cursor is not None:
            self.listing.choose(self.listing.cursor)

    def _make(self) -> list[int]:
        self._branches = views.lineage(self.view.state)
        return [branch.number for branch in self._branches]

    def _line(self, place: int, width: int) -> list[Part]:
        look, state = self.view.look, self.view.state
        branch = self._branches[place]
        x = state.experiments.get(branch.number)
        if x is None:
            return [(f" #{branch.number}", look["dim"])]
        word = "baseline" if x.number == BASELINE else self.view.phase_of(x)
        best = x.number == state.best and state.best_metric is not None
        name = look["good" if branch.trunk else "text"]
        sign = look.glyph("certified" if x.certified == "certified" else "best" if best else word)
        parts: list[Part] = [(f" {_lanes(branch, look)}", look["frame"]), (f"{sign} ", look.verdict(word))]
        parts.append((left(f"#{x.number}", 6), look["bright" if best else "text"]))
        if x.metric is not None:
            parts.append((right(format_metric(x.metric), 8), name))
        if x.delta is not None and x.number != BASELINE:
            parts.append((right(format_delta(x.delta), 9), look["dim"]))
        parts.append((f"  {word}", look.verdict(word)))
        if x.certified:
            parts.append((f" · {x.certified}", look["accent"]))
        if state.base == x.number:
            parts.append((" · proposals build on this", look["warn"]))
        if x.number in state.pinned:
            parts.append((" · pinned", look["warn"]))
        title = "the unchanged code" if x.number == BASELINE else brief(x.hypothesis)
        return [*parts, ("  " + fit(title, max(0, width - parts_width(parts) - 2)), look["text" if best else "dim"])]


def _lanes(branch: LineageRow, look: Look) -> str:
    """The lines left of an experiment's sign, two cells for each column."""
    lanes = [f"{look.glyph('v')} " if lane else "  " for lane in branch.lanes]
    if lanes and branch.first:
        lanes[-1] = look.glyph("tee" if branch.lanes[-1] else "bl") + look.glyph("h")
    return "".join(lanes)
