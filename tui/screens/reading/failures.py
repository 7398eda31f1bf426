"""The failures: crashed, rejected and abandoned experiments, each with its reason and the end of its log"""

from __future__ import annotations

from typing import ClassVar

from core import views
from core.record.budget import format_seconds
from tui.paint.canvas import Pane
from tui.paint.cells import Part, brief, fit, flat, left, parts_width, right
from tui.screens.reading.experiment_text import log_tail, result
from tui.screens.reading.reader import ListScreen
from tui.session_view import SessionView
from tui.widgets.leaderboard.listing import Listing
from tui.widgets.page import Lines, Page, paragraphs

FAILED = ("crashed", "rejected", "abandoned", "pruned")
MAX_CHECK_LINES = 40  # of the output of a failed check
MAX_LOG_LINES = 60  # of the log of a failed run


class FailuresScreen(ListScreen):
    """Failed experiments, newest first; below, the end of the one under the cursor."""

    PLACE: ClassVar[str] = "failures"

    def make_panes(self) -> list[Pane]:
        view = self.view
        words = "no experiment has failed"
        self.listing = Listing(view, "failed experiments", self._make, self._line, lambda: view.log_version, words)
        told = Page(view, "end of the experiment", self._told, of=lambda: (self.listing.cursor, view.state.seq))
        self.listing.styles.height = "2fr"
        told.styles.height = "3fr"
        return [self.listing, told]

    def _make(self) -> list[int]:
        found = self.view.state.experiments.values()
        failed = [x.number for x in found if x.verdict in FAILED or (x.refusals and x.verdict is None)]
        return sorted(failed, reverse=True)

    def _line(self, place: int, width: int) -> list[Part]:
        look = self.view.look
        x = self.view.state.experiments[self.listing.order[place]]
        word = self.view.phase_of(x)
        ended = next((r.ended for r in reversed(x.runs) if r.ended not in (None, "done")), None)
        parts: list[Part] = [
            (right(str(x.number), 5) + " ", look["dim"]),
            (left(f"{look.glyph(word)} {word}", 12), look.verdict(word)),
            (left((ended or ("before it ran" if not x.runs else "")).replace("_", " "), 16), look["dim"]),
        ]
        room = max(0, width - parts_width(parts))
        reason = fit(brief(views.in_short(x.reason)) or "rejected, tried again", room * 3 // 5)
        parts.append((reason, look["text"]))
        return [*parts, ("   " + fit(brief(x.hypothesis), max(0, width - parts_width(parts) - 3)), look["dim"])]

    def _told(self, width: int) -> list[list[Part]]:
        return failure_lines(self.view, self.listing.cursor, width)


def failure_lines(view: SessionView, number: int | None, width: int) -> Lines:
    """The failure of an experiment: hypothesis, reason, refusals, failed checks, and the end of its log."""
    look = view.look
    x = view.experiment(number)
    if x is None or number is None:
        return []
    details = view.details(number)
    out: Lines = [result(view, x), []]
    out += paragraphs(x.hypothesis or "not proposed", width, look["bright"], 1)
    if x.reason:
        out += paragraphs(x.reason, width, look["bad"], 1)
    for refusal in details.refusals:
        out += [[], [(f" rejected before it ran (try {refusal.attempt})", look["dim"])]]
        out += paragraphs(refusal.reason, width, look["warn"], 3)
    for check in (c for c in details.checks if not c.ok):
        out += [[], [(f" failed its check {flat(check.name)}", look["dim"])]]
        out += log_tail(view, check.output, MAX_CHECK_LINES)
    for finished in details.finished:
        if finished.ended == "done" and x.verdict != "rejected":
            continue
        words = f" run {finished.run} {finished.ended.replace('_', ' ')} after {format_seconds(finished.seconds)}"
        if finished.exit_code is not None:
            words += f", exit code {finished.exit_code}"
        out += [[], [(words, look["dim"])]]
        if finished.reason:
            out += paragraphs(finished.reason, width, look["warn"], 3)
        if finished.log_tail.strip():
            out += log_tail(view, finished.log_tail, MAX_LOG_LINES)
    return out
