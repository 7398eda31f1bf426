"""Leaderboard pane; only the rows in view are made, so that ten thousand experiments scroll like ten."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from textual import events
from textual.message import Message
from textual.strip import Strip

from core import views
from core.record.state import BASELINE, Experiment
from tui.paint.cells import Part, fit, left, right, strip_of
from tui.session_view import SessionView
from tui.user_settings import remember, remembered
from tui.widgets.leaderboard.columns import (
    DEFAULT_NAMES,
    NAMES,
    Column,
    fitting,
    is_active,
    order,
    ranking,
    word_of,
)
from tui.widgets.leaderboard.listing import RowsPane
from tui.widgets.leaderboard.rows import Listed

SORTS = ("metric", "number", "change", "verdict")  # the order of the key `s`; the other shown columns come after
VERDICTS: tuple[tuple[str, str], ...] = (  # the groups of the key `v`: name, search
    ("all", ""),
    ("kept", "verdict:kept"),
    ("waiting", "verdict:provisional,thinking,checking,queued,running,approval,waiting"),
    ("discarded", "verdict:discarded,pruned,skipped"),
    ("failed", "verdict:crashed,rejected,abandoned"),
)


class BoardPane(RowsPane):
    NUMBER = 4
    NAME = "leaderboard"
    HEAD = 1

    @dataclass
    class Chosen(Message):
        experiment: int | None

    @dataclass
    class Opened(Message):
        experiment: int

    def __init__(self, view: SessionView, *, id: str | None = None) -> None:
        super().__init__(view, id=id)
        self.filter = ""
        self.verdicts = 0  # index in VERDICTS
        self._made: Hashable = None
        self._heads: list[tuple[int, int, str]] = []  # of each column head: first cell, the cell after it, name
        kept = remembered("board")
        sort, columns = kept.get("sort"), kept.get("columns")
        self.sort = sort if sort in NAMES else "metric"
        self.reverse = kept.get("reverse") is True
        known = [c for c in columns if c in NAMES] if isinstance(columns, list) else []
        self.columns: tuple[str, ...] = tuple(known) if known else DEFAULT_NAMES

    def _save(self) -> None:
        remember("board", {"sort": self.sort, "reverse": self.reverse, "columns": list(self.columns)})

    @property
    def cursor(self) -> int | None:
        """The experiment under the cursor; sorting keeps it."""
        return self.view.selected

    def poll(self) -> None:
        made = (self.view.log_version, self.sort, self.reverse, self.filter, self.verdicts)
        if made == self._made:
            return
        self._made = made
        state = self.view.state
        wanted = f"{self.filter} {VERDICTS[self.verdicts][1]}".strip()
        if not wanted:
            self.order = ranking(state.experiments, self.sort, self.reverse, state.metric)
            return
        passes = views.search(wanted, state)
        chosen = [x for x in state.experiments.values() if passes(x)]
        live = sorted((x.number for x in chosen if is_active(x)), reverse=True)
        ended = [x for x in chosen if not is_active(x)]
        self.order = Listed([*live, *order(ended, self.sort, self.reverse, state.metric)])

    def set_sort(self, name: str) -> None:
        """Sort by a column; when it is the present one, reverse the order."""
        self.reverse = not self.reverse if name == self.sort else False
        self.sort = name
        self._refill()
        self._save()

    def next_sort(self) -> None:
        """Sort by the next of SORTS, then of the other shown columns."""
        turns = [*SORTS, *(c for c in self.columns if c not in SORTS)]
        at = turns.index(self.sort) if self.sort in turns else -1
        self.set_sort(turns[(at + 1) % len(turns)])

    def set_columns(self, names: tuple[str, ...]) -> None:
        self.columns = names or DEFAULT_NAMES
        self._save()
        self.flush()

    def set_filter(self, text: str) -> None:
        self.filter = text
        self._refill()

    def next_verdicts(self) -> str:
        """Show the next group of verdicts; its name."""
        self.verdicts = (self.verdicts + 1) % len(VERDICTS)
        self._refill()
        return VERDICTS[self.verdicts][0]

    def _refill(self) -> None:
        self._top = 0
        self.poll()
        if self.cursor is not None and self.order.place(self.cursor) is None:
            self.choose(None)
        self.flush()

    def paint_key(self) -> Hashable:
        return (self._made, self.columns, self.cursor, self._top, tuple(self.view.marks))

    def heading(self) -> list[Part]:
        state, dim = self.view.state, self.look["dim"]
        parts: list[Part] = [(f" · {state.total:,}", dim)]
        if state.verdicts.get("kept"):
            parts.append((f" · {state.verdicts['kept']:,} kept", self.look["good"]))
        if self.verdicts:
            parts.append((f" · only {VERDICTS[self.verdicts][0]} ({len(self.order):,})", self.look["warn"]))
        if self.filter:
            parts.append((f" · /{self.filter} ({len(self.order):,})", self.look["warn"]))
        if self.view.marks:
            parts.append((f" · {self.look.glyph('mark')} {len(self.view.marks)}", self.look["accent"]))
        return parts

    def aside(self) -> list[Part]:
        way = self.look.glyph("up" if self.reverse else "down")
        return [("by ", self.look["dim"]), (self.sort, self.look["title"]), (f" {way}", self.look["dim"])]

    def body(self, width: int, height: int) -> list[Strip]:
        look = self.look
        columns = fitting(self.columns, width, max(3, len(str(self.view.highest))))
        lines = [self._head(columns, width)]
        rows = height - 1
        if not self.order:
            words = "no experiments yet"
            if self.filter or self.verdicts:
                words = f"nothing matches “{self.filter or VERDICTS[self.verdicts][0]}”"
            return [*lines, strip_of([("  " + words, look["dim"])], width, look["text"])]
        self._top = max(0, min(self._top, len(self.order) - rows))
        experiments = self.view.state.experiments
        for number in self.order[self._top : self._top + rows]:
            if number in experiments:  # after a jump back, a recording has fewer than this order
                lines.append(self._row(experiments[number], columns, width))
        return lines

    def _head(self, columns: list[tuple[Column, int]], width: int) -> Strip:
        look = self.look
        parts: list[Part] = [(" ", look["text"])]
        self._heads = []
        at = 1
        for column, cells in columns:
            title = column.title(self.view)
            indent = "  " if column.name == "verdict" else ""
            shown = right(title, cells) + " " if column.numeric else left(indent + title, cells + 1)
            if not column.width:
                shown = " " + left(title, max(0, cells))
            parts.append((shown, look["title_focus"] if column.name == self.sort else look["dim"]))
            self._heads.append((at, at + len(shown), column.name))
            at += len(shown)
        return strip_of(parts, width, look["text"])

    def _row(self, x: Experiment, columns: list[tuple[Column, int]], width: int) -> Strip:
        look, word = self.look, word_of(x, self.view)
        live = is_active(x)  # without a verdict, or being repeated
        sign = x.verdict if x.verdict and x.number != BASELINE else word  # a repeated one keeps the sign of provisional
        role = look["accent"] if live and not x.verdict else look.verdict(sign)
        best = x.number == self.view.state.best and x.metric is not None
        text = look["bright"] if best else look["text"] if (x.verdict == "kept" or live) else look["dim"]
        marked = x.number in self.view.marks
        parts: list[Part] = [(look.glyph("mark") if marked else " ", look["accent"])]
        if not any(column.name == "verdict" for column, _ in columns):
            parts[0] = (look.glyph("mark") if marked else look.glyph("best" if best else sign), role)
        for column, cells in columns:
            words, own = column.text(x, self.view), column.role_of(x, self.view)
            style = role if own == "verdict" else look[own] if own else text
            if column.name == "verdict":
                parts.append((left(f"{look.glyph('best' if best else sign)} {words}", cells + 1), style))
            elif not column.width:
                parts.append((" " + fit(words, max(0, cells)), style))
            else:
                parts.append(((right(words, cells) if column.numeric else left(words, cells)) + " ", style))
        strip = strip_of(parts, width, look["text"])
        return self.under_cursor(strip, width) if x.number == self.cursor else strip

    def choose(self, experiment: int | None) -> None:
        """Put the cursor on an experiment (None: no cursor, the screen follows the newest again)."""
        self.view.selected = experiment  # before the message: the next command is about this one
        place = None if experiment is None else self.order.place(experiment)
        if place is not None:
            self.reveal(place)
        self.post_message(self.Chosen(experiment))
        self.flush()

    def on_click(self, event: events.Click) -> None:
        if event.y == self.framed:
            at = event.x - 2 * self.framed
            name = next((name for start, end, name in self._heads if start <= at < end), None)
            if name is not None:
                self.set_sort(name)
        elif (place := self.place_at(event.y)) is not None:
            self.choose(self.order[place])
            if event.chain == 2 and self.cursor is not None:
                self.post_message(self.Opened(self.cursor))
