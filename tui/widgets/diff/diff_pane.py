"""Diff pane: a unified diff with line numbers of both sides, syntax colors and marked words."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from rich.style import Style
from textual.strip import Strip

from core.record.state import BASELINE, who
from tui.diff_source import ASKING, BASES, Base, DiffResult
from tui.paint.cells import MAX_LINE_CHARACTERS, Part, brief, fit, flat, strip_of, width_of, wrap
from tui.paint.theme import Look
from tui.session_view import SessionView
from tui.widgets.diff.changed_words import Spans, changed_words, pairs
from tui.widgets.page import ScrolledPane

_HUNK = re.compile(r"^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@ ?(.*)$")
MAX_COLORED_LINES = 2000  # of a diff; the lines after them are shown without colors
Token = tuple[str, str]  # text, role


@dataclass(frozen=True, slots=True)
class DiffLine:
    """`kind`: "file", "hunk", " ", "+" or "-". A line number is None when that side has no such line."""

    kind: str
    old: int | None
    new: int | None
    text: str
    tokens: tuple[Token, ...] = ()
    changed: Spans = ()  # parts of `text` that the other side does not have


@lru_cache(maxsize=16)
def parse_diff(diff: str, colors: bool = True) -> tuple[DiffLine, ...]:
    """The lines of a unified diff, without control characters, tabs as spaces."""
    lines: list[DiffLine] = []
    old = new = 0
    name = ""
    for raw in diff.removesuffix("\n").split("\n"):
        hunk = _HUNK.match(raw)
        if raw.startswith(("diff --git", "index ", "new file", "deleted file", "similarity", "old mode", "new mode")):
            old = new = 0
        elif not old and not new and raw.startswith(("--- ", "+++ ")):
            found = re.sub(r"^[ab]/", "", raw[4:].strip())
            name = name if found == "/dev/null" else found
            if raw.startswith("+++ "):
                lines.append(DiffLine("file", None, None, brief(name)))
        elif hunk:
            old, new = int(hunk[1]), int(hunk[2])
            lines.append(DiffLine("hunk", None, None, brief(hunk[3])))
        elif raw[:1] == "+":
            lines.append(DiffLine("+", None, new, _plain(raw[1:])))
            new += 1
        elif raw[:1] == "-":
            lines.append(DiffLine("-", old, None, _plain(raw[1:])))
            old += 1
        elif raw[:1] == " " or not raw:
            lines.append(DiffLine(" ", old, new, _plain(raw[1:])))
            old, new = old + 1, new + 1
    lines = _marked(lines)
    return _colored(lines, name) if colors else tuple(lines)


def _marked(lines: list[DiffLine]) -> list[DiffLine]:
    """The same lines; changed lines with the spans of their changed words."""
    out = list(lines)
    kinds = "".join(line.kind[0] for line in lines[:MAX_COLORED_LINES])
    for change in re.finditer(r"(-+)(\++)", kinds):
        (start, middle), end = change.span(1), change.end()
        for i, j in pairs([x.text for x in lines[start:middle]], [x.text for x in lines[middle:end]]):
            old, new = lines[start + i], lines[middle + j]
            before, after = changed_words(old.text, new.text)
            out[start + i], out[middle + j] = replace(old, changed=before), replace(new, changed=after)
    return out


def _plain(text: str) -> str:
    return flat(text[:MAX_LINE_CHARACTERS], 4)


def _colored(lines: list[DiffLine], name: str) -> tuple[DiffLine, ...]:
    """The same lines with tokens. Each side of a hunk is lexed as a whole, for strings over several lines."""
    from tui.widgets.diff.syntax import lex_lines

    out = list(lines)
    start = 0
    for index in range(len(lines) + 1):
        if index == len(lines) or lines[index].kind in ("file", "hunk"):
            for side in ("+ ", "-"):
                places = [i for i in range(start, min(index, MAX_COLORED_LINES)) if lines[i].kind in side]
                texts = lex_lines("\n".join(lines[i].text for i in places), name) if places else []
                for place, tokens in zip(places, texts, strict=False):
                    line = lines[place]
                    out[place] = replace(line, tokens=tuple(tokens))
            start = index + 1
            if index < len(lines) and lines[index].kind == "file":
                name = lines[index].text
    return tuple(out)


def paint_line(line: DiffLine, width: int, look: Look, numbers: int) -> Strip:
    """One diff line in `width` cells, of which each line number takes `numbers`."""
    if line.kind == "file":
        return strip_of([(fit(line.text, width), look["bright"])], width, look["text"])
    if line.kind == "hunk":
        rule = look.glyph("cut") * (numbers * 2 + 1)
        return strip_of([(rule + " ", look["faint"]), (fit(line.text, width), look["dim"])], width, look["text"])
    base = {"+": look["add"], "-": look["remove"]}.get(line.kind, look["text"])
    mark = {"+": look["add_mark"], "-": look["remove_mark"]}.get(line.kind, base)
    sign = {"+": "+", "-": "−"}.get(line.kind, " ")
    lane = look["faint"] + Style(bgcolor=base.bgcolor) if base.bgcolor else look["faint"]
    old, new = ("" if number is None else str(number) for number in (line.old, line.new))
    parts: list[Part] = [(f"{old:>{numbers}} {new:>{numbers}} ", lane), (sign + " ", mark)]
    if line.tokens:
        over = Style(bgcolor=base.bgcolor) if base.bgcolor else Style()
        colored = bool(base.bgcolor) or line.kind == " "  # without a background, the text's color shows the side
        text = [(text, (look[role] + over) if colored else base) for text, role in line.tokens]
    else:
        text = [(line.text, base)]
    word = look["add_word" if line.kind == "+" else "remove_word"]
    parts += _with_marks(text, line.changed, word) if line.changed else text
    room = width - width_of(parts[0][0]) - 2
    if width_of(line.text) > room:
        strip = strip_of(parts, width - 1, base)
        return Strip([*strip._segments, *strip_of([(look.glyph("ellipsis"), lane)], 1, base)._segments], width)
    return strip_of(parts, width, base)


def _with_marks(parts: list[Part], spans: Spans, word: Style) -> list[Part]:
    """The same text, cut at the spans; the text inside them in the style `word`."""
    edges = sorted({edge for span in spans for edge in span})
    out: list[Part] = []
    at = 0
    for text, style in parts:
        cuts = [0, *(edge - at for edge in edges if at < edge < at + len(text)), len(text)]
        for start, end in pairwise(cuts):
            inside = any(first <= at + start < last for first, last in spans)
            out.append((text[start:end], word if inside else style))
        at += len(text)
    return out


class DiffPane(ScrolledPane):
    """Diff of an experiment against its parent, the present best or the baseline."""

    NUMBER = 2
    NAME = "diff"

    def __init__(
        self, view: SessionView, *, id: str | None = None, experiment: int | None = None, against: int | None = None
    ) -> None:
        """`experiment` and `against` fix what is compared; None: the selection, and `base`."""
        super().__init__(view, id=id)
        self.fixed, self.other = experiment, against
        self.base: Base = "parent"
        self._experiment: int | None = None
        self._diff: tuple[DiffLine, ...] = ()
        self._result = DiffResult()
        self._revision = 0
        self.highlights = False  # the first painting does not wait for pygments

    def poll(self) -> None:
        shown = self.view.experiment(self.fixed) if self.fixed is not None else self.view.shown
        number = shown.number if shown else None
        if number != self._experiment:
            self._experiment, self.top = number, 0
        result = self.view.changes.told(number, self.other if self.other is not None else self.base)
        if result != self._result:
            self._result = result
            self._revision += 1
        self._diff = parse_diff(result.diff, self.highlights) if result.diff else ()
        self._length = len(self._diff)

    def revision(self) -> int:
        return self._revision

    @property
    def pending(self) -> bool:
        """Whether the answer of git is missing."""
        return self._result == ASKING

    def next_base(self) -> str:
        """Compare with the next of parent, best, baseline; its name."""
        self.base = BASES[(BASES.index(self.base) + 1) % len(BASES)]
        self.top = 0
        self.poll()
        self.flush()
        return self._against()

    def _against(self) -> str:
        if self.other is not None:
            return who(self.other)
        number = self.view.changes.number_of(self._experiment, self.base)
        words = {"parent": "its parent", "best": "the best", "baseline": "the baseline"}[self.base]
        return words if number is None or number == BASELINE else f"{words} #{number}"

    def paint_key(self) -> Hashable:
        return self.view.state.seq, self.view.selected, self.highlights, self.top, self.base, self._result

    def heading(self) -> list[Part]:
        shown = self.view.experiment(self._experiment)
        if shown is None or self.fixed is not None:
            return []
        return [(f" · #{shown.number} ", self.look["dim"]), (brief(shown.hypothesis), self.look["text"])]

    def aside(self) -> list[Part]:
        if self._experiment is None:
            return []
        added = sum(line.kind == "+" for line in self._diff)
        removed = sum(line.kind == "-" for line in self._diff)
        usual = self.base == "parent" and self.other is None
        parts: list[Part] = [("vs ", self.look["dim"]), (self._against() + "  ", self.look["dim" if usual else "warn"])]
        if self._diff:
            parts += [(f"+{added} ", self.look["good"]), (f"−{removed}", self.look["bad"])]
        return parts

    def body(self, width: int, height: int) -> list[Strip]:
        look = self.look
        if not self._diff:
            words = self._result.words or "no change yet: the first proposal is not ready"
            lines = wrap(brief(words), width - 2)
            return [strip_of([("  " + line, look["dim"])], width, look["text"]) for line in lines]
        self.top = max(0, min(self.top, len(self._diff) - height))
        largest = max(max(d.old or 0, d.new or 0) for d in self._diff)
        numbers = max(3, len(str(largest)))
        return [paint_line(d, width, look, numbers) for d in self._diff[self.top : self.top + height]]
