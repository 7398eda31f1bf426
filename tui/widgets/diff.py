"""A unified diff in lanes: old and new line numbers, a mark, and the code in its colours."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache

from rich.style import Style
from textual import events
from textual.strip import Strip

from tui.model import Model
from tui.text import LONGEST, Part, brief, fit, flat, strip_of, width_of, wrap
from tui.theme import Look
from tui.widgets.canvas import Pane

_HUNK = re.compile(r"^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@ ?(.*)$")
COLOURED_LINES = 2000  # a longer diff is shown whole, but coloured only so far
Token = tuple[str, str]  # text, role


@dataclass(frozen=True, slots=True)
class DiffLine:
    """`kind`: "file", "hunk", " ", "+" or "-". Line numbers are None where a side has no such line."""

    kind: str
    old: int | None
    new: int | None
    text: str
    tokens: tuple[Token, ...] = ()


@lru_cache(maxsize=16)
def parse_diff(diff: str, colours: bool = True) -> tuple[DiffLine, ...]:
    """The lines of a unified diff, with control characters made visible and tabs as spaces."""
    lines: list[DiffLine] = []
    old = new = 0
    name = ""
    for raw in diff.removesuffix("\n").split("\n"):
        hunk = _HUNK.match(raw)
        if raw.startswith(("diff --git", "index ", "new file", "deleted file", "similarity", "old mode", "new mode")):
            old = new = 0
        elif not old and not new and raw.startswith(("--- ", "+++ ")):
            if raw.startswith("+++ ") or (raw.startswith("--- ") and not raw.endswith("/dev/null")):
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
    return _coloured(lines, name) if colours else tuple(lines)


def _plain(text: str) -> str:
    return flat(text[:LONGEST], 4)


def _coloured(lines: list[DiffLine], name: str) -> tuple[DiffLine, ...]:
    """Each side of each hunk is lexed as a whole, so that strings over several lines keep their colour."""
    from tui.widgets.syntax import lex_lines

    out = list(lines)
    start = 0
    for index in range(len(lines) + 1):
        if index == len(lines) or lines[index].kind in ("file", "hunk"):
            for side in ("+ ", "-"):
                places = [i for i in range(start, min(index, COLOURED_LINES)) if lines[i].kind in side]
                texts = lex_lines("\n".join(lines[i].text for i in places), name) if places else []
                for place, tokens in zip(places, texts, strict=False):
                    line = lines[place]
                    out[place] = DiffLine(line.kind, line.old, line.new, line.text, tuple(tokens))
            start = index + 1
            if index < len(lines) and lines[index].kind == "file":
                name = lines[index].text
    return tuple(out)


def paint_line(line: DiffLine, width: int, look: Look, numbers: int) -> Strip:
    """One diff line in `width` cells; `numbers` cells for each of the two number lanes."""
    if line.kind == "file":
        return strip_of([(fit(line.text, width), look["bright"])], width, look["text"])
    if line.kind == "hunk":
        rule = look.glyph("cut") * (numbers * 2 + 1)
        return strip_of([(rule + " ", look["faint"]), (fit(line.text, width), look["dim"])], width, look["text"])
    base = {"+": look["add"], "-": look["remove"]}.get(line.kind, look["text"])
    mark = {"+": look["add_mark"], "-": look["remove_mark"]}.get(line.kind, base)
    sign = {"+": "+", "-": "−"}.get(line.kind, " ")
    lane = look["faint"] + Style(bgcolor=base.bgcolor) if base.bgcolor else look["faint"]
    old = str(line.old) if line.old is not None else ""
    new = str(line.new) if line.new is not None else ""
    parts: list[Part] = [(f"{old:>{numbers}} {new:>{numbers}} ", lane), (sign + " ", mark)]
    if line.tokens:
        over = Style(bgcolor=base.bgcolor) if base.bgcolor else Style()
        coloured = look.name == "dark" or line.kind == " "
        parts += [(text, (look[role] + over) if coloured else base) for text, role in line.tokens]
    else:
        parts.append((line.text, base))
    room = width - width_of(parts[0][0]) - 2
    if width_of(line.text) > room:
        strip = strip_of(parts, width - 1, base)
        return Strip([*strip._segments, *strip_of([(look.glyph("ellipsis"), lane)], 1, base)._segments], width)
    return strip_of(parts, width, base)


class DiffPane(Pane):
    NUMBER = 2
    NAME = "diff"

    def __init__(self, model: Model, *, id: str | None = None, experiment: int | None = None) -> None:
        super().__init__(model, id=id)
        self.fixed = experiment
        self._experiment: int | None = None
        self._diff: tuple[DiffLine, ...] = ()
        self._top = 0
        self.colours = False  # the first paint does not wait for pygments

    def poll(self) -> None:
        shown = self.model.experiment(self.fixed) if self.fixed is not None else self.model.shown
        number = shown.number if shown else None
        if number != self._experiment:
            self._experiment, self._top = number, 0
        text = self.model.details(number).diff if number is not None else ""
        self._diff = parse_diff(text, self.colours) if text else ()

    def tells(self) -> Hashable:
        return self.model.state.seq, self.model.selected, self.colours, self._top

    def heading(self) -> list[Part]:
        shown = self.model.experiment(self._experiment)
        if shown is None or self.fixed is not None:
            return []
        dim = self.look["dim"]
        return [(f" · #{shown.number} ", dim), (brief(shown.hypothesis), self.look["text"])]

    def aside(self) -> list[Part]:
        shown = self.model.experiment(self._experiment)
        if shown is None or not self._diff:
            return []
        return [(f"+{shown.added} ", self.look["good"]), (f"−{shown.removed}", self.look["bad"])]

    def foot(self) -> list[Part]:
        rest = len(self._diff) - self._top - max(0, self.size.height - 2 * self.framed)
        return [(f"{rest} more lines", self.look["dim"])] if rest > 0 else []

    def body(self, width: int, height: int) -> list[Strip]:
        look = self.look
        if not self._diff:
            shown = self.model.experiment(self._experiment)
            words = "no change yet: the first proposal is on its way"
            if shown is not None:
                words = "the unchanged code" if shown.number == 0 else f"#{shown.number} left no change: {shown.reason}"
            lines = wrap(brief(words), width - 2)
            return [strip_of([("  " + line, look["dim"])], width, look["text"]) for line in lines]
        self._top = max(0, min(self._top, len(self._diff) - height))
        largest = max((max(d.old or 0, d.new or 0) for d in self._diff), default=0)
        numbers = max(3, len(str(largest)))
        return [paint_line(d, width, look, numbers) for d in self._diff[self._top : self._top + height]]

    def move(self, rows: int) -> None:
        self._top = max(0, self._top + rows)
        self.flush()

    def home(self) -> None:
        self._top = 0
        self.flush()

    def end(self) -> None:
        self._top = len(self._diff)
        self.flush()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.move(-3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.move(3)
