"""Signs and colour roles of verdicts, phases and states"""

from __future__ import annotations

from collections.abc import Mapping

# word -> (sign, sign in ASCII, colour role). Roles: good, warn, bad, dim, accent; the client chooses their colours.
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
    "checkout": ("◔", "-", "accent"),
    "running": ("●", "*", "good"),
    "paused": ("‖", "=", "warn"),
    "interrupted": ("‖", "=", "warn"),
    "stopping": ("◑", "-", "warn"),
    "stopped": ("■", "#", "dim"),
    "finished": ("✓", "+", "good"),
    "fits": ("✓", "+", "good"),
    "does not fit": ("✗", "x", "bad"),
    "not checked": ("·", ".", "dim"),
}


def sign(word: str, ascii_only: bool = False) -> str:
    """One cell for a verdict, a phase or a session's state; a blank for an unknown word."""
    found = SIGNS.get(word)
    return " " if found is None else found[1 if ascii_only else 0]


def role(word: str) -> str:
    """Colour role of a verdict, a phase or a session's state."""
    found = SIGNS.get(word)
    return "dim" if found is None else found[2]


_ASCII = str.maketrans(
    {"−": "-", "–": "-", "…": "...", "σ": "s", "±": "+-", "·": "-", "→": "->", "↓": "v", "↑": "^", "×": "x", "≥": ">=",
     **{unicode: plain for unicode, plain, _ in SIGNS.values() if not unicode.isascii() and unicode != "…"}}
)  # fmt: skip


def to_ascii(text: str) -> str:
    """Text for a terminal that shows ASCII only: known signs by their substitutes, other characters as `?`."""
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
