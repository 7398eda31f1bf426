"""History of a session as shown to a researcher: best, near misses, open ideas, counts, and similar hypotheses.

Everything is computed from the State, and its size does not grow with the session.
"""

from __future__ import annotations

import heapq
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

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


def judged(state: State) -> list[Experiment]:
    """Experiments with a hypothesis and a verdict, oldest first, without the baseline."""
    return [x for n, x in sorted(state.experiments.items()) if n != BASELINE and x.verdict is not None and x.hypothesis]


def best(state: State, past: Sequence[Experiment]) -> list[Experiment]:
    """The experiments with the best metric, kept ones first: a discarded one may have been lucky."""
    key = state.metric.sort_key
    numbered = (x for x in past if x.metric is not None)
    return heapq.nsmallest(MAX_LISTED, numbered, key=lambda x: (x.verdict != "kept", key(x.metric), x.number))


def near_misses(state: State, past: Sequence[Experiment]) -> list[Experiment]:
    """Recent discarded experiments that were less than one sigma worse than their reference, best gain first."""
    found = [
        (state.metric.gain(0.0, x.delta), x.number, x)
        for x in past[-RECENT:]
        if x.verdict == "discarded" and x.metric is not None and x.delta is not None
    ]
    found.sort(reverse=True)
    return [x for gain, _, x in found if gain > -(state.sigma or 0.0)][:MAX_NEAR_MISSES]


def open_ideas(past: Sequence[Experiment]) -> list[tuple[int, str]]:
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


def digest(state: State, past: Sequence[Experiment]) -> list[str]:
    """One line for each kind of change: tried, kept, best gain, and misses since the last keep."""
    best_of = min if state.metric.direction == "min" else max
    lines = []
    for kind in dict.fromkeys((*KINDS, *(x.kind for x in past))):
        tried = [x for x in past if x.kind == kind]
        if not tried:
            continue
        kept = sum(x.verdict == "kept" for x in tried)
        deltas = [x.delta for x in tried if x.delta is not None and x.delta - x.delta == 0]  # finite ones
        gain = f", best change {format_delta(best_of(deltas))}" if deltas else ""
        lines.append(f"{kind}: {len(tried)} tried, {kept} kept{gain}, {_since_kept(tried)} since the last kept")
    return lines


def _since_kept(tried: Sequence[Experiment]) -> int:
    """Number of experiments at the end that were not kept."""
    return next((i for i, x in enumerate(reversed(tried)) if x.verdict == "kept"), len(tried))


def expectations(state: State, past: Sequence[Experiment], researcher: str) -> str:
    """`researcher`'s expected effects compared with the measured ones; empty while there are none."""
    measured = (x for x in past if x.researcher == researcher and x.metric is not None)
    pairs = [(x.expected, x.delta) for x in measured if x.expected and x.delta is not None]
    if not pairs:
        return ""
    right = [expected * delta > 0 for expected, delta in pairs]
    ratio = statistics.median(delta / expected for expected, delta in pairs[-RECENT:])
    last = right[-MAX_LISTED:]
    return (
        f"Your forecasts so far: of {plural(len(pairs), 'experiment')} with an expected effect and a result, the sign "
        f"was right in {sum(right)} ({sum(right) / len(right):.0%}; of the last {len(last)} in {sum(last)}). The "
        f"measured effect was in the median {ratio:.2g} times the expected one (1: exact; below 0: the wrong sign)."
    )


def advice(past: Sequence[Experiment]) -> list[str]:
    """Advice to a researcher that is stuck: change the kind, read papers, combine near misses."""
    tried = [x for x in past if x.verdict not in (*UNTRIED, "provisional")]
    advised = []
    without_keep = _since_kept(tried)
    if tried:
        kind = tried[-1].kind
        misses = _since_kept([x for x in tried[-MISSES_WINDOW:] if x.kind == kind])
        if misses >= MAX_MISSES_OF_KIND:
            others = ", ".join(_least_tried(tried, kind)[:4])
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


def _least_tried(tried: Iterable[Experiment], without: str) -> list[str]:
    counts = Counter(x.kind for x in tried)
    return sorted((kind for kind in KINDS if kind not in (without, "other")), key=lambda kind: counts[kind])


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

    _by_numbers: dict[frozenset[str], dict[int, frozenset[str]]] = field(default_factory=dict)
    _known: dict[int, str] = field(default_factory=dict)

    def learn(self, state: State) -> None:
        """Add new experiments of `state` that ran or are about to. An untried hypothesis may be proposed again."""
        for number, x in state.experiments.items():
            if number == BASELINE or not x.commit or x.verdict in UNTRIED or self._known.get(number) == x.hypothesis:
                continue
            self._known[number] = x.hypothesis
            words, numbers = _terms(x.hypothesis)
            self._by_numbers.setdefault(numbers, {})[number] = words

    def nearest(self, hypothesis: str, but: int) -> int | None:
        """The newest experiment except `but` with nearly this hypothesis; None when there is none."""
        words, numbers = _terms(hypothesis)
        known = self._by_numbers.get(numbers, {}).items()
        return max((n for n, other in known if n != but and _alike((words, numbers), (other, numbers))), default=None)
