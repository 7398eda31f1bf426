"""Untrusted text (files, run output, papers, notes) bounded, cleaned and fenced for a prompt."""

from __future__ import annotations

import re

from core.edits.hidden_text import ALIKE
from core.text import clean, one_line

_BLANK = "[\\s\u00ad\u200b-\u200d\u2060-\u2064\u2800\ufe00-\ufe0f\ufeff]*"

# What looks like a part of a tag, each for one character: brackets, strokes, wide letters, letters of other scripts.
_LOOKS: dict[int, int | str] = {
    **ALIKE,
    **dict.fromkeys(map(ord, "＜﹤‹〈⟨≺⋖❮"), "<"),
    **dict.fromkeys(map(ord, "／∕⁄⧸⟋╱＼｜"), "/"),
    **{wide: chr(wide - 0xFEE0) for first, last in ("ＡＺ", "ａｚ") for wide in range(ord(first), ord(last) + 1)},
}


def bounded(text: str, limit: int, *, end: bool = False, code: bool = False) -> str:
    """Clean text of at most `limit` characters: its head and tail, or with `end` only its tail."""
    text = clean(text, code=code)
    if len(text) <= limit:
        return text
    if end:
        return "…" + text[len(text) - limit :]
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[len(text) - half :]}"


def fenced(tag: str, text: str, **attributes: object) -> str:
    """`text` between tags; what a model could read as such a tag within it is escaped: also with blanks, invisible
    characters, other strokes or letters that look alike in it.
    """
    looks = text if text.isascii() else text.translate(_LOOKS)
    safe, at = [], 0
    for found in re.finditer(rf"<{_BLANK}(?:[/\\|]{_BLANK})*{re.escape(tag)}\b", looks, re.IGNORECASE):
        safe.append(f"{text[at : found.start() + 1]}\\")
        at = found.start() + 1
    safe.append(text[at:])
    names = "".join(f' {k}="{one_line(str(v), 200).replace(chr(34), "")}"' for k, v in attributes.items())
    return f"<{tag}{names}>\n{''.join(safe)}\n</{tag}>"
