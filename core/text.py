"""Text that is safe to print: without control characters, on one line, in the plural, as a string of TOML"""

from __future__ import annotations

import json
import re

# Whole escape sequences: CSI, then the string kinds (OSC, DCS, APC, PM, SOS), then the short ones. An unterminated
# string ends with its line, so that one stray byte cannot hide the text after it.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
# Characters without a picture, which can carry hidden text; joiners and selectors where they do not join or select
# (emoji and many scripts need them elsewhere, one at a time).
INVISIBLE = (
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0\ufff0-\ufff8"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
    "|(?<![^\x00-\x7f])[\u200c\u200d\ufe00-\ufe0e\U000e0100-\U000e01ef]|(?<![^\x00-\x22\x24-\x29\x2b-\x2f\x3a-\x7f])\ufe0f"
    "|(?<=[\u200b-\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef])[\u200c\ufe00-\ufe0f\U000e0100-\U000e01ef]|\u200d\u200d"
)
# Other C0 and C1 characters, marks that reorder text, line separators, tags (invisible letters), lone surrogates.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_INVISIBLE = re.compile(INVISIBLE)
_BREAK = re.compile(r"\r\n?")
_SPACES = re.compile(r"\s+")


def clean(text: str, *, code: bool = False) -> str:
    """Text without escape sequences, control characters, bidirectional overrides and characters that nobody sees; tabs
    and line ends stay.

    A lone carriage return counts as a line end. `code`: of the project, whose joiners and blanks an edit has to match:
    they stay, since no change brings in new ones.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _CONTROL.sub("", _ESCAPES.sub("", _BREAK.sub("\n", text)))
    return text if code or text.isascii() else _INVISIBLE.sub("", text)


def one_line(text: str, limit: int = 0) -> str:
    """`clean` text on one line with single spaces, cut to `limit` characters with an ellipsis (0: not cut)."""
    text = _SPACES.sub(" ", clean(text)).strip()
    return text if not limit or len(text) <= limit else text[: limit - 1].rstrip() + "…"


def first_line(text: str) -> str:
    """The first line of `clean` text that is not blank."""
    return next((one_line(line) for line in clean(text).splitlines() if line.strip()), "")


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def printable(name: str) -> str:
    """A file's name with escapes for what cannot be printed: line ends, control characters, bytes that are no text."""
    return name if name.isprintable() else ascii(name)[1:-1]


def toml_text(text: str, *, pattern: bool = False) -> str:
    """A text as a string of TOML that reads well: between single quotes when it has double ones or backslashes, a
    `pattern` always; between double quotes where it has a single one itself.
    """
    if text.isprintable() and (pattern or '"' in text or "\\" in text) and "'" not in text:
        return f"'{text}'"
    return json.dumps(text, ensure_ascii=False)
