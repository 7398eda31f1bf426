"""What a researcher is told of its own past, chosen so that it never grows: counts and the few that matter.

Everything follows from the State, so it is the same after a restart and for the next researcher. Older experiments
are reached with the tools `list_experiments` and `read_experiment`.
"""

from __future__ import annotations

import heapq
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from core.record.metric import format_delta
from core.record.proposal import KINDS
from core.record.state import BASELINE, Experiment, State
from core.text import one_line, plural

SHOWN = 10  # experiments in each list
NEAR = 5  # near misses
OPEN = 6  # open ideas
RECENT = 100  # experiments among which near misses and open ideas are looked for
MISSES = 5  # misses of one kind in a row: try another kind
WINDOW = 10  # experiments that are "in a row" although other kinds stand between them
DRY = 12  # experiments in a row without a keep: read, or combine
ALIKE = 0.8  # share of words that two hypotheses have in common, from which they count as nearly the same
UNTRIED = ("abandoned", "skipped", "rejected")  # verdicts that say nothing about the idea
_NOISE_WORDS = frozenset(
    ("a", "an", "and", "as", "at", "be", "but", "by", "can", "does", "for", "from", "help", "helps", "if", "in", "into",
     "is", "it", "its", "of", "on", "or", "should", "so", "than", "that", "the", "then", "this", "to", "we", "which",
     "will", "with", "would")
)  # fmt: skip


def judged(state: State) -> list[Experiment]:
    """Experiments with a hypothesis and a verdict, oldest first, without the baseline."""
    return [x for n, x in sorted(state.experiments.items()) if n != BASELINE and x.verdict is not None and x.hypothesis]


def best(state: State, past: Sequence[Experiment]) -> list[Experiment]:
    """The SHOWN with the best numbers: what was kept first, since a lucky discarded run is no achievement."""
    key = state.metric.sort_key
    numbered = (x for x in past if x.metric is not None)
    return heapq.nsmallest(SHOWN, numbered, key=lambda x: (x.verdict != "kept", key(x.metric), x.number))


def near_misses(state: State, past: Sequence[Experiment]) -> list[Experiment]:
    """Recently discarded with a result better than one sigma below what it was judged against, best gain first."""
    sigma = state.sigma or 0.0
    found = [
        (state.metric.gain(0.0, x.delta), x)
        for x in past[-RECENT:]
        if x.verdict == "discarded" and x.metric is not None and x.delta is not None
    ]
    found = [(gain, x) for gain, x in found if gain > -sigma]
    found.sort(key=lambda pair: (-pair[0], -pair[1].number))
    return [x for _, x in found[:NEAR]]


def open_ideas(past: Sequence[Experiment]) -> list[tuple[int, str]]:
    """(experiment, idea) that were put aside and not tried since, newest first: written down beside a proposal, or
    proposed and never measured.
    """
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
        if len(found) >= OPEN:
            break
    return found[:OPEN]


def digest(state: State, past: Sequence[Experiment]) -> list[str]:
    """A line for each kind of change: tried, kept, best gain, and how many misses since the last keep."""
    by_kind: dict[str, list[Experiment]] = {kind: [] for kind in KINDS}
    for x in past:
        by_kind.setdefault(x.kind, []).append(x)
    best_of = min if state.metric.direction == "min" else max
    lines = []
    for kind, tried in by_kind.items():
        if not tried:
            continue
        kept = sum(x.verdict == "kept" for x in tried)
        deltas = [x.delta for x in tried if x.delta is not None and x.delta - x.delta == 0]  # finite ones
        gain = f", best change {format_delta(best_of(deltas))}" if deltas else ""
        since = next((i for i, x in enumerate(reversed(tried)) if x.verdict == "kept"), len(tried))
        lines.append(f"{kind}: {len(tried)} tried, {kept} kept{gain}, {since} since the last kept")
    return lines


def expectations(state: State, past: Sequence[Experiment], researcher: str) -> str:
    """How `researcher`'s expected effects compare with what came; "" while there is nothing to compare."""
    pairs = [
        (x.expected, x.delta)
        for x in past
        if x.researcher == researcher and x.expected and x.delta is not None and x.metric is not None
    ]
    if not pairs:
        return ""
    right = [expected * came > 0 for expected, came in pairs]
    ratio = statistics.median(came / expected for expected, came in pairs[-RECENT:])
    last = right[-SHOWN:]
    return (
        f"Your forecasts so far: of {plural(len(pairs), 'experiment')} with an expected effect and a result, the sign "
        f"was right in {sum(right)} ({sum(right) / len(right):.0%}; of the last {len(last)} in {sum(last)}). In the "
        f"median {ratio:.2g} times the expected effect came (1 is a true forecast, below 0 the wrong way)."
    )


def advice(past: Sequence[Experiment]) -> list[str]:
    """What the harness tells a researcher that is stuck: to change kind, to read, to combine near misses."""
    tried = [x for x in past if x.verdict not in (*UNTRIED, "provisional")]
    told = []
    dry = next((i for i, x in enumerate(reversed(tried)) if x.verdict == "kept"), len(tried))
    if tried:
        kind = tried[-1].kind
        same = [x for x in tried[-WINDOW:] if x.kind == kind]
        misses = next((i for i, x in enumerate(reversed(same)) if x.verdict == "kept"), len(same))
        if misses >= MISSES:
            others = ", ".join(_least_tried(tried, kind)[:4])
            told.append(
                f"{misses} experiments in a row of the kind {kind} came to nothing. Change the kind: the next one must "
                f"not be {kind}. Least tried so far: {others}."
            )
    if dry >= DRY:
        told.append(
            f"{dry} experiments in a row were not kept. Do something else: look for a method with search_papers and "
            "read_paper, or combine two or more of the near misses listed above into one experiment."
        )
    return told


def _least_tried(tried: Iterable[Experiment], without: str) -> list[str]:
    counts = dict.fromkeys((kind for kind in KINDS if kind not in (without, "other")), 0)
    for x in tried:
        if x.kind in counts:
            counts[x.kind] += 1
    return sorted(counts, key=lambda kind: counts[kind])


# --- hypotheses that say the same ------------------------------------------------------------------


_Essence = tuple[frozenset[str], frozenset[str]]  # words, numbers


@lru_cache(maxsize=4096)
def _essence(text: str) -> _Essence:
    """What a hypothesis changes, as its words (without endings and small words) and its numbers.

    That is what stands before its reasons (a colon, "because", "since"), unless fewer than three words stand there.
    """
    change = _parsed(re.split(r":|\bbecause\b|\bsince\b", text, maxsplit=1, flags=re.IGNORECASE)[0])
    return change if len(change[0]) >= 3 else _parsed(text)


def _parsed(text: str) -> _Essence:
    tokens = re.findall(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?|[^\W\d]\w*", text.lower())
    numbers = frozenset(f"{float(t):g}" for t in tokens if t[0].isdigit())
    words = (re.sub(r"(?:ing|ed|es|e|s)$", "", t) if len(t) > 3 else t for t in tokens if not t[0].isdigit())
    return frozenset(w for w in words if w not in _NOISE_WORDS), numbers


def alike(a: str, b: str) -> bool:
    """Whether two hypotheses say nearly the same: the same numbers, and at least ALIKE of all their words shared.

    The share is Jaccard's: words in both by words in either. Numbers must agree, because a sweep says the same sentence
    with another number each time; of hypotheses with fewer than four words all must agree.
    """
    return _alike(_essence(a), _essence(b))


def _alike(a: _Essence, b: _Essence) -> bool:
    if a[1] != b[1] or not a[0] or not b[0]:
        return False
    common, either = len(a[0] & b[0]), len(a[0] | b[0])
    return common == either or (either > 3 and common >= ALIKE * either)


@dataclass(slots=True)
class Hypotheses:
    """The hypotheses that were tested, for finding one that says nearly the same. Grows with the session's State."""

    _by_numbers: dict[frozenset[str], dict[int, frozenset[str]]] = field(default_factory=dict)
    _known: dict[int, str] = field(default_factory=dict)

    def learn(self, state: State) -> None:
        """Take in what is new in `state`: what ran or is about to. What never ran may be proposed again."""
        for number, x in state.experiments.items():
            if number == BASELINE or not x.commit or x.verdict in UNTRIED or self._known.get(number) == x.hypothesis:
                continue
            self._known[number] = x.hypothesis
            words, numbers = _essence(x.hypothesis)
            self._by_numbers.setdefault(numbers, {})[number] = words

    def nearest(self, hypothesis: str, but: int) -> int | None:
        """The newest experiment, `but` excepted, whose hypothesis is nearly `hypothesis`; None when there is none."""
        words, numbers = _essence(hypothesis)
        near = [
            number
            for number, other in self._by_numbers.get(numbers, {}).items()
            if number != but and _alike((words, numbers), (other, numbers))
        ]
        return max(near, default=None)
