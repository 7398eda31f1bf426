"""Text measured in terminal cells: cutting, padding, wrapping, progress bars."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from core.views import clean, one_line

Part = tuple[str, Style]
MAX_LINE_CHARACTERS = 4000  # of a line that is wrapped; a note replaces the rest
_WORDS = re.compile(r"[^ ]+ *| +")  # a word with the spaces after it; leading spaces (indentation) are one word


def flat(text: str, tab: int = 4) -> str:
    """`text` on one line without control characters; spaces are kept, tabs become spaces."""
    return clean(text.expandtabs(tab)).replace("\n", " ")


def brief(text: str, limit: int = 600) -> str:
    """The first `limit` characters of `text` on one line, with single spaces: for names and sentences."""
    return visible(one_line(text[: limit * 2], limit))


def visible(text: str) -> str:
    """`text` in characters of the same width in every terminal: a wrong width would displace the frame beside it.

    Removed: joiners, selectors, fillers, skin tones, unprintable characters, and the marks of Indic scripts that take
    a cell in some terminals. A few symbols that are wide in some terminals become a square.
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_visible_character, text))


@lru_cache(maxsize=8192)
def _visible_character(c: str) -> str:
    if c == "\xa0":
        return " "
    if not c.isprintable() or c in _REMOVED or unicodedata.category(c) == "Mc":
        return ""
    return "□" if c in _AMBIGUOUS else c


_REMOVED = frozenset("\u115f\u1160\u3164\uffa0\ufe0e\ufe0f\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")
_AMBIGUOUS = frozenset(
    chr(code)
    for first, last in ((0x2630, 0x2637), (0x268A, 0x268F), (0x3248, 0x324F), (0x1D300, 0x1D376))
    for code in range(first, last + 1)
)


def width_of(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def fit(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` in at most `width` cells; a cut text ends with `ellipsis`."""
    if width <= 0:
        return ""
    if width_of(text) <= width:
        return text
    room = width - width_of(ellipsis)
    return (set_cell_size(text, room) if room > 0 else "") + ellipsis if room >= 0 else set_cell_size(text, width)


def left(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` in exactly `width` cells, aligned left."""
    text = fit(text, width, ellipsis)
    return text + " " * (width - width_of(text))


def right(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` in exactly `width` cells, aligned right: for numbers."""
    text = fit(text, width, ellipsis)
    return " " * (width - width_of(text)) + text


def wrap(text: str, width: int) -> list[str]:
    """`text` (one line) broken at spaces into lines of at most `width` cells; longer words are cut."""
    if width <= 0:
        return []
    if len(text) > MAX_LINE_CHARACTERS:
        text = f"{text[:MAX_LINE_CHARACTERS]} … {len(text) - MAX_LINE_CHARACTERS:,} more characters"
    if width_of(text) <= width:
        return [text]
    lines: list[str] = []
    current, used = "", 0
    for word in _WORDS.findall(text):
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
            fitting = _fitting_characters(bare, width)
            lines.append(set_cell_size(bare, width))
            bare, word = bare[fitting:], word[fitting:]
        current, used = word, width_of(word)
        if used > width:
            current, used = bare, width_of(bare)
    if current.strip(" "):
        lines.append(current.rstrip(" "))
    return lines or [""]


def _fitting_characters(text: str, width: int) -> int:
    """Number of characters that fit in `width` cells, at least one."""
    used = 0
    for index, character in enumerate(text):
        used += cell_len(character)
        if used > width:
            return max(1, index)
    return len(text)


def strip_of(parts: Iterable[Part], width: int, fill: Style) -> Strip:
    """Parts as one line of exactly `width` cells, cut or filled with spaces of the style `fill`."""
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


def filled(lines: list[Strip], width: int, height: int, fill: Style) -> list[Strip]:
    """`lines` with blank ones of the style `fill` after them, `height` lines in all."""
    return lines + [strip_of([], width, fill)] * (height - len(lines))


def parts_width(parts: Sequence[Part]) -> int:
    return sum(width_of(text) for text, _ in parts)


def cut_parts(parts: list[Part], width: int, ellipsis: str = "…") -> list[Part]:
    """Parts in at most `width` cells; a cut part ends with `ellipsis`."""
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
    """A progress bar of `width` cells as its full and its remaining text; None: unknown, an empty bar."""
    if width <= 0:
        return "", ""
    if fraction is None:
        return "", rest * width
    halves = round(max(0.0, min(1.0, fraction)) * width * 2)
    done = full * (halves // 2) + (half if halves % 2 else "")
    return done, rest * (width - len(done))
