"""Earlier experiments as text for a researcher: in one line, by filter, and one in full."""

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

LISTED = 40  # experiments in one list
LINE = 300  # characters of a hypothesis in a list
DIFF = 7_000  # characters of one experiment's diff
RATIONALE = 2_500
TAIL = 2_500  # of a crash
POINTS = 12  # of a curve
ORDERS = ("newest", "oldest", "best")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which experiments, in which order, and how many."""

    verdict: str | None = None
    kind: str | None = None
    text: str = ""
    file: str = ""
    sort: str = ORDERS[0]
    limit: int = LISTED

    def takes(self, x: Experiment) -> bool:
        return (
            (self.verdict is None or x.verdict == self.verdict)
            and (self.kind is None or x.kind == self.kind)
            and self.text.lower() in x.hypothesis.lower()
            and (not self.file or self.file in x.files)
        )

    def words(self) -> str:
        """The filter in one line, such as `kept optimizer "warm" in train.py, best`."""
        parts = [self.verdict or "", self.kind or "", f'"{one_line(self.text, 40)}"' if self.text else ""]
        parts.append(f"in {one_line(self.file, 80)}" if self.file else "")
        return " ".join(part for part in parts if part) + f"{', ' if any(parts) else ''}{self.sort}"


def listed(state: State, chosen: Filter) -> tuple[list[str], int]:
    """The lines of the experiments that `chosen` takes, and how many it takes without its limit."""
    taken = [x for n, x in sorted(state.experiments.items()) if n != BASELINE and x.hypothesis and chosen.takes(x)]
    if chosen.sort == "best":
        key = state.metric.sort_key
        taken.sort(key=lambda x: (key(x.metric), x.number))
    elif chosen.sort == "newest":
        taken.reverse()
    return [line(x) for x in taken[: chosen.limit]], len(taken)


def line(x: Experiment) -> str:
    """One experiment in one line: its verdict, its number, what was expected, its kind and its hypothesis."""
    result = f"{format_metric(x.metric)} ({format_delta(x.delta)})" if x.metric is not None else "no result"
    expected = f", expected {format_delta(x.expected)}" if x.expected is not None else ""
    why = f" — {one_line(x.reason, 140)}" if x.reason and x.metric is None else ""
    head = f"#{x.number} on #{x.parent} {x.verdict or x.phase}: {result}{expected} [{x.kind}] "
    return head + one_line(x.hypothesis, LINE) + why


def told(brief: Brief, number: int) -> str:
    """One experiment in full, bounded part by part. Raises EditError when there is none of that number."""
    x = brief.state.experiments.get(number)
    if x is None or not x.hypothesis:
        last = max((n for n, y in brief.state.experiments.items() if y.hypothesis), default=BASELINE)
        raise EditError(f"there is no experiment {number}", hint=f"give a number from {BASELINE} to {last}")
    parts = [line(x), f"hypothesis: {one_line(x.hypothesis)}"]
    if rationale := brief.rationale_of(number):
        parts.append(f"reasoning: {bounded(rationale, RATIONALE).strip()}")
    if x.reason:
        parts.append(f"verdict: {x.verdict or x.phase}, {one_line(x.reason, 600)}")
    if x.refusals:
        parts.append(f"turned down {plural(x.refusals, 'time')} before it ran")
    parts += [_run(r) for r in x.runs]
    if curve := _curve(brief.curve_of(number)):
        parts.append(f"loss by step, as printed by its last run (believed by nobody): {curve}")
    if diff := brief.diff_of(number):
        parts.append(f"diff against #{x.parent}:\n{bounded(diff, DIFF)}")
    failed = x.verdict == "crashed" or any(r.ended not in (None, "done") for r in x.runs)
    if failed and (tail := brief.log_tail_of(number)):
        parts.append(f"end of its output:\n{bounded(tail, TAIL, end=True)}")
    return "\n\n".join(parts)


def _run(r: Run) -> str:
    steps = f", {plural(r.steps, 'step')}" if r.steps is not None else ""
    result = f"metric {format_metric(r.metric)}" if r.metric is not None else one_line(r.reason, 200) or "no result"
    return f"run {r.run} ({r.kind}, seed {r.seed}) {r.ended or r.phase}: {result}, {format_seconds(r.seconds)}{steps}"


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """At most POINTS of them, evenly spaced, the last one included."""
    if len(points) > POINTS:
        points = [points[round(i * (len(points) - 1) / (POINTS - 1))] for i in range(POINTS)]
    return ", ".join(f"{step:g}: {loss:.4g}" for step, loss in points)
