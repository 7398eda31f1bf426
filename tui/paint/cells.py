"""Text in cells: cut, padded and wrapped by what a terminal shows, not by what Python counts."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from core.views import clean, one_line

Part = tuple[str, Style]
LONGEST = 4000  # cells of one line that are worth wrapping; the rest is cut and said so


def flat(text: str, tab: int = 4) -> str:
    """`text` on one line that cannot act on a terminal, its spaces kept, tabs as spaces."""
    return clean(text.expandtabs(tab)).replace("\n", " ")


def brief(text: str, limit: int = 600) -> str:
    """The beginning of `text` on one line, with single spaces: for names and sentences of any length."""
    return visible(one_line(text[: limit * 2], limit))


def visible(text: str) -> str:
    """`text` of signs whose width all terminals agree on: one that is off by a cell pushes the frame beside it away.

    Gone are joiners, selectors, fillers, skin tones, anything unprintable, and the marks of Indic scripts that take a
    cell of their own in some terminals; a few symbols that are wide in some become a square.
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_agreed, text))


@lru_cache(maxsize=8192)
def _agreed(sign: str) -> str:
    if sign == "\xa0":
        return " "
    if not sign.isprintable() or sign in _UNSURE or unicodedata.category(sign) == "Mc":
        return ""
    return "□" if sign in _WIDE_OR_NOT else sign


_UNSURE = frozenset("\u115f\u1160\u3164\uffa0\ufe0e\ufe0f\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")
_WIDE_OR_NOT = frozenset(
    chr(code)
    for first, last in ((0x2630, 0x2637), (0x268A, 0x268F), (0x3248, 0x324F), (0x1D300, 0x1D376))
    for code in range(first, last + 1)
)


def width_of(text: str) -> int:
    """How many cells `text` takes."""
    return len(text) if text.isascii() else cell_len(text)


def fit(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` in at most `width` cells, ending with `ellipsis` when something was cut."""
    if width <= 0:
        return ""
    if width_of(text) <= width:
        return text
    room = width - width_of(ellipsis)
    return (set_cell_size(text, room) if room > 0 else "") + ellipsis if room >= 0 else set_cell_size(text, width)


def left(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` in exactly `width` cells, flush left."""
    text = fit(text, width, ellipsis)
    return text + " " * (width - width_of(text))


def right(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` in exactly `width` cells, flush right: for numbers."""
    text = fit(text, width, ellipsis)
    return " " * (width - width_of(text)) + text


def wrap(text: str, width: int) -> list[str]:
    """`text` (one line) broken at spaces into lines of at most `width` cells; words longer than a line are cut."""
    if width <= 0:
        return []
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} … {len(text) - LONGEST:,} more characters"
    if width_of(text) <= width:
        return [text]
    lines: list[str] = []
    current, used = "", 0
    for word in _words(text):
        size = width_of(word)
        if used + len(word.rstrip(" ")) <= width and used + size <= width:
            current, used = current + word, used + size
            continue
        bare = word.rstrip(" ")
        if used + width_of(bare) <= width:
            lines.append(current + bare)
            current, used = "", 0
            continue
        if current:
            lines.append(current.rstrip(" "))
        while width_of(bare) > width:
            head = set_cell_size(bare, width) if not bare.isascii() else bare[:width]
            taken = _taken(bare, width)
            lines.append(head)
            bare, word = bare[taken:], word[taken:]
        current, used = word, width_of(word)
        if used > width:
            current, used = bare, width_of(bare)
    if current.strip(" "):
        lines.append(current.rstrip(" "))
    return lines or [""]


def _words(text: str) -> Iterable[str]:
    """Words, each with the spaces that follow it; leading spaces (indentation) are a word of their own."""
    start = 0
    length = len(text)
    while start < length:
        end = start
        while end < length and text[end] != " ":
            end += 1
        while end < length and text[end] == " ":
            end += 1
        yield text[start:end]
        start = end


def _taken(text: str, width: int) -> int:
    """How many characters fit in `width` cells: at least one, so that cutting always ends."""
    used = 0
    for index, character in enumerate(text):
        used += cell_len(character)
        if used > width:
            return max(1, index)
    return len(text)


def strip_of(parts: Iterable[Part], width: int, fill: Style) -> Strip:
    """Parts as one line of exactly `width` cells; what is too long is cut, the rest filled with `fill`."""
    segments: list[Segment] = []
    used = 0
    for text, style in parts:
        text = visible(text)
        if not text:
            continue
        size = width_of(text)
        if used + size > width:
            text = set_cell_size(text, width - used)
            size = width - used
        if size > 0:
            segments.append(Segment(text, style))
            used += size
        if used >= width:
            break
    if used < width:
        segments.append(Segment(" " * (width - used), fill))
    return Strip(segments, width)


def parts_width(parts: Sequence[Part]) -> int:
    return sum(width_of(text) for text, _ in parts)


def cut_parts(parts: list[Part], width: int, ellipsis: str = "…") -> list[Part]:
    """Parts in at most `width` cells; the one that is cut ends with an ellipsis."""
    out: list[Part] = []
    used = 0
    for text, style in parts:
        size = width_of(text)
        if used + size > width:
            text = fit(text, width - used, ellipsis)
            if text:
                out.append((text, style))
            break
        out.append((text, style))
        used += size
    return out


def bar(fraction: float | None, width: int, full: str, half: str, rest: str) -> tuple[str, str]:
    """A progress bar as its full and its remaining text, together `width` cells. None: nothing is known."""
    if width <= 0:
        return "", ""
    if fraction is None:
        return "", rest * width
    halves = round(max(0.0, min(1.0, fraction)) * width * 2)
    done = full * (halves // 2) + (half if halves % 2 else "")
    return done, rest * (width - len(done))
