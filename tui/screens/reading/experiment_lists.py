"""Two lists of experiments: where the best came from, and what failed and how."""

from __future__ import annotations

from typing import ClassVar

from core import views
from core.record.metric import format_delta, format_metric
from core.record.state import BASELINE
from core.views import LineageRow
from tui.paint.canvas import Pane
from tui.paint.cells import Part, brief, fit, left, parts_width, right
from tui.screens.reading import experiment_text
from tui.screens.reading.reader import ReadingScreen
from tui.widgets.leaderboard.listing import Listing
from tui.widgets.page import Page

FAILED = ("crashed", "rejected", "abandoned", "pruned")


class ListScreen(ReadingScreen):
    """A list whose experiment under the cursor is what commands are about; enter opens it."""

    listing: Listing

    @property
    def page(self) -> int | None:
        return self.listing.cursor if self.panes else None

    async def act_open(self) -> None:
        if self.listing.cursor is not None:
            self.cockpit.open_experiment(self.listing.cursor)

    async def act_mark(self) -> None:
        if self.listing.cursor is not None:
            marked = self.model.toggle_mark(self.listing.cursor)
            words = "marked" if marked else "no longer marked"
            self.say(f"#{self.listing.cursor} {words}; {len(self.model.marks)} marked, c compares two", "accent", 3.0)
            self.listing.flush()

    def on_listing_moved(self, message: Listing.Moved) -> None:
        if message.opened and message.experiment is not None:
            self.cockpit.open_experiment(message.experiment)
        else:
            self.flush()


class LineageScreen(ListScreen):
    """The tree of what was kept, what waits for a repeat, and what was forked from."""

    PLACE: ClassVar[str] = "lineage"

    def make_panes(self) -> list[Pane]:
        self._branches: list[LineageRow] = []
        model = self.model

        def of() -> tuple[int, int]:
            return model.state.seq, id(model.state)

        words = "nothing is kept yet: the tree begins with the baseline"
        self.listing = Listing(model, "lineage", self._make, self._line, of, words)
        best = model.state.best
        self.listing.cursor = model.selected if model.selected is not None else best
        return [self.listing]

    def on_mount(self) -> None:
        self.call_after_refresh(self._reveal)

    def _reveal(self) -> None:
        if self.listing.cursor is not None:
            self.listing.choose(self.listing.cursor)

    def _make(self) -> list[int]:
        self._branches = views.lineage(self.model.state)
        return [branch.number for branch in self._branches]

    def _line(self, place: int, width: int) -> list[Part]:
        look, state = self.model.look, self.model.state
        branch = self._branches[place]
        x = state.experiments.get(branch.number)
        if x is None:
            return [(f" #{branch.number}", look["dim"])]
        word = "baseline" if x.number == BASELINE else x.verdict or x.phase
        best = x.number == state.best and state.best_metric is not None
        name = look["good" if branch.trunk else "text"]
        sign = look.glyph("certified" if x.certified == "certified" else "best" if best else word)
        parts: list[Part] = [
            (" " + _lanes(branch, look.glyph("v"), look.glyph("tee"), look.glyph("h"), look.glyph("bl")), look["frame"])
        ]
        parts += [(f"{sign} ", look.verdict(word)), (left(f"#{x.number}", 6), look["bright" if best else "text"])]
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


def _lanes(branch: LineageRow, wall: str, tee: str, rule: str, corner: str) -> str:
    """The lines left of an experiment's sign, two cells for each column."""
    if not branch.lanes:
        return ""
    outer = "".join(f"{wall} " if lane else "  " for lane in branch.lanes[:-1])
    goes_on = branch.lanes[-1]
    if branch.first:
        return outer + (tee if goes_on else corner) + rule
    return outer + (f"{wall} " if goes_on else "  ")


class FailuresScreen(ListScreen):
    """Crashes and rejections, newest first; below, how the one under the cursor ended."""

    PLACE: ClassVar[str] = "failures"

    def make_panes(self) -> list[Pane]:
        model = self.model
        self.listing = Listing(
            model,
            "what failed",
            self._make,
            self._line,
            lambda: (model.state.seq, id(model.state)),
            "nothing has failed",
        )
        told = Page(model, "how it ended", self._told, of=lambda: (self.listing.cursor, model.state.seq))
        self.listing.styles.height = "2fr"
        told.styles.height = "3fr"
        return [self.listing, told]

    def _make(self) -> list[int]:
        found = self.model.state.experiments.values()
        failed = [x.number for x in found if x.verdict in FAILED or (x.refusals and x.verdict is None)]
        return sorted(failed, reverse=True)

    def _line(self, place: int, width: int) -> list[Part]:
        look = self.model.look
        x = self.model.state.experiments[self.listing.order[place]]
        word = x.verdict or x.phase
        ended = next((r.ended for r in reversed(x.runs) if r.ended not in (None, "done")), None)
        parts: list[Part] = [
            (right(str(x.number), 5) + " ", look["dim"]),
            (left(f"{look.glyph(word)} {word}", 12), look.verdict(word)),
            (left((ended or ("before it ran" if not x.runs else "")).replace("_", " "), 16), look["dim"]),
        ]
        room = max(0, width - parts_width(parts))
        reason = fit(brief(views.in_short(x.reason)) or "turned down, tried again", room * 3 // 5)
        parts.append((reason, look["text"]))
        return [*parts, ("   " + fit(brief(x.hypothesis), max(0, width - parts_width(parts) - 3)), look["dim"])]

    def _told(self, width: int) -> list[list[Part]]:
        return experiment_text.failure(self.model, self.listing.cursor, width)
