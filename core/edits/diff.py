"""Unified diffs in git's format, at a bounded cost"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence

from core.edits.match import lines_of

CONTEXT_LINES = 3
MAX_COMPARED_PAIRS = 1_000_000  # old lines times new lines that are compared line by line


def unified(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, int, int]:
    """A unified diff of the files in `after`, and the numbers of lines it adds and removes.

    A file that is not in `before` is new.
    """
    parts: list[str] = []
    added = removed = 0
    for path in sorted(after):
        old, new = before.get(path), after[path]
        if old == new:
            continue
        head = f"diff --git a/{path} b/{path}\n" + ("new file mode 100644\n" if old is None else "")
        source = "/dev/null" if old is None else f"a/{path}"
        body = [f"--- {source}\n", f"+++ b/{path}\n", *_hunks(ended_lines(old or ""), ended_lines(new))]
        added += sum(line.startswith("+") for line in body[2:])
        removed += sum(line.startswith("-") for line in body[2:])
        parts.append(head)
        parts.extend(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in body)
    return "".join(parts), added, removed


def added_lines(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The lines of `new` that are not in `old`, with their numbers from 1; at the bounded cost of `unified`."""
    start, tail = _same_ends(old, new)
    a, b = old[start : len(old) - tail], new[start : len(new) - tail]
    changed = [(0, len(b))]  # too large to compare line by line: all between the equal ends
    if len(a) * len(b) <= MAX_COMPARED_PAIRS:
        codes = difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
        changed = [(first, end) for tag, _, _, first, end in codes if tag in ("replace", "insert")]
    yield from ((start + number + 1, b[number]) for first, end in changed for number in range(first, end))


def _hunks(old: list[str], new: list[str]) -> list[str]:
    """The hunks of a unified diff. Only the lines between the first and last difference are compared line by line; when
    they are too many they become one hunk.
    """
    start, tail = _same_ends(old, new)
    above, below = min(CONTEXT_LINES, start), min(CONTEXT_LINES, tail)
    a = old[start - above : len(old) - tail + below]
    b = new[start - above : len(new) - tail + below]
    first = start - above
    if len(a) * len(b) > MAX_COMPARED_PAIRS:
        removed, added = (f"{first + 1 if lines else first},{len(lines)}" for lines in (a, b))
        changed = [
            *(f"-{line}" for line in a[above : len(a) - below]),
            *(f"+{line}" for line in b[above : len(b) - below]),
        ]
        same = [[f" {line}" for line in part] for part in (a[:above], a[len(a) - below :])]
        return [f"@@ -{removed} +{added} @@\n", *same[0], *changed, *same[1]]
    hunks = list(difflib.unified_diff(a, b))[2:]
    return [_moved(line, first) if line.startswith("@@") else line for line in hunks]


def _same_ends(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """Number of equal lines at the beginning, and of equal ones among the others at the end."""
    start = tail = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    while tail < min(len(old), len(new)) - start and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    return start, tail


def _moved(header: str, lines: int) -> str:
    return re.sub(r"([-+])(\d+)", lambda m: f"{m[1]}{int(m[2]) + lines}", header)


def ended_lines(text: str) -> list[str]:
    """Lines with their ends, as git compares them."""
    lines = [line + "\n" for line in lines_of(text)]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]
