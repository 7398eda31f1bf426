"""Matching of search text in a file: exact, up to trailing blanks, or up to indentation

Language models copy code almost exactly, but lose trailing whitespace or a level of indentation. Each step is tried
only when the one before it found nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_SHOWN_LINES = 24  # of a file, in one message to a researcher
MAX_SHOWN_CHARACTERS = 200  # of such a line
MAX_COMPARED_LINES = 20_000  # of a file, when looking for the nearest lines
MAX_PLACES = 50  # that are counted
MAX_COMPARISONS = 1_000_000  # of lines in one search; beyond, the text counts as not found

# The indentation to (add, drop) when the lines of the file are the wanted ones, else None.
_Comparison = Callable[[Sequence[str], Sequence[str]], tuple[str, str] | None]


@dataclass(frozen=True, slots=True)
class Place:
    """Characters `start` to `end` of a text, and how the lines of a replacement are indented there."""

    start: int
    end: int
    add: str = ""  # before every line that is not blank
    drop: str = ""  # removed from every line that is not blank


def lines_of(text: str) -> list[str]:
    """Lines without their newlines, as git counts them (`\\r` stays)."""
    return text.split("\n")


def places(text: str, search: str) -> list[Place]:
    """Every place of `search`, found by the strictest step that finds one."""
    exact = _exact(text, search)
    if exact or not search.strip():
        return exact
    return _by_lines(text, search, _same_line_ends) or _by_lines(text, search, _same_but_indent)


def _exact(text: str, search: str) -> list[Place]:
    found: list[Place] = []
    at = text.find(search)
    while at >= 0 and len(found) < MAX_PLACES:
        found.append(Place(at, at + len(search)))
        at = text.find(search, at + 1)  # overlapping ones too
    return found


def _by_lines(text: str, search: str, same: _Comparison) -> list[Place]:
    wanted = [line.rstrip() for line in lines_of(search)]
    while wanted and not wanted[0]:
        wanted.pop(0)
    while wanted and not wanted[-1]:
        wanted.pop()
    lines = lines_of(text)
    trimmed = [line.rstrip() for line in lines]
    left, count = MAX_COMPARISONS, len(wanted)
    begin, end = wanted[0].lstrip(), wanted[-1].lstrip()
    found: list[tuple[int, tuple[str, str]]] = []
    for first in range(len(lines) - count + 1):
        if trimmed[first].lstrip() != begin or trimmed[first + count - 1].lstrip() != end:
            continue
        left -= count
        if left < 0:
            return []
        shift = same(trimmed[first : first + count], wanted)
        if shift is not None and len(found) < MAX_PLACES:
            found.append((first, shift))
    return [_place(lines, first, first + count - 1, shift) for first, shift in found]


def _place(lines: Sequence[str], first: int, last: int, shift: tuple[str, str]) -> Place:
    """The place of lines `first` to `last`, without the end of the last line."""
    start = sum(len(line) + 1 for line in lines[:first])
    end = start + sum(len(line) + 1 for line in lines[first:last]) + len(lines[last].removesuffix("\r"))
    return Place(start, end, *shift)


def _same_line_ends(there: Sequence[str], wanted: Sequence[str]) -> tuple[str, str] | None:
    return ("", "") if there == wanted else None


def _same_but_indent(there: Sequence[str], wanted: Sequence[str]) -> tuple[str, str] | None:
    """What to add to, or drop from, the indentation of the wanted lines to get those of the file; None: they differ."""
    first_there, first_wanted = there[0], wanted[0]
    stripped = first_wanted.lstrip()
    if first_there.lstrip() != stripped:
        return None
    indent_there = first_there[: len(first_there) - len(stripped)]
    indent_wanted = first_wanted[: len(first_wanted) - len(stripped)]
    if indent_there.endswith(indent_wanted):
        add, drop = indent_there[: len(indent_there) - len(indent_wanted)], ""
    elif indent_wanted.endswith(indent_there):
        add, drop = "", indent_wanted[: len(indent_wanted) - len(indent_there)]
    else:
        return None
    for a, b in zip(there, wanted, strict=True):
        if not b:
            if a:
                return None
        elif add + b != a and not (drop and b.startswith(drop) and b[len(drop) :] == a):
            return None
    return add, drop


def indented(replacement: str, place: Place) -> str | None:
    """The replacement with the indentation of the place; None when a line lacks the indentation to drop."""
    if not place.add and not place.drop:
        return replacement
    out: list[str] = []
    for line in lines_of(replacement):
        if not line.strip():
            out.append(line)
        elif place.add:
            out.append(place.add + line)
        elif line.startswith(place.drop):
            out.append(line[len(place.drop) :])
        else:
            return None
    return "\n".join(out)


def line_number(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def numbered(lines: Sequence[str], first: int, last: int) -> str:
    """Lines `first` to `last` (counted from 1, inclusive) with their numbers, cut to the limits above."""
    first, last = max(1, first), min(len(lines), last)
    last = min(last, first + MAX_SHOWN_LINES)
    while last > first and not lines[last - 1].strip():
        last -= 1
    return "\n".join(f"{n:5d} | {lines[n - 1].rstrip()[:MAX_SHOWN_CHARACTERS]}" for n in range(first, last + 1))


def nearest(text: str, search: str) -> str:
    """The lines of the file most similar to `search`, with numbers; "" when none is similar."""
    lines = lines_of(text)[:MAX_COMPARED_LINES]
    wanted = [line.strip() for line in lines_of(search) if line.strip()]
    if not wanted or not any(line.strip() for line in lines):
        return ""
    at = _best_window(lines, wanted)
    if at is None:
        longest = max(wanted, key=len)
        stripped = [line.strip()[:MAX_SHOWN_CHARACTERS] for line in lines]
        different = dict.fromkeys(filter(None, stripped))
        close = difflib.get_close_matches(longest[:MAX_SHOWN_CHARACTERS], different, n=1, cutoff=0.4)
        if not close:
            return ""
        at = stripped.index(close[0]) - wanted.index(longest)
    return numbered(lines, at - 1, at + len(wanted) + 3)


def _best_window(lines: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Index of the line from which most wanted lines are in place, by votes of equal lines."""
    where: dict[str, list[int]] = {}
    for i, line in enumerate(wanted):
        where.setdefault(line, []).append(i)
    votes: dict[int, int] = {}
    for n, line in enumerate(lines):
        key = line.strip()
        for i in where.get(key, ())[:8] if len(key) > 3 else ():
            votes[n - i] = votes.get(n - i, 0) + 1
    return max(votes, key=lambda n: (votes[n], -n)) if votes else None
