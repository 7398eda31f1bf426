"""Whether the machine left a run its processors, compared with the runs before it; if not, it is measured again.

What is compared is how many threads of others wanted a processor while it was on its clock. Nothing that the run does
or says is used: one that could choose would be measured again whenever it has bad luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from core.ordered import Order
from core.record.state import BASELINE, Experiment, Run, State

LEAST_WORK = 0.5  # processor seconds that the unchanged code wants on its clock; with less, load changes nothing
MAX_MEASURED_AGAIN = 2  # times that one run is measured again
_FAR = 0.8  # of what the others got; a run that got less is far from them
_USUAL = 0.6  # what a run gets, at least, where nothing is known yet: the machine may be busy with other things
_SIBLINGS = 8  # latest runs that are compared: where the load has changed to stay, it takes four until that is usual


def _compared(x: Experiment) -> list[Run]:
    return [run for run in x.runs if run.metric is not None and run.share]


_LAST_RUN: Order[Experiment] = Order(lambda x: max((run.run for run in _compared(x)), default=None))


def far_words(state: State, experiment: int, share: float | None, tries: Sequence[float]) -> str:
    """In words, that a run with this share of its processors is not comparable with those before it; "" if it is.

    `tries`: shares of the same run when it was measured before. One that gets the same each time counts: its machine is
    so.
    """
    if share is None or len(tries) >= MAX_MEASURED_AGAIN:
        return ""
    table = state.experiments
    if experiment != BASELINE and (BASELINE not in table or not _compared(table[BASELINE])):
        return ""  # the unchanged code hardly needs a processor
    newest = (run for _, n in table.places(_LAST_RUN)[-_SIBLINGS:] for run in _compared(table[n]))
    others = [run.share or 0.0 for run in sorted(newest, key=lambda run: run.run)][-_SIBLINGS:]
    usual = median(others) if others else _USUAL
    if share >= _FAR * usual or (tries and share >= _FAR * max(tries)):
        return ""
    of_others = f", other runs {usual:.0%}" if others else ""
    return f"others left it {share:.0%} of its processors{of_others}: measured again, not counted"
