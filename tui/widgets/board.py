"""The leaderboard: only the rows in view are made, so that ten thousand scroll like ten."""

from __future__ import annotations

from collections.abc import Hashable

from rich.segment import Segment
from textual import events
from textual.message import Message
from textual.strip import Strip

from core.record.metric import format_delta, format_metric
from core.record.state import BASELINE, Experiment
from tui.model import Model
from tui.text import Part, brief, fit, left, parts_width, right, strip_of
from tui.widgets.canvas import Pane

SORTS = ("metric", "newest", "change", "verdict")
_VERDICT_ORDER = {
    w: i
    for i, w in enumerate(
        ("kept", "provisional", "discarded", "pruned", "crashed", "rejected", "skipped", "abandoned", "")
    )
}


class BoardPane(Pane):
    NUMBER = 4
    NAME = "leaderboard"

    class Chosen(Message):
        """A person moved the cursor (or clicked): `experiment` is under it."""

        def __init__(self, experiment: int | None) -> None:
            super().__init__()
            self.experiment = experiment

    class Opened(Message):
        def __init__(self, experiment: int) -> None:
            super().__init__()
            self.experiment = experiment

    def __init__(self, model: Model, *, id: str | None = None) -> None:
        super().__init__(model, id=id)
        self.sort = "metric"
        self.filter = ""
        self.order: list[int] = []
        self.cursor: int | None = None  # an experiment, not a row: sorting anew keeps it
        self._top = 0
        self._made: tuple[int, str, str] = (-1, "", "")

    # -- order --------------------------------------------------------------------------------------------------

    def poll(self) -> None:
        made = (self.model.state.seq, self.sort, self.filter)
        if made == self._made:
            return
        self._made = made
        experiments = self.model.state.experiments
        chosen = [x for x in experiments.values() if self._passes(x)]
        live = [x for x in chosen if self._live(x)]
        ended = [x for x in chosen if not self._live(x)]
        live.sort(key=lambda x: x.number, reverse=True)
        ended.sort(key=lambda x: x.number, reverse=True)
        metric = self.model.state.metric
        if self.sort == "metric":
            ended.sort(key=lambda x: metric.sort_key(x.metric))
        elif self.sort == "change":
            ended.sort(key=lambda x: metric.sort_key(x.delta if x.number != BASELINE else None))
        elif self.sort == "verdict":
            ended.sort(key=lambda x: (_VERDICT_ORDER.get(x.verdict or "", 9), metric.sort_key(x.metric)))
        self.order = [x.number for x in (*live, *ended)]

    def _live(self, x: Experiment) -> bool:
        """Under way: without a verdict, or provisional and being repeated."""
        return x.number in self.model.state.live and x.number != BASELINE

    def _passes(self, x: Experiment) -> bool:
        if not self.filter:
            return True
        text = f"#{x.number} {x.verdict or ''} {self.word(x)} {x.hypothesis} {x.kind} {x.reason}".lower()
        return all(word in text for word in self.filter.lower().split())

    def word(self, x: Experiment) -> str:
        if x.number == BASELINE:
            return "baseline"
        run = x.live_run
        if run:
            return run.phase or "running"
        return x.verdict or x.phase

    def set_sort(self, name: str) -> None:
        self.sort = name
        self._top = 0
        self.poll()
        self.flush()

    def set_filter(self, text: str) -> None:
        self.filter = text
        self._top = 0
        self.poll()
        if self.cursor is not None and self.cursor not in self.order:
            self.choose(None)
        self.flush()

    # -- paint --------------------------------------------------------------------------------------------------

    def tells(self) -> Hashable:
        return self.model.state.seq, self.sort, self.filter, self.cursor, self._top

    def heading(self) -> list[Part]:
        state, dim = self.model.state, self.look["dim"]
        parts: list[Part] = [(f" · {state.total:,}", dim)]
        if state.verdicts.get("kept"):
            parts.append((f" · {state.verdicts['kept']:,} kept", self.look["good"]))
        if self.filter:
            parts.append((f" · /{self.filter} ({len(self.order):,})", self.look["warn"]))
        return parts

    def aside(self) -> list[Part]:
        return [("by ", self.look["dim"]), (self.sort, self.look["title"])]

    def foot(self) -> list[Part]:
        if self.cursor is None or self.cursor not in self.order:
            return []
        place = self.order.index(self.cursor) + 1
        return [(f"{place:,} of {len(self.order):,}", self.look["dim"])]

    def body(self, width: int, height: int) -> list[Strip]:
        look = self.look
        lines = [self._head(width)]
        rows = height - 1
        if not self.order:
            words = f"nothing matches “{self.filter}”" if self.filter else "no experiments yet"
            return [*lines, strip_of([("  " + words, look["dim"])], width, look["text"])]
        self._top = max(0, min(self._top, len(self.order) - rows))
        for number in self.order[self._top : self._top + rows]:
            lines.append(self._row(self.model.state.experiments[number], width))
        return lines

    def _columns(self, width: int) -> tuple[int, int, int, int]:
        """Cells for the number, the verdict's word, each of metric and change, and the noise (0: left out)."""
        number = max(3, len(str(self.model.highest)))
        return number, 11 if width >= 56 else 0, 8, 7 if width >= 70 else 0

    def _head(self, width: int) -> Strip:
        number, word, value, noise = self._columns(width)
        look = self.look
        name = brief(self.model.state.metric.name)
        sorted_by = {"metric": name, "newest": "#", "change": "Δ", "verdict": "verdict"}[self.sort]

        def part(text: str, show: str) -> Part:
            return show, look["title"] if text == sorted_by else look["dim"]

        parts = [part("#", right("#", number) + " ")]
        parts.append(part("verdict", "  " + (left("verdict", word) if word else "")))
        parts += [part(name, right(name, value)), part("Δ", right("Δ", value + 1))]
        if noise:
            parts.append(part("", right("±", noise + 1)))
        return strip_of([*parts, ("  hypothesis", look["dim"])], width, look["text"])

    def _row(self, x: Experiment, width: int) -> Strip:
        number, word_width, value, noise = self._columns(width)
        look, word = self.look, self.word(x)
        live = self._live(x)
        mark = x.verdict if x.verdict and x.number != BASELINE else word  # provisional keeps its sign while repeated
        role = look["accent"] if live and not x.verdict else look.verdict(mark)
        best = x.number == self.model.state.best and x.metric is not None
        text = look["bright"] if best else look["text"] if (x.verdict == "kept" or live) else look["dim"]
        gain = x.delta is not None and self.model.state.metric.better(x.delta, 0.0)
        delta_style = look["good"] if x.verdict == "kept" else look["warn"] if gain else look["dim"]
        sign = look.glyph("best" if best else mark)
        delta = "" if x.number == BASELINE else format_delta(x.delta)
        parts: list[Part] = [(right(str(x.number), number) + " ", look["dim"]), (sign + " ", role)]
        if word_width:
            parts.append((left(word, word_width), role))
        parts += [(right(format_metric(x.metric), value), text), (right(delta, value + 1), delta_style)]
        if noise:
            sigma = "" if x.sigma is None or x.metric is None else f"{x.sigma:.4f}"
            parts.append((right(sigma, noise + 1), look["faint"]))
        hypothesis = brief(x.hypothesis)
        room = width - parts_width(parts) - 2
        strip = strip_of([*parts, ("  " + fit(hypothesis, room), text)], width, look["text"])
        if x.number == self.cursor:
            over = look.overlay("cursor" if self.has_focus else "cursor_idle")
            return Strip(Segment.apply_style(strip._segments, post_style=over), width)
        return strip

    # -- movement -----------------------------------------------------------------------------------------------

    def move(self, rows: int) -> None:
        if not self.order:
            return
        if self.cursor is None or self.cursor not in self.order:
            self.choose(self.order[min(self._top, len(self.order) - 1)])
            return
        place = self.order.index(self.cursor) + rows
        self.choose(self.order[max(0, min(len(self.order) - 1, place))])

    def choose(self, experiment: int | None) -> None:
        """Put the cursor on an experiment (None: nowhere, the screen follows the newest again)."""
        self.cursor = self.model.selected = experiment  # at once: a command that follows is about this one
        if experiment is not None and experiment in self.order:
            place = self.order.index(experiment)
            rows = max(1, self.size.height - 1 - 2 * self.framed)
            self._top = min(self._top, place) if place < self._top + rows else place - rows + 1
        self.post_message(self.Chosen(experiment))
        self.flush()

    def page(self, pages: int) -> None:
        self.move(pages * max(1, self.size.height - 4))

    def home(self) -> None:
        if self.order:
            self.choose(self.order[0])

    def end(self) -> None:
        if self.order:
            self.choose(self.order[-1])

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self._top -= 3
        self.flush()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self._top += 3
        self.flush()

    def on_click(self, event: events.Click) -> None:
        row = event.y - 1 - self.framed
        if row >= 0 and self._top + row < len(self.order):
            self.choose(self.order[self._top + row])
            if event.chain == 2 and self.cursor is not None:
                self.post_message(self.Opened(self.cursor))
