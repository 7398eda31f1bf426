"""Which words of a changed line changed: the marks inside a diff."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

Spans = tuple[tuple[int, int], ...]  # first and last character of what changed, in order

_TOKENS = re.compile(r"\d[\w.]*(?:[eE][-+]\d+)?|\w+|\s+|[^\w\s]")  # a number is one word: 0.6, 2e-4, 10_000
LEAST_ALIKE = 0.4  # lines with less in common than that are new lines, not changed ones
LONGEST = 400  # characters of a line that are compared
MOST_LINES = 60  # of one side of a change


def changed_words(old: str, new: str) -> tuple[Spans, Spans]:
    """Where `old` and `new` differ, word by word; nothing is marked in lines that have little in common."""
    if len(old) > LONGEST or len(new) > LONGEST or old == new:
        return (), ()
    a, b = _TOKENS.findall(old), _TOKENS.findall(new)
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    blocks = matcher.get_opcodes()
    same = sum(len("".join(a[i1:i2]).strip()) for tag, i1, i2, _, _ in blocks if tag == "equal")
    longest = max(len(old.strip()), len(new.strip()), 1)
    if same / longest < LEAST_ALIKE:
        return (), ()
    starts_a, starts_b = _starts(a), _starts(b)
    before = [(starts_a[i1], starts_a[i2]) for tag, i1, i2, _, _ in blocks if tag != "equal" and i1 < i2]
    after = [(starts_b[j1], starts_b[j2]) for tag, _, _, j1, j2 in blocks if tag != "equal" and j1 < j2]
    return _trimmed(old, before), _trimmed(new, after)


def _starts(tokens: Sequence[str]) -> list[int]:
    out = [0]
    for token in tokens:
        out.append(out[-1] + len(token))
    return out


def _trimmed(text: str, spans: list[tuple[int, int]]) -> Spans:
    """Without the spaces at their ends, which say nothing; a span of spaces alone is none."""
    out = []
    for start, end in spans:
        inside = text[start:end]
        first = start + len(inside) - len(inside.lstrip())
        last = end - len(inside) + len(inside.rstrip())
        if first < last:
            out.append((first, last))
    return tuple(out)


def pairs(removed: Sequence[str], added: Sequence[str]) -> list[tuple[int, int]]:
    """Which removed line became which added one: in order, each with the most like it."""
    if len(removed) == len(added):
        return list(zip(range(len(removed)), range(len(added)), strict=True))
    if max(len(removed), len(added)) > MOST_LINES:
        return []
    out: list[tuple[int, int]] = []
    first = 0
    for i, old in enumerate(removed):
        likeness = [(_alike(old, added[j]), -j) for j in range(first, len(added))]
        best, place = max(likeness, default=(0.0, 0))
        if best >= 0.5:
            out.append((i, -place))
            first = -place + 1
    return out


def _alike(a: str, b: str) -> float:
    """0..1: how many words two lines share."""
    one, other = set(_TOKENS.findall(a[:LONGEST])), set(_TOKENS.findall(b[:LONGEST]))
    one, other = {w for w in one if w.strip()}, {w for w in other if w.strip()}
    return 2 * len(one & other) / max(1, len(one) + len(other))
