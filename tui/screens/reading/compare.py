"""Two experiments side by side: facts, runs, curves, and the difference of their code"""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import ClassVar

from rich.style import Style

from core.record.budget import format_seconds
from core.record.metric import format_delta, format_metric
from core.record.state import BASELINE, Experiment, Run, who
from core.stats.silence import gain_word
from core.views import clean
from tui.paint.canvas import Pane
from tui.paint.cells import Part, brief, fit, left, right, wrap
from tui.screens.reading.reader import ReadingScreen
from tui.session_view import SessionView
from tui.widgets.diff.diff_pane import DiffPane
from tui.widgets.page import Lines, Page
from tui.widgets.run.loss_curves import Curves
from tui.widgets.run.loss_pane import LossPane, Picked

LABEL = 13
MAX_FACT_LINES = 6


class CompareScreen(ReadingScreen):
    PLACE: ClassVar[str] = "compare"
    TABS = ("side by side", "curves", "diff")

    def __init__(self, view: SessionView, one: int, other: int) -> None:
        """`one` is compared with `other`: added lines of the diff are those of `one`."""
        super().__init__(view)
        self.one, self.other = one, other
        self.curves = Curves(view.paths)

    @property
    def page(self) -> int | None:
        return self.one

    def make_panes(self) -> list[Pane]:
        view = self.view
        self.losses = LossPane(view, self.curves, self._picked)
        self.diff = DiffPane(view, experiment=self.one, against=self.other)
        self.diff.highlights = True
        table = Page(view, f"{who(self.one)} and {who(self.other)}", self._table, of=lambda: view.state.seq)
        return [table, self.losses, self.diff]

    def _picked(self) -> Picked:
        run = self._run(self.one)
        others: list[tuple[str, Run]] = []
        base, other = self.view.finished_run(BASELINE), self._run(self.other)
        if base is not None and BASELINE not in (self.one, self.other):
            others.append(("baseline", base))
        if other is not None:
            others.append(("baseline" if self.other == BASELINE else "other", other))
        return run, others

    def _run(self, number: int) -> Run | None:
        x = self.view.experiment(number)
        return (self.view.finished_run(number) or (x.runs[-1] if x.runs else None)) if x else None

    def follow_files(self) -> None:
        self.curves.poll(self.losses.wanted())

    # -- the table ----------------------------------------------------------------------------------------------

    def _table(self, width: int) -> Lines:
        look = self.view.look
        a, b = self.view.experiment(self.one), self.view.experiment(self.other)
        if a is None or b is None:
            return [[("one of the experiments does not exist", look["warn"])]]
        cells = max(10, (width - LABEL - 3) // 2)
        out: Lines = []
        for (name, one), (_, two) in zip(self._facts(a), self._facts(b), strict=True):
            if one or two:
                same = one == two and name != "experiment"
                out += _beside(name, one, two, cells, look["dim"], look["dim" if same else "text"])
        out += [[], [(left("difference", LABEL), look["dim"]), *self._difference(a, b)], []]
        head: Part = (_RUN_HEAD, look["faint"])
        gap = " " * max(3, cells + 3 - len(_RUN_HEAD))
        out.append([(left("runs", LABEL), look["dim"]), head, (gap, look["text"]), head])
        for one, two in zip_longest(map(self._run_line, a.runs), map(self._run_line, b.runs), fillvalue=""):
            out.append([(" " * LABEL + left(one, cells) + "   " + fit(two, cells), look["text"])])
        return out

    def _run_line(self, r: Run) -> str:
        numbers = f"{r.seed:>8}{format_seconds(r.seconds):>8}{right(format_metric(r.metric), 9)}"
        return f"{r.kind:<10}{numbers}  {self.view.word_of_run(r)}"

    def _facts(self, x: Experiment) -> list[tuple[str, str]]:
        metric = self.view.state.metric
        word = "baseline" if x.number == BASELINE else self.view.phase_of(x)
        sigma = f" ± {format_metric(x.sigma)}" if x.sigma is not None and x.metric is not None else ""
        gain = "" if x.delta is None or x.number == BASELINE else f"{format_delta(x.delta)} vs {who(x.parent)}"
        cost = "unknown" if x.usd_unknown else f"${x.usd:.4f}" if x.usd else ""
        certified = f" · {x.certified}" if x.certified else ""
        return [
            ("experiment", f"{who(x.number)}  {self.view.look.glyph(word)} {word}{certified}"),
            (brief(metric.name, 12), "" if x.metric is None else format_metric(x.metric) + sigma),
            ("change", gain),
            ("expected", "" if x.expected is None else format_delta(x.expected)),
            ("hidden", "" if x.hidden is None else format_metric(x.hidden)),
            ("hypothesis", "the unchanged code" if x.number == BASELINE else x.hypothesis),
            ("reason", x.reason),
            ("kind", x.kind if x.number != BASELINE else ""),
            ("researcher", x.researcher + (f" · {x.model}" if x.model else "")),
            ("parent", "" if x.number == BASELINE else who(x.parent)),
            ("files", f"{', '.join(x.files)}  +{x.added} −{x.removed}" if x.files else ""),
            ("commit", (x.commit or "")[:10]),
            ("time", f"{format_seconds(x.run_seconds)} in {len(x.runs)} run{'s' * (len(x.runs) != 1)}"),
            ("thinking", format_seconds(x.thinking_seconds) if x.thinking_seconds else ""),
            ("cost", cost),
        ]

    def _difference(self, a: Experiment, b: Experiment) -> list[Part]:
        """Difference of the metrics, in the metric's unit and in sigmas of a difference of two means."""
        look, metric = self.view.look, self.view.state.metric
        if a.metric is None or b.metric is None:
            return [("one of the experiments has no metric", look["dim"])]
        gain = metric.gain(b.metric, a.metric)
        words = f"{who(a.number)} is {format_metric(abs(gain))} {gain_word(self.view.state, gain)}" if gain else "none"
        parts: list[Part] = [(words, look["good" if gain > 0 else "warn" if gain < 0 else "text"])]
        if a.sigma and b.sigma:
            parts.append((f"   {abs(gain) / math.hypot(a.sigma, b.sigma):.1f}σ of the difference", look["dim"]))
        return parts

    def swap(self) -> None:
        self.app.switch_screen(CompareScreen(self.view, self.other, self.one))


_RUN_HEAD = f"{'kind':<10}{'seed':>8}{'clock':>8}{'score':>9}  ended"


def _beside(name: str, one: str, other: str, cells: int, dim: Style, style: Style) -> Lines:
    """One fact of both experiments, wrapped in two columns."""
    first, second = (wrap(clean(text).replace("\n", " "), cells)[:MAX_FACT_LINES] for text in (one, other))
    rows = zip_longest([name], first, second, fillvalue="")
    return [[(left(label, LABEL), dim), (left(a, cells) + "   " + fit(b, cells), style)] for label, a, b in rows]
