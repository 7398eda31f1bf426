"""Earlier experiments as text: one line each by filter, or one in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.record.budget import format_seconds
from core.record.errors import EditError
from core.record.metric import format_delta, format_metric
from core.record.state import BASELINE, Experiment, Run, State
from core.research.protocol import Brief
from core.research.quoting import bounded
from core.text import one_line, plural

MAX_LISTED = 40  # experiments in one list
MAX_HYPOTHESIS_CHARACTERS = 300  # in a list
MAX_DIFF_CHARACTERS = 7_000
MAX_RATIONALE_CHARACTERS = 2_500
MAX_OUTPUT_CHARACTERS = 2_500  # of a crash
MAX_CURVE_POINTS = 12
ORDERS = ("newest", "oldest", "best")


@dataclass(frozen=True, slots=True)
class Filter:
    """Selection of experiments, their order, and how many at most."""

    verdict: str | None = None
    kind: str | None = None
    text: str = ""
    file: str = ""
    sort: str = ORDERS[0]
    limit: int = MAX_LISTED

    def matches(self, x: Experiment) -> bool:
        return (
            (self.verdict is None or x.verdict == self.verdict)
            and (self.kind is None or x.kind == self.kind)
            and self.text.lower() in x.hypothesis.lower()
            and (not self.file or self.file in x.files)
        )

    def summary(self) -> str:
        """The filter in one line, such as `kept optimizer "warm" in train.py, best`."""
        parts = [self.verdict or "", self.kind or "", f'"{one_line(self.text, 40)}"' if self.text else ""]
        parts.append(f"in {one_line(self.file, 80)}" if self.file else "")
        return " ".join(part for part in parts if part) + f"{', ' if any(parts) else ''}{self.sort}"


def listed(state: State, chosen: Filter) -> tuple[list[str], int]:
    """The lines of the experiments that match, and how many match without the limit."""
    taken = [x for n, x in sorted(state.experiments.items()) if n != BASELINE and x.hypothesis and chosen.matches(x)]
    if chosen.sort == "best":
        key = state.metric.sort_key
        taken.sort(key=lambda x: (key(x.metric), x.number))
    elif chosen.sort == "newest":
        taken.reverse()
    return [summary_line(x) for x in taken[: chosen.limit]], len(taken)


def summary_line(x: Experiment) -> str:
    """One experiment in one line: number, verdict, result, expected effect, kind and hypothesis."""
    result = f"{format_metric(x.metric)} ({format_delta(x.delta)})" if x.metric is not None else "no result"
    expected = f", expected {format_delta(x.expected)}" if x.expected is not None else ""
    why = f" — {one_line(x.reason, 140)}" if x.reason and x.metric is None else ""
    head = f"#{x.number} on #{x.parent} {x.verdict or x.phase}: {result}{expected} [{x.kind}] "
    return head + one_line(x.hypothesis, MAX_HYPOTHESIS_CHARACTERS) + why


def in_full(brief: Brief, number: int) -> str:
    """One experiment in full, each part bounded. Raises EditError when there is none with that number."""
    x = brief.state.experiments.get(number)
    if x is None or not x.hypothesis:
        last = max((n for n, y in brief.state.experiments.items() if y.hypothesis), default=BASELINE)
        raise EditError(f"there is no experiment {number}", hint=f"give a number from {BASELINE} to {last}")
    parts = [summary_line(x), f"hypothesis: {one_line(x.hypothesis)}"]
    if rationale := brief.rationale_of(number):
        parts.append(f"reasoning: {bounded(rationale, MAX_RATIONALE_CHARACTERS).strip()}")
    if x.reason:
        parts.append(f"verdict: {x.verdict or x.phase}, {one_line(x.reason, 600)}")
    if x.refusals:
        parts.append(f"refused {plural(x.refusals, 'time')} before it ran")
    parts += [_run(r) for r in x.runs]
    if curve := _curve(brief.curve_of(number)):
        parts.append(f"loss by step, as printed by its last run (not verified): {curve}")
    if diff := brief.diff_of(number):
        parts.append(f"diff against #{x.parent}:\n{bounded(diff, MAX_DIFF_CHARACTERS)}")
    failed = x.verdict == "crashed" or any(r.ended not in (None, "done") for r in x.runs)
    if failed and (tail := brief.log_tail_of(number)):
        parts.append(f"end of its output:\n{bounded(tail, MAX_OUTPUT_CHARACTERS, end=True)}")
    return "\n\n".join(parts)


def _run(r: Run) -> str:
    steps = f", {plural(r.steps, 'step')}" if r.steps is not None else ""
    result = f"metric {format_metric(r.metric)}" if r.metric is not None else one_line(r.reason, 200) or "no result"
    return f"run {r.run} ({r.kind}, seed {r.seed}) {r.ended or r.phase}: {result}, {format_seconds(r.seconds)}{steps}"


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """At most MAX_CURVE_POINTS points, evenly spaced, with the last one."""
    if len(points) > MAX_CURVE_POINTS:
        last, steps = len(points) - 1, MAX_CURVE_POINTS - 1
        points = [points[round(i * last / steps)] for i in range(MAX_CURVE_POINTS)]
    return ", ".join(f"{step:g}: {loss:.4g}" for step, loss in points)
