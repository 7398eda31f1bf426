"""Changed words of changed lines, for the marks inside a diff."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import accumulate

Spans = tuple[tuple[int, int], ...]  # first character of a changed part and the one after it, in order

_TOKENS = re.compile(r"\d[\w.]*(?:[eE][-+]\d+)?|\w+|\s+|[^\w\s]")  # a number is one word: 0.6, 2e-4, 10_000
MIN_COMMON_SHARE = 0.4  # of a line's characters; with less in common no words are marked
MIN_SIMILARITY = 0.5  # of a removed line and the added line that replaces it
MAX_LINE_CHARACTERS = 400  # that are compared
MAX_SIDE_LINES = 60  # of one side of a change


def changed_words(old: str, new: str) -> tuple[Spans, Spans]:
    """Spans of the words in which `old` and `new` differ; none in lines that have little in common."""
    if len(old) > MAX_LINE_CHARACTERS or len(new) > MAX_LINE_CHARACTERS or old == new:
        return (), ()
    a, b = _TOKENS.findall(old), _TOKENS.findall(new)
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    blocks = matcher.get_opcodes()
    same = sum(len("".join(a[i1:i2]).strip()) for tag, i1, i2, _, _ in blocks if tag == "equal")
    longest = max(len(old.strip()), len(new.strip()), 1)
    if same / longest < MIN_COMMON_SHARE:
        return (), ()
    starts_a, starts_b = ([*accumulate(map(len, tokens), initial=0)] for tokens in (a, b))
    before = [(starts_a[i1], starts_a[i2]) for tag, i1, i2, _, _ in blocks if tag != "equal" and i1 < i2]
    after = [(starts_b[j1], starts_b[j2]) for tag, _, _, j1, j2 in blocks if tag != "equal" and j1 < j2]
    return _trimmed(old, before), _trimmed(new, after)


def _trimmed(text: str, spans: list[tuple[int, int]]) -> Spans:
    """The spans without spaces at their ends; a span of spaces alone is left out."""
    out = []
    for start, end in spans:
        inside = text[start:end]
        first = start + len(inside) - len(inside.lstrip())
        last = end - len(inside) + len(inside.rstrip())
        if first < last:
            out.append((first, last))
    return tuple(out)


def pairs(removed: Sequence[str], added: Sequence[str]) -> list[tuple[int, int]]:
    """Indices of the removed lines and of the added lines that replace them, by similarity, in order."""
    if len(removed) == len(added):
        return [(i, i) for i in range(len(added))]
    if max(len(removed), len(added)) > MAX_SIDE_LINES:
        return []
    out: list[tuple[int, int]] = []
    first = 0
    for i, old in enumerate(removed):
        candidates = [(_similarity(old, added[j]), -j) for j in range(first, len(added))]
        best, place = max(candidates, default=(0.0, 0))
        if best >= MIN_SIMILARITY:
            out.append((i, -place))
            first = -place + 1
    return out


def _similarity(a: str, b: str) -> float:
    """Share of the words that two lines have in common, 0..1 (Dice coefficient)."""
    one, other = ({w for w in _TOKENS.findall(line[:MAX_LINE_CHARACTERS]) if w.strip()} for line in (a, b))
    return 2 * len(one & other) / max(1, len(one) + len(other))
