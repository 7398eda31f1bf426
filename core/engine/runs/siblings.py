"""Whether a run got its part of the processors, compared with the runs before it; one that did not is measured again.

What is compared is counted by the kernel: the part of the processor time asked for that a run got on its clock. A
run's own words, such as its steps, are not used, and a run that waits for data or ends early asks for less.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from core.record.state import State

MAX_MEASURED_AGAIN = 2  # times that one run is measured again
_FAR = 0.8  # of what the others got; a run that got less is far from them
_USUAL = 0.6  # what a run gets, at least, where nothing is known yet: the machine may be busy with other things
_SIBLINGS = 20  # latest runs that are compared


def far_words(state: State, share: float | None, tries: Sequence[float]) -> str:
    """In words, that a run with this share of its processors is not comparable with those before it; "" if it is.

    `tries`: shares of the same run when it was measured before. One that gets the same each time counts: its code or
    its machine is so.
    """
    if share is None or len(tries) >= MAX_MEASURED_AGAIN:
        return ""
    known = [run.share for x in state.experiments.values() for run in x.runs if run.metric is not None]
    others = [known_share for known_share in known if known_share is not None][-_SIBLINGS:]
    usual = median(others) if others else _USUAL
    if share >= _FAR * usual or (tries and share >= _FAR * max(tries)):
        return ""
    of_others = f", other runs {usual:.0%}" if others else ""
    return f"it got {share:.0%} of the processor time that it asked for{of_others}: measured again, not counted"
