"""Text that is safe to print, and the signs and colour roles that stand for verdicts and states."""

from __future__ import annotations

import re
from collections.abc import Mapping

from core.record.state import BASELINE

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


def who(experiment: int) -> str:
    """An experiment as sentences name it."""
    return "the baseline" if experiment == BASELINE else f"#{experiment}"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


# word -> (sign, sign in ASCII, colour role). Roles: good, warn, bad, dim, accent; what they look like is the client's.
SIGNS: Mapping[str, tuple[str, str, str]] = {
    "kept": ("✓", "+", "good"),
    "provisional": ("◐", "~", "warn"),
    "discarded": ("·", ".", "dim"),
    "crashed": ("✗", "x", "bad"),
    "pruned": ("✂", "%", "dim"),
    "rejected": ("⊘", "!", "bad"),
    "skipped": ("»", ">", "dim"),
    "abandoned": ("◌", "o", "warn"),
    "baseline": ("◆", "B", "accent"),
    "thinking": ("…", "?", "accent"),
    "waiting": ("…", "?", "warn"),
    "checking": ("◔", "c", "accent"),
    "approval": ("?", "?", "warn"),
    "queued": ("◷", "q", "accent"),
    "starting": ("◔", "-", "accent"),
    "running": ("●", "*", "good"),
    "paused": ("‖", "=", "warn"),
    "stopping": ("◑", "-", "warn"),
    "stopped": ("■", "#", "dim"),
    "finished": ("✓", "+", "good"),
}


def sign(word: str, ascii_only: bool = False) -> str:
    """One cell for a verdict, a phase or a session's state; a blank for what it does not know."""
    found = SIGNS.get(word)
    return " " if found is None else found[1 if ascii_only else 0]


def role(word: str) -> str:
    """The colour role of a verdict, a phase or a session's state."""
    found = SIGNS.get(word)
    return "dim" if found is None else found[2]


_ASCII = str.maketrans(
    {"−": "-", "–": "-", "…": "...", "σ": "s", "±": "+-", "·": "-", "→": "->", "↓": "v", "↑": "^", "×": "x", "≥": ">=",
     **{unicode: plain for unicode, plain, _ in SIGNS.values() if not unicode.isascii() and unicode != "…"}}
)  # fmt: skip


def to_ascii(text: str) -> str:
    """The same text for a terminal that shows ASCII only: our own signs by their stand-ins, the rest as `?`."""
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
