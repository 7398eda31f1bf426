"""Untrusted text (files, run output, papers, notes) bounded, cleaned and fenced for a prompt."""

from __future__ import annotations

import re
import unicodedata

from core.edits.hidden_text import ALIKE
from core.text import clean, one_line

_MARKS = "\u00ad\u0300-\u036f\u200b-\u200d\u2060-\u2064\ufe00-\ufe0f\ufeff"
_BLANK = rf"[\s\u2800{_MARKS}]*"


class _Looks(dict[int, int | str]):
    """What looks like a part of a tag, each for one character: brackets, strokes, letters of other scripts, and what
    Unicode has as another form of one character (wide, bold, raised, in a circle).
    """

    def __missing__(self, number: int) -> int | str:
        plain = unicodedata.normalize("NFKC", chr(number))
        self[number] = plain if len(plain) == 1 else number
        return self[number]


_LOOKS = _Looks({
    **ALIKE,
    ord("Ӏ"): "l",
    **dict.fromkeys(map(ord, "﹤‹〈⟨≺⋖❮ᐸ˂"), "<"),
    **dict.fromkeys(map(ord, "∕⁄⧸⟋╱＼｜∖⧵⧹⟍╲🙼🙽"), "/"),
})  # fmt: skip


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
    looks, name = text if text.isascii() else text.translate(_LOOKS), f"[{_MARKS}]*".join(map(re.escape, tag))
    safe, at = [], 0
    for found in re.finditer(rf"<{_BLANK}(?:[/\\|]{_BLANK})*{name}\b", looks, re.IGNORECASE):
        safe.append(f"{text[at : found.start() + 1]}\\")
        at = found.start() + 1
    safe.append(text[at:])
    names = "".join(f' {k}="{one_line(str(v), 200).replace(chr(34), "")}"' for k, v in attributes.items())
    return f"<{tag}{names}>\n{''.join(safe)}\n</{tag}>"
