"""Plain text that is safe to print: cleaned, on one line, and counted."""

from __future__ import annotations

import re

# Escape sequences first, as wholes: CSI, then the string kinds (OSC, DCS, APC, PM, SOS), then the short ones.
# A string left open ends at its line's end, so that one stray byte cannot swallow everything after it.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)


# What is left of C0 and C1, marks that reorder text, line separators, tags (invisible letters), lone surrogates.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


_BREAK = re.compile(r"\r\n?")


_SPACES = re.compile(r"\s+")


def clean(text: str) -> str:
    """Text that cannot act on a terminal: no escape sequences, control characters or bidirectional overrides.

    Line ends (a lone carriage return counts as one) and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return _CONTROL.sub("", _ESCAPES.sub("", _BREAK.sub("\n", text)))


def one_line(text: str, limit: int = 0) -> str:
    """`clean`, on one line with single spaces; with `limit`, cut to so many characters with an ellipsis."""
    text = _SPACES.sub(" ", clean(text)).strip()
    return text if not limit or len(text) <= limit else text[: limit - 1].rstrip() + "…"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
