"""Untrusted text (files, run output, papers, notes) bounded, cleaned and fenced for a prompt."""

from __future__ import annotations

import re

from core.text import clean, one_line

_BLANK = "[\\s\u00ad\u200b-\u200d\u2060-\u2064\u2800\ufe00-\ufe0f\ufeff]*"


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
    """`text` between tags; such a tag within the text is escaped, with blanks or invisible characters in it, too."""
    safe = re.sub(rf"<({_BLANK}/?{_BLANK}{re.escape(tag)}\b)", r"<\\\1", text, flags=re.IGNORECASE)
    names = "".join(f' {k}="{one_line(str(v), 200).replace(chr(34), "")}"' for k, v in attributes.items())
    return f"<{tag}{names}>\n{safe}\n</{tag}>"
