"""The leaderboard's columns: what each says, how wide, in which look, and how it is sorted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.record.budget import format_seconds
from core.record.metric import format_delta, format_metric
from core.record.state import BASELINE, Experiment
from tui.paint.cells import brief
from tui.session_view import SessionView

SortKey = float | str | None
VERDICT_ORDER = ("kept", "provisional", "discarded", "pruned", "crashed", "rejected", "skipped", "abandoned")


@dataclass(frozen=True, slots=True)
class Column:
    """`width` in cells (0: what is left over). `tall`: the largest or newest first when sorted by it.

    `tell` gives the cell's text, `role` the look it is written in ("" for the row's own), `key` the value it is sorted
    by; what has none stands last either way. Higher `worth` stays longer on a narrow screen.
    """

    name: str
    about: str
    width: int
    worth: int
    tell: Callable[[Experiment, SessionView], str]
    key: Callable[[Experiment, SessionView], SortKey]
    role: Callable[[Experiment, SessionView], str] = lambda x, m: ""
    numeric: bool = True
    tall: bool = True

    def title(self, model: SessionView) -> str:
        """What stands above it."""
        return brief(model.state.metric.name, 40) if self.name == "metric" else _TITLES.get(self.name, self.name)


_TITLES = {"number": "#", "change": "Δ", "noise": "±", "cost": "$", "hidden": "hidden"}


def word_of(x: Experiment) -> str:
    """Verdict, or what goes on, in a word."""
    if x.number == BASELINE:
        return "baseline"
    run = x.live_run
    if run:
        return run.phase or "running"
    return x.verdict or x.phase


def _change_role(x: Experiment, model: SessionView) -> str:
    gain = x.delta is not None and model.state.metric.better(x.delta, 0.0)
    return "good" if x.verdict == "kept" else "warn" if gain else "dim"


def _change(x: Experiment, model: SessionView) -> str:
    return "" if x.number == BASELINE else format_delta(x.delta)


def _noise(x: Experiment, model: SessionView) -> str:
    return "" if x.sigma is None or x.metric is None else small(x.sigma)


def small(sigma: float) -> str:
    """A noise: four decimals, or two digits where those would be zeros."""
    return f"{sigma:.4f}" if sigma >= 5e-4 or sigma == 0 else f"{sigma:.1e}".replace("e-0", "e-")


def _good_first(x: Experiment, value: float | None, model: SessionView) -> SortKey:
    """Better first, whichever way the metric goes."""
    return None if value is None or value != value else model.state.metric.sort_key(value)


def _ended(x: Experiment, model: SessionView) -> str:
    return "" if x.ended is None else format_seconds(max(0.0, x.ended - model.state.started))


def _memory(x: Experiment) -> int | None:
    return max((r.peak_memory for r in x.runs if r.peak_memory), default=None)


def _cost(x: Experiment, model: SessionView) -> str:
    return "?" if x.usd_unknown else f"{x.usd:.3f}" if x.usd else ""


def _compact(count: int) -> str:
    return "" if not count else f"{count:,}" if count < 10_000 else f"{count / 1000:,.0f}k"


def _verdict_key(x: Experiment, model: SessionView) -> SortKey:
    return float(VERDICT_ORDER.index(x.verdict)) if x.verdict in VERDICT_ORDER else None


COLUMNS: tuple[Column, ...] = (
    Column("number", "its number", 5, 99, lambda x, m: str(x.number), lambda x, m: x.number, lambda x, m: "dim"),
    Column("verdict", "the verdict, or what goes on now", 13, 60, lambda x, m: word_of(x), _verdict_key,
           lambda x, m: "verdict", numeric=False, tall=False),
    Column("metric", "the metric, pooled over its runs", 8, 98, lambda x, m: format_metric(x.metric),
           lambda x, m: _good_first(x, x.metric, m), tall=False),
    Column("change", "change against what it was judged by", 8, 97, _change,
           lambda x, m: _good_first(x, x.delta if x.number != BASELINE else None, m), _change_role, tall=False),
    Column("noise", "standard error of the metric", 8, 40, _noise, lambda x, m: x.sigma, lambda x, m: "faint",
           tall=False),
    Column("runs", "how many runs it had", 5, 30, lambda x, m: str(len(x.runs) or ""), lambda x, m: len(x.runs),
           lambda x, m: "dim"),
    Column("time", "time on the clock of its runs", 7, 25,
           lambda x, m: format_seconds(x.run_seconds) if x.run_seconds else "", lambda x, m: x.run_seconds,
           lambda x, m: "dim"),
    Column("ended", "when it was judged, from the session's start", 7, 20, _ended, lambda x, m: x.ended,
           lambda x, m: "dim"),
    Column("cost", "dollars for thinking", 7, 24, _cost, lambda x, m: x.usd, lambda x, m: "dim"),
    Column("tokens", "tokens in and out", 8, 18, lambda x, m: _compact(x.input_tokens + x.output_tokens),
           lambda x, m: x.input_tokens + x.output_tokens, lambda x, m: "dim"),
    Column("lines", "change in lines of code", 6, 22, lambda x, m: f"{x.lines:+d}".replace("-", "−") if x.lines else "",
           lambda x, m: x.lines, lambda x, m: "dim", tall=False),
    Column("memory", "peak memory of a run, GiB", 7, 16,
           lambda x, m: f"{b / 2**30:.2f}" if (b := _memory(x)) else "", lambda x, m: _memory(x), lambda x, m: "dim"),
    Column("expected", "what the researcher expected", 9, 21, lambda x, m: format_delta(x.expected) if x.expected
           is not None else "", lambda x, m: _good_first(x, x.expected, m), lambda x, m: "dim", tall=False),
    Column("hidden", "the metric on the hidden slice", 9, 19,
           lambda x, m: format_metric(x.hidden) if x.hidden is not None else "",
           lambda x, m: _good_first(x, x.hidden, m), lambda x, m: "dim", tall=False),
    Column("kind", "what kind of change", 14, 26, lambda x, m: x.kind, lambda x, m: x.kind, lambda x, m: "dim",
           numeric=False, tall=False),
    Column("researcher", "who proposed it", 12, 15, lambda x, m: x.researcher, lambda x, m: x.researcher,
           lambda x, m: "dim", numeric=False, tall=False),
    Column("parent", "what it was built on", 7, 17, lambda x, m: "" if x.number == BASELINE else str(x.parent),
           lambda x, m: x.parent, lambda x, m: "dim"),
    Column("commit", "its commit", 9, 14, lambda x, m: (x.commit or "")[:8], lambda x, m: x.commit,
           lambda x, m: "faint", numeric=False, tall=False),
    Column("hypothesis", "what it tries, and why", 0, 96,
           lambda x, m: "the unchanged code" if x.number == BASELINE else brief(x.hypothesis),
           lambda x, m: x.hypothesis.lower() or None, numeric=False, tall=False),
)  # fmt: skip
NAMES = tuple(column.name for column in COLUMNS)
USUAL = ("number", "verdict", "metric", "change", "noise", "hypothesis")
LEAST_TEXT = 18  # cells that the hypothesis keeps before another column gives way


def named(name: str) -> Column:
    return COLUMNS[NAMES.index(name)]


def fitting(wanted: Sequence[str], width: int, number_width: int) -> list[tuple[Column, int]]:
    """The wanted columns that fit in `width` cells, each with its width; the least worthy give way first."""
    chosen = [column for column in COLUMNS if column.name in wanted]

    def cells(column: Column) -> int:
        return number_width if column.name == "number" else column.width

    while True:
        used = sum(cells(c) + 1 for c in chosen if c.width)
        text = any(not c.width for c in chosen)
        if used + (LEAST_TEXT + 2 if text else 0) <= width or len(chosen) <= 3:
            rest = max(0, width - used - 2)
            return [(c, cells(c) if c.width else rest) for c in chosen]
        chosen.remove(min(chosen, key=lambda c: c.worth))


def order(experiments: Sequence[Experiment], by: str, reverse: bool, model: SessionView) -> list[int]:
    """Their numbers sorted by a column; equals by number, newest first; those without a value last."""
    column = named(by)
    keys = [(column.key(x, model), x.number) for x in experiments]
    without = sorted((number for key, number in keys if key is None), reverse=True)
    with_key = [(key, number) for key, number in keys if key is not None]
    with_key.sort(key=lambda pair: pair[1], reverse=True)
    with_key.sort(key=lambda pair: pair[0], reverse=column.tall != reverse)
    return [number for _, number in with_key] + without
