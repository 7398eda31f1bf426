"""Resizing panes by dragging the edges between them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from textual.widget import Widget

from tui.paint.layout import PAIRS, PaneLayout

Edge = tuple[str, int, int]  # ("split", pair, 0), or ("rows", upper row, row below it)


class PaneScreen(Protocol):
    layout_of: PaneLayout

    @property
    def single(self) -> bool: ...
    def rows_shown(self) -> list[int]: ...
    def lay_out(self) -> None: ...
    def query_one(self, selector: str, /) -> Widget: ...


@dataclass(slots=True)
class PaneEdges:
    """The edge that the mouse drags, from button down to button up."""

    screen: PaneScreen
    held: Edge | None = None
    moved: bool = False

    def press(self, x: int, y: int) -> None:
        self.held = None if self.screen.single else self.edge_at(x, y)
        self.moved = False

    def edge_at(self, x: int, y: int) -> Edge | None:
        """The edge at a cell of the screen, or None."""
        for pair, (left, right) in enumerate(PAIRS):
            one, other = self.screen.query_one(f"#{left}"), self.screen.query_one(f"#{right}")
            inside = one.display and other.display and one.region.y < y < one.region.bottom - 1
            if inside and x in (one.region.right - 1, other.region.x):
                return ("split", pair, 0)
        for upper, lower in pairwise(self.screen.rows_shown()):
            edge = self._row(upper).region.bottom
            if y in (edge - 1, edge):
                return ("rows", upper, lower)
        return None

    def _row(self, row: int) -> Widget:
        return self.screen.query_one(("#upper", "#middle", "#lower")[row])

    def drag(self, x: int, y: int) -> None:
        if self.held is None:
            return
        kind, one, other = self.held
        layout = self.screen.layout_of
        if kind == "split":
            left, right = (self.screen.query_one(f"#{name}").region for name in PAIRS[one])
            share = (x + 1 - left.x) / max(1, right.right - left.x)
            if abs(share - layout.split[one]) * (right.right - left.x) < 1:
                return
            layout.set_split(one, share)
        else:
            upper, lower = self._row(one).region, self._row(other).region
            rows = y + 1 - upper.bottom
            if not rows:
                return
            both = layout.heights[one] + layout.heights[other]
            layout.move_edge(one, other, rows / max(1, upper.height + lower.height) * both)
        self.moved = True
        self.screen.lay_out()

    def release(self) -> None:
        if self.held is not None and self.moved:
            self.screen.layout_of.save()
        self.held = None
