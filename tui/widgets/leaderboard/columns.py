"""Columns of the leaderboard: text, width, style and sort key of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from core.ordered import Order, Ordered
from core.record.budget import format_seconds
from core.record.metric import Metric, format_delta, format_metric
from core.record.state import BASELINE, Experiment
from tui.paint.cells import brief
from tui.session_view import SessionView
from tui.widgets.leaderboard.rows import InOrder

SortKey = float | str | None
VERDICT_ORDER = ("kept", "provisional", "discarded", "pruned", "crashed", "rejected", "skipped", "abandoned")


@dataclass(frozen=True, slots=True)
class Column:
    """`width` in cells (0: the rest of the row). `largest_first`: the order when sorted by it.

    `text` gives the cell's text, `role` its style ("": the row's, "verdict": the verdict's), `key` its sort key; an
    experiment without a key is last in either order. On a narrow screen the lowest `worth` is left out first.
    """

    name: str
    about: str
    width: int
    worth: int
    text: Callable[[Experiment, SessionView], str]
    key: Callable[[Experiment, Metric], SortKey]
    role: str | Callable[[Experiment, SessionView], str] = ""
    numeric: bool = True
    largest_first: bool = True

    def role_of(self, x: Experiment, view: SessionView) -> str:
        return self.role if isinstance(self.role, str) else self.role(x, view)

    def title(self, view: SessionView) -> str:
        return brief(view.state.metric.name, 40) if self.name == "metric" else _TITLES.get(self.name, self.name)


_TITLES = {"number": "#", "change": "Δ", "noise": "±", "cost": "$"}


def word_of(x: Experiment, view: SessionView) -> str:
    """Verdict of an experiment, else its phase; without an engine nothing goes on."""
    if x.number == BASELINE:
        return "baseline"
    running = x.live_run if view.connection.status != "dead" else None
    return (running.phase or "running") if running else view.phase_of(x)


def _change_role(x: Experiment, view: SessionView) -> str:
    gain = x.delta is not None and view.state.metric.better(x.delta, 0.0)
    return "good" if x.verdict == "kept" else "warn" if gain else "dim"


def small(sigma: float) -> str:
    """A sigma with four decimals, or with two digits where those would be zeros."""
    return f"{sigma:.4f}" if sigma >= 5e-4 or sigma == 0 else f"{sigma:.1e}".replace("e-0", "e-")


def _good_first(value: float | None, metric: Metric) -> SortKey:
    """Sort key that puts the better value first."""
    return None if value is None or value != value else metric.sort_key(value)


def _memory(x: Experiment) -> int | None:
    return max((r.peak_memory for r in x.runs if r.peak_memory), default=None)


def _compact(count: int) -> str:
    return "" if not count else f"{count:,}" if count < 10_000 else f"{count / 1000:,.0f}k"


def _verdict_key(x: Experiment, metric: Metric) -> SortKey:
    return float(VERDICT_ORDER.index(x.verdict)) if x.verdict in VERDICT_ORDER else None


COLUMNS: tuple[Column, ...] = (
    Column("number", "number", 5, 99, lambda x, v: str(x.number), lambda x, m: x.number, "dim"),
    Column("verdict", "verdict, or the present phase", 13, 60, word_of, _verdict_key, "verdict",
           numeric=False, largest_first=False),
    Column("metric", "metric, pooled over its runs", 8, 98, lambda x, v: format_metric(x.metric),
           lambda x, m: _good_first(x.metric, m), largest_first=False),
    Column("change", "change from the result it was judged against", 8, 97,
           lambda x, v: "" if x.number == BASELINE else format_delta(x.delta),
           lambda x, m: _good_first(x.delta if x.number != BASELINE else None, m), _change_role, largest_first=False),
    Column("noise", "standard error of the metric", 8, 40,
           lambda x, v: "" if x.sigma is None or x.metric is None else small(x.sigma) if x.sigma else "?",
           lambda x, m: x.sigma, "faint", largest_first=False),
    Column("runs", "number of runs", 5, 30, lambda x, v: str(len(x.runs) or ""), lambda x, m: len(x.runs), "dim"),
    Column("time", "training time of its runs", 7, 25,
           lambda x, v: format_seconds(x.run_seconds) if x.run_seconds else "", lambda x, m: x.run_seconds, "dim"),
    Column("ended", "time of its verdict, from the session's start", 7, 20,
           lambda x, v: "" if x.ended is None else format_seconds(max(0.0, x.ended - v.state.started)),
           lambda x, m: x.ended, "dim"),
    Column("cost", "dollars for the researcher's model", 7, 24,
           lambda x, v: "?" if x.usd_unknown else f"{x.usd:.3f}" if x.usd else "", lambda x, m: x.usd, "dim"),
    Column("tokens", "tokens in and out", 8, 18, lambda x, v: _compact(x.input_tokens + x.output_tokens),
           lambda x, m: x.input_tokens + x.output_tokens, "dim"),
    Column("lines", "change in lines of code", 6, 22, lambda x, v: f"{x.lines:+d}".replace("-", "−") if x.lines else "",
           lambda x, m: x.lines, "dim", largest_first=False),
    Column("memory", "peak memory of a run, GiB", 7, 16,
           lambda x, v: f"{b / 2**30:.2f}" if (b := _memory(x)) else "", lambda x, m: _memory(x), "dim"),
    Column("expected", "change that the researcher expected", 9, 21,
           lambda x, v: format_delta(x.expected) if x.expected is not None else "",
           lambda x, m: _good_first(x.expected, m), "dim", largest_first=False),
    Column("hidden", "metric on the hidden slice", 9, 19,
           lambda x, v: format_metric(x.hidden) if x.hidden is not None else "",
           lambda x, m: _good_first(x.hidden, m), "dim", largest_first=False),
    Column("kind", "kind of change", 14, 26, lambda x, v: x.kind, lambda x, m: x.kind, "dim",
           numeric=False, largest_first=False),
    Column("researcher", "researcher that proposed it", 12, 15, lambda x, v: x.researcher, lambda x, m: x.researcher,
           "dim", numeric=False, largest_first=False),
    Column("parent", "experiment it builds on", 7, 17, lambda x, v: "" if x.number == BASELINE else str(x.parent),
           lambda x, m: x.parent, "dim"),
    Column("commit", "commit", 9, 14, lambda x, v: (x.commit or "")[:8], lambda x, m: x.commit, "faint",
           numeric=False, largest_first=False),
    Column("hypothesis", "hypothesis", 0, 96,
           lambda x, v: "the unchanged code" if x.number == BASELINE else brief(x.hypothesis),
           lambda x, m: x.hypothesis.lower() or None, numeric=False, largest_first=False),
)  # fmt: skip
NAMES = tuple(column.name for column in COLUMNS)
DEFAULT_NAMES = ("number", "verdict", "metric", "change", "noise", "time", "hypothesis")
MIN_HYPOTHESIS_CELLS = 18  # another column is left out first


def fitting(wanted: Sequence[str], width: int, number_width: int) -> list[tuple[Column, int]]:
    """The wanted columns that fit in `width` cells, each with its width."""
    chosen = [column for column in COLUMNS if column.name in wanted]

    def cells(column: Column) -> int:
        return number_width if column.name == "number" else column.width

    while True:
        used = sum(cells(c) + 1 for c in chosen if c.width)
        text = any(not c.width for c in chosen)
        if used + (MIN_HYPOTHESIS_CELLS + 2 if text else 0) <= width or len(chosen) <= 3:
            rest = max(0, width - used - 2)
            return [(c, cells(c) if c.width else rest) for c in chosen]
        chosen.remove(min(chosen, key=lambda c: c.worth))


def order(experiments: Sequence[Experiment], by: str, reverse: bool, metric: Metric) -> list[int]:
    """Numbers of the experiments sorted by a column; equal ones newest first, those without a key last."""
    column = COLUMNS[NAMES.index(by)]
    keys = [(_key(column, x, metric), x.number) for x in experiments]
    without = sorted((number for key, number in keys if key is None), reverse=True)
    with_key = [(key, number) for key, number in keys if key is not None]
    with_key.sort(key=lambda pair: pair[1], reverse=True)
    with_key.sort(key=lambda pair: pair[0], reverse=column.largest_first != reverse)
    return [number for _, number in with_key] + without


def _key(column: Column, x: Experiment, metric: Metric) -> Any:
    """Sort key of a column; None for a NaN, which has no place."""
    key = column.key(x, metric)
    return key if key == key else None


def is_active(x: Experiment) -> bool:
    """Whether it is in the works: without a verdict, or to be repeated."""
    return x.verdict in (None, "provisional") and x.number != BASELINE


ACTIVE: Order[Experiment] = Order(lambda x: 0 if is_active(x) else None)


def ranking(table: Ordered[Experiment], by: str, reverse: bool, metric: Metric) -> InOrder:
    """All experiments as `order` has them, those in the works first: the table keeps them so with every change."""
    column = COLUMNS[NAMES.index(by)]
    falls = column.largest_first != reverse
    with_key, without = _orders(by, metric, falls)
    return InOrder(table, ((ACTIVE, True), (with_key, falls), (without, True)))


@cache
def _orders(by: str, metric: Metric, falls: bool) -> tuple[Order[Experiment], Order[Experiment]]:
    """Orders of the ended experiments by a column, to be read from the end where it `falls`: those with a key, and
    those without one.
    """
    column = COLUMNS[NAMES.index(by)]

    def with_key(x: Experiment) -> Any:
        key = None if is_active(x) else _key(column, x, metric)
        return key if key is None or falls else (key, -x.number)  # equal ones newest first, either way

    return Order(with_key), Order(lambda x: 0 if not is_active(x) and _key(column, x, metric) is None else None)
