"""Early stopping: is a run so far behind its parent's loss curve that none like it ends better? (docs/decisions.md)

A curve is what a run printed, and is believed for this question only. All shares are of a run's schedule, 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from core.record.state import COUNTS
from core.stats.noise import from_normal

CELLS = 40  # of a schedule, in each of which a curve has one value
LOOKS = tuple(range(6, 38, 2))  # cells after which a run is looked at: at shares of 0.15, 0.2 … 0.9
SIBLINGS = 4  # finished runs made from the same code, which say how far its curve can be believed
AGREE = 3  # looks in a row that must say the same
MIN_FINISHED = 8  # finished runs with a curve, before any is stopped
MIN_CELLS = 4  # in which both curves have a value, for a look
NEAR = 8.0  # sigmas: runs that ended worse by more tell nothing of those that end well
CHANCE = 1.65  # of a run that ends as the bar says to be stopped at one look: a normal deviate, 0.5%
LARGEST = 1e6  # a loss beyond it is no loss
WRONG = 0.05  # of the audited runs: the share of wrong stops that is borne
DOUBT = 0.1  # probability of the audits so far, if only so many were wrong, below which nothing is stopped

Profile = tuple[float | None, ...]  # a curve's value in each of CELLS; None: it has none there
Behind = tuple[float | None, ...]  # loss above the reference at each of LOOKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run that ended with a number. `worse`: sigmas by which it is worse than its parent; `curves`: of the
    parent, that it is compared with; `since`: share of the schedule from which the two curves can be compared.
    """

    behind: Behind
    worse: float
    curves: int = 1
    since: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """What finished runs say of one look: loss above the reference as a line over the final difference in sigmas, and
    the scatter about it for one curve. `most`: the furthest behind of all that counted.
    """

    level: float
    slope: float
    scatter: float
    n: int
    middle: float  # mean of the final differences
    spread: float  # sum of squares about it
    most: float

    def expected(self, worse: float) -> float:
        """Loss above the reference of a run that ends `worse` sigmas worse."""
        return self.level + self.slope * (worse - self.middle)

    def limit(self, bar: float, curves: int) -> float:
        """Loss above a reference of so many curves, beyond which a run does not end better than `bar` sigmas."""
        apart = (bar - self.middle) ** 2 / self.spread if self.spread else 0.0
        error = self.scatter * math.sqrt(1 + 1 / max(1, curves) + 1 / self.n + apart)
        return max(self.expected(bar) + from_normal(CHANCE, self.n - 2) * error, self.most)


def profile(points: Iterable[tuple[float, float]]) -> Profile:
    """A curve of (share, loss) in the order in which it was printed. Losses that are no numbers, shares outside the
    schedule and points that go backward are left out; a gap is bridged, what lies beyond the last point is not.
    """
    cells: list[list[tuple[float, float]]] = [[] for _ in range(CELLS)]
    last = -1.0
    for share, loss in points:
        if 0 <= share <= 1 and last < share and abs(loss) <= LARGEST:  # no comparison with a NaN holds
            last = share
            cells[min(CELLS - 1, int(share * CELLS))].append((share, loss))
    nodes = [(_mean([x for x, _ in cell]), _middle([y for _, y in cell])) for cell in cells if cell]
    found: list[float | None] = [None] * CELLS
    for (x0, y0), (x1, y1) in pairwise(nodes):
        for k in range(math.ceil(x0 * CELLS - 0.5), math.floor(x1 * CELLS - 0.5) + 1):
            found[k] = y0 + (y1 - y0) * ((k + 0.5) / CELLS - x0) / (x1 - x0)
    if nodes:  # the last point stands for its own cell too
        k = min(CELLS - 1, int(nodes[-1][0] * CELLS))
        found[k] = nodes[-1][1] if found[k] is None else found[k]
    return tuple(found)


def together(profiles: Sequence[Profile]) -> Profile:
    """The mean of several curves of one piece of code, where all of them have a value."""
    columns = zip(*profiles, strict=True) if profiles else [()] * CELLS
    return tuple(
        None if not column or any(y is None for y in column) else _mean([y for y in column if y is not None])
        for column in columns
    )


def behind(one: Profile, reference: Profile) -> Behind:
    """By how much `one` lies above `reference` at each look: over its schedule so far, but for the first sixth. None
    where too little of either is known, or where the newest part is missing.
    """
    apart = [None if a is None or b is None else a - b for a, b in zip(one, reference, strict=True)]
    found: list[float | None] = []
    for end in LOOKS:
        known = [y for y in apart[end // 6 : end] if y is not None]
        newest = any(y is not None for y in apart[end - 2 : end])
        found.append(_middle(known) if len(known) >= MIN_CELLS and newest else None)
    return tuple(found)


def learn(finished: Sequence[Finished]) -> tuple[Margin | None, ...]:
    """The margin of each look; None where too few runs are known to stop any."""
    return tuple(_margin(finished, look, end / CELLS) for look, end in enumerate(LOOKS))


def _margin(finished: Sequence[Finished], look: int, share: float) -> Margin | None:
    near = [
        (one.worse, gap, one.curves)
        for one in finished
        if one.since <= share and one.worse <= NEAR and (gap := one.behind[look]) is not None
    ]
    n = len(near)
    if n < MIN_FINISHED:
        return None
    middle, level = _mean([x for x, _, _ in near]), _mean([y for _, y, _ in near])
    spread = math.fsum((x - middle) ** 2 for x, _, _ in near)
    slope = math.fsum((x - middle) * (y - level) for x, y, _ in near) / spread if spread else 0.0
    slope = max(0.0, slope)
    squares = math.fsum((y - level - slope * (x - middle)) ** 2 / (1 + 1 / max(1, c)) for x, y, c in near)
    most = max((y for x, y, _ in near if x <= -COUNTS), default=-math.inf)
    return Margin(
        level=level, slope=slope, scatter=math.sqrt(squares / (n - 2)), n=n, middle=middle, spread=spread, most=most
    )


def bounded(reference: Profile, first: Profile, gain: float, margins: Sequence[Margin | None]) -> Behind:
    """Loss to add to a reference at each look, so that its curve is no better than its score: it lies no further below
    the curve of the `first` code than a run does that ends `gain` sigmas better. The scores are the harness's own.
    """
    below = behind(reference, first)
    return tuple(
        None if margin is None or gap is None else max(0.0, margin.expected(-gain) - gap)
        for margin, gap in zip(margins, below, strict=True)
    )


def corrected(above: Behind, children: Sequence[Finished], margins: Sequence[Margin | None]) -> Behind:
    """`above`, or by how much `children` that ended, made from the reference's code, lie further above its curve than
    their results explain: what is odd or false in that curve. From SIBLINGS of them on, who know better.
    """
    found: list[float | None] = []
    for look, (end, margin) in enumerate(zip(LOOKS, margins, strict=True)):
        left = [
            gap - margin.expected(one.worse)
            for one in children
            if margin is not None
            and one.since <= end / CELLS
            and one.worse <= NEAR
            and (gap := one.behind[look]) is not None
        ]
        found.append(max(0.0, _middle(left)) if len(left) >= SIBLINGS else above[look])
    return tuple(found)


def stop_at(
    gaps: Behind, margins: Sequence[Margin | None], *, bar: float, curves: int, since: float = 0.0
) -> int | None:
    """The first of LOOKS at which a run is stopped; None: it is not. `bar`: sigmas by which it may end worse and still
    count; `since`: share of the schedule before which its curve says nothing.
    """
    agreed = 0
    for look, (gap, margin) in enumerate(zip(gaps, margins, strict=True)):
        hopeless = gap is not None and margin is not None and gap > margin.limit(bar, curves)
        agreed = agreed + 1 if hopeless and LOOKS[look] / CELLS >= since else 0
        if agreed == AGREE:
            return look
    return None


def believed(audited: int, wrong: int) -> bool:
    """Whether runs may be stopped, after `wrong` of `audited` that were run to their end would have been lost."""
    fewer = math.fsum(math.comb(audited, k) * WRONG**k * (1 - WRONG) ** (audited - k) for k in range(wrong))
    return wrong == 0 or 1 - fewer > DOUBT


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _middle(values: Sequence[float]) -> float:
    """Mean of the middle half: what lies far out, honest or not, has no weight."""
    cut = (len(values) + 1) // 4
    return _mean(sorted(values)[cut : len(values) - cut])
