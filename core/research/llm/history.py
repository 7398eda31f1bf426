"""History of a session as shown to a researcher: best, near misses, open ideas, counts, and similar hypotheses.

Everything is computed from the State. Neither its size nor its time grows with the session: what it counts is read from
orders of the experiments that are kept with every change (`core.ordered`).
"""

from __future__ import annotations

import math
import re
import statistics
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, overload

from core.ordered import Mark, Order, Ordered, Place, starting
from core.record.metric import format_delta
from core.record.proposal import KINDS
from core.record.state import BASELINE, Experiment, State
from core.text import one_line, plural

MAX_LISTED = 10  # experiments in each list
MAX_NEAR_MISSES = 5
MAX_OPEN_IDEAS = 6
RECENT = 100  # experiments that near misses, open ideas and forecasts are taken from
MAX_MISSES_OF_KIND = 5  # in a row, before another kind is advised
MISSES_WINDOW = 10  # experiments among which they count as in a row, with other kinds between them
MAX_WITHOUT_KEEP = 12  # experiments in a row, before reading or combining is advised
MIN_SHARED_WORDS = 0.8  # share of all words, from which two hypotheses count as nearly the same
UNTRIED = ("abandoned", "skipped", "rejected")  # verdicts that do not test the idea
_STOP_WORDS = frozenset(
    ("a", "an", "and", "as", "at", "be", "but", "by", "can", "does", "for", "from", "help", "helps", "if", "in", "into",
     "is", "it", "its", "of", "on", "or", "should", "so", "than", "that", "the", "then", "this", "to", "we", "which",
     "will", "with", "would")
)  # fmt: skip


def _told(key: Callable[[Experiment], Any]) -> Order[Experiment]:
    """An order of the experiments with a hypothesis and a verdict, without the baseline."""
    return Order(lambda x: key(x) if x.number != BASELINE and x.verdict is not None and x.hypothesis else None)


def _rank(x: Experiment, sign: int) -> tuple[bool, float] | None:
    """Kept ones first, then by the metric; a result that is not finite comes last."""
    if x.metric is None:
        return None
    return x.verdict != "kept", sign * x.metric if math.isfinite(x.metric) else math.inf


def _right(x: Experiment) -> bool | None:
    """Whether the sign of the expected effect was right; None without a forecast or a result."""
    return x.expected * x.delta > 0 if x.metric is not None and x.expected and x.delta is not None else None


JUDGED = _told(lambda x: ())
BEST: Mapping[str, Order[Experiment]] = {"min": _told(lambda x: _rank(x, 1)), "max": _told(lambda x: _rank(x, -1))}
OF_KIND = _told(lambda x: (x.kind,))
KEPT_OF_KIND = _told(lambda x: (x.kind,) if x.verdict == "kept" else None)
CHANGES_OF_KIND = _told(lambda x: (x.kind, x.delta) if x.delta is not None and math.isfinite(x.delta) else None)
TESTED = _told(lambda x: () if x.verdict not in (*UNTRIED, "provisional") else None)
TESTED_OF_KIND = _told(lambda x: (x.kind,) if x.verdict not in (*UNTRIED, "provisional") else None)
KEPT_OF_TESTED = _told(lambda x: () if x.verdict == "kept" else None)
FORECASTS = _told(lambda x: (x.researcher,) if _right(x) is not None else None)
RIGHT_FORECASTS = _told(lambda x: (x.researcher,) if _right(x) else None)


class Past(Sequence[Experiment]):
    """The experiments with a hypothesis and a verdict, oldest first, without the baseline."""

    def __init__(self, experiments: Ordered[Experiment]) -> None:
        self.experiments = experiments
        self._places = experiments.places(JUDGED)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> Experiment: ...
    @overload
    def __getitem__(self, at: slice) -> list[Experiment]: ...
    def __getitem__(self, at: int | slice) -> Experiment | list[Experiment]:
        if isinstance(at, slice):
            return self.of(self._places[at])
        return self.experiments[self._places[at][1]]

    def of(self, places: Sequence[Place]) -> list[Experiment]:
        return [self.experiments[number] for _, number in places]

    def part(self, order: Order[Experiment], *start: Any) -> list[Place]:
        """Of an order: the places whose keys begin with `start`."""
        places = self.experiments.places(order)
        return places[starting(places, *start)]

    def count(self, order: Order[Experiment], *start: Any) -> int:
        part = starting(self.experiments.places(order), *start)
        return int(part.stop - part.start)

    def last(self, order: Order[Experiment], many: int, *start: Any) -> list[Experiment]:
        """The `many` newest of those whose keys are `start`, oldest first."""
        places, part = self.experiments.places(order), starting(self.experiments.places(order), *start)
        return self.of(places[max(part.start, part.stop - many) : part.stop])

    def since_kept(self, order: Order[Experiment], kept: Order[Experiment], *start: Any) -> int:
        """How many of an order's experiments are newer than the last kept one among them."""
        last = self.last(kept, 1, *start)
        places, part = self.experiments.places(order), starting(self.experiments.places(order), *start)
        return int(part.stop - bisect_right(places, (start, last[0].number))) if last else int(part.stop - part.start)


def judged(state: State) -> Past:
    """Experiments with a hypothesis and a verdict, oldest first, without the baseline."""
    return Past(state.experiments)


def best(state: State, past: Past) -> list[Experiment]:
    """The experiments with the best metric, kept ones first: a discarded one may have been lucky."""
    return past.of(past.experiments.places(BEST[state.metric.direction])[:MAX_LISTED])


def near_misses(state: State, past: Past) -> list[Experiment]:
    """Recent discarded experiments that were less than one sigma worse than their reference, best gain first."""
    found = [
        (state.metric.gain(0.0, x.delta), x.number, x)
        for x in past[-RECENT:]
        if x.verdict == "discarded" and x.metric is not None and x.delta is not None
    ]
    found.sort(reverse=True)
    return [x for gain, _, x in found if gain > -(state.sigma or 0.0)][:MAX_NEAR_MISSES]


def open_ideas(past: Past) -> list[tuple[int, str]]:
    """(experiment, idea) not tried since, newest first: noted beside a proposal, or proposed and never measured."""
    recent = past[-RECENT:]
    found: list[tuple[int, str]] = []
    for at in range(len(recent) - 1, -1, -1):
        x = recent[at]
        noted = x.extra.get("ideas")
        ideas = [one_line(str(idea), 200) for idea in noted] if isinstance(noted, (list, tuple)) else []
        if x.verdict == "abandoned" and x.metric is None:
            ideas.append(one_line(x.hypothesis, 200))
        later = [y.hypothesis for y in recent[at + 1 :] if y.verdict not in UNTRIED]
        known = [idea for _, idea in found]
        found += [(x.number, i) for i in ideas if i and not any(alike(i, other) for other in (*later, *known))]
        if len(found) >= MAX_OPEN_IDEAS:
            break
    return found[:MAX_OPEN_IDEAS]


def digest(state: State, past: Past) -> list[str]:
    """One line for each kind of change: tried, kept, best gain, and misses since the last keep."""
    lines = []
    for kind in dict.fromkeys((*KINDS, *_other_kinds(past))):
        tried = past.count(OF_KIND, kind)
        if not tried:
            continue
        changes = past.experiments.places(CHANGES_OF_KIND)
        part = starting(changes, kind)
        gain = ""
        if part.start < part.stop:
            first = part.start if state.metric.direction == "min" else part.stop - 1
            gain = f", best change {format_delta(changes[first][0][1])}"
        kept, missed = past.count(KEPT_OF_KIND, kind), past.since_kept(OF_KIND, KEPT_OF_KIND, kind)
        lines.append(f"{kind}: {tried} tried, {kept} kept{gain}, {missed} since the last kept")
    return lines


def _other_kinds(past: Past) -> list[str]:
    """The kinds that are not in KINDS, in the order in which they came."""
    found: list[tuple[int, str]] = []
    places, at = past.experiments.places(OF_KIND), 0
    while at < len(places):
        (kind,), number = places[at]
        if kind not in KINDS:
            found.append((number, kind))
        at = starting(places, kind).stop
    return [kind for _, kind in sorted(found)]


def _since_kept(tried: Sequence[Experiment]) -> int:
    """Number of experiments at the end that were not kept."""
    return next((i for i, x in enumerate(reversed(tried)) if x.verdict == "kept"), len(tried))


def expectations(state: State, past: Past, researcher: str) -> str:
    """`researcher`'s expected effects compared with the measured ones; empty while there are none."""
    count, right = past.count(FORECASTS, researcher), past.count(RIGHT_FORECASTS, researcher)
    if not count:
        return ""
    newest = past.last(FORECASTS, RECENT, researcher)
    pairs = [(x.expected, x.delta) for x in newest if x.expected and x.delta is not None]
    ratio = statistics.median(delta / expected for expected, delta in pairs)
    last = [bool(_right(x)) for x in newest[-MAX_LISTED:]]
    return (
        f"Your forecasts so far: of {plural(count, 'experiment')} with an expected effect and a result, the sign "
        f"was right in {right} ({right / count:.0%}; of the last {len(last)} in {sum(last)}). The "
        f"measured effect was in the median {ratio:.2g} times the expected one (1: exact; below 0: the wrong sign)."
    )


def advice(past: Past) -> list[str]:
    """Advice to a researcher that is stuck: change the kind, read papers, combine near misses."""
    tried = past.last(TESTED, MISSES_WINDOW)
    advised = []
    without_keep = past.since_kept(TESTED, KEPT_OF_TESTED)
    if tried:
        kind = tried[-1].kind
        misses = _since_kept([x for x in tried if x.kind == kind])
        if misses >= MAX_MISSES_OF_KIND:
            others = ", ".join(_least_tried(past, kind)[:4])
            advised.append(
                f"{misses} experiments in a row of the kind {kind} were not kept. Change the kind: the next one must "
                f"not be {kind}. Least tried so far: {others}."
            )
    if without_keep >= MAX_WITHOUT_KEEP:
        advised.append(
            f"{without_keep} experiments in a row were not kept. Do something else: look for a method with "
            "search_papers and read_paper, or combine two or more of the near misses listed above into one experiment."
        )
    return advised


def _least_tried(past: Past, without: str) -> list[str]:
    counts = {kind: past.count(TESTED_OF_KIND, kind) for kind in KINDS if kind not in (without, "other")}
    return sorted(counts, key=counts.__getitem__)


# --- similar hypotheses ----------------------------------------------------------------------------

_Terms = tuple[frozenset[str], frozenset[str]]  # words, numbers


@lru_cache(maxsize=4096)
def _terms(text: str) -> _Terms:
    """Words (without endings and stop words) and numbers of the change that a hypothesis describes: the text before the
    reasons (a colon, "because", "since"), unless that has fewer than three words.
    """
    change = _parsed(re.split(r":|\bbecause\b|\bsince\b", text, maxsplit=1, flags=re.IGNORECASE)[0])
    return change if len(change[0]) >= 3 else _parsed(text)


def _parsed(text: str) -> _Terms:
    tokens = re.findall(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?|[^\W\d]\w*", text.lower())
    numbers = frozenset(f"{float(t):g}" for t in tokens if t[0].isdigit())
    words = (re.sub(r"(?:ing|ed|es|e|s)$", "", t) if len(t) > 3 else t for t in tokens if not t[0].isdigit())
    return frozenset(w for w in words if w not in _STOP_WORDS), numbers


def alike(a: str, b: str) -> bool:
    """Whether two hypotheses are nearly the same: a Jaccard index of words >= MIN_SHARED_WORDS (1 for fewer than four
    words), and equal numbers, because a sweep repeats a sentence with another number each time.
    """
    return _alike(_terms(a), _terms(b))


def _alike(a: _Terms, b: _Terms) -> bool:
    if a[1] != b[1] or not a[0] or not b[0]:
        return False
    common, either = len(a[0] & b[0]), len(a[0] | b[0])
    return common == either or (either > 3 and common >= MIN_SHARED_WORDS * either)


@dataclass(slots=True)
class Hypotheses:
    """Index of tested hypotheses, to find one that is nearly the same. It follows the session's State."""

    _with: dict[tuple[frozenset[str], str], dict[frozenset[str], list[int]]] = field(default_factory=dict)
    _known: dict[int, str] = field(default_factory=dict)
    _mark: Mark | None = None

    def learn(self, state: State) -> None:
        """Add new experiments of `state` that ran or are about to. An untried hypothesis may be proposed again."""
        for number in state.experiments.since(self._mark):
            x = state.experiments[number]
            if number == BASELINE or not x.commit or x.verdict in UNTRIED or self._known.get(number) == x.hypothesis:
                continue
            self._known[number] = x.hypothesis
            words, numbers = _terms(x.hypothesis)
            for word in words:
                self._with.setdefault((numbers, word), {}).setdefault(words, []).append(number)
        self._mark = state.experiments.mark

    def nearest(self, hypothesis: str, but: int) -> int | None:
        """The newest experiment except `but` with nearly this hypothesis; None when there is none."""
        words, numbers = _terms(hypothesis)
        found = [self._with.get((numbers, word), {}) for word in words]
        # Two that share so many words share one of these few, whichever they are: the rarest are looked at.
        few = len(words) - math.ceil(MIN_SHARED_WORDS * len(words)) + 1
        near = {
            tested: where
            for texts in islice(sorted(found, key=len), few)
            for tested, where in texts.items()
            if _alike((words, numbers), (tested, numbers))
        }
        return max((n for where in near.values() for n in where if n != but), default=None)
