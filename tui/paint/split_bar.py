"""A thin bar of what a slot's time was spent on, with a sign and a color for each part: it reads without color too"""

from __future__ import annotations

from collections.abc import Mapping

from core.record.slot_time import OFF
from tui.paint.cells import Part
from tui.paint.theme import Look

# The sign and the role of each part, in the order of the bar. Time without an engine has no place in it.
SIGNS: Mapping[str, tuple[str, str]] = {
    "training": ("━", "good"),
    "scoring": ("┅", "accent"),
    "starting": ("╌", "violet"),
    "retries": ("╍", "bad"),
    "researcher": ("─", "warn"),
    "person": ("┈", "bright"),
    "memory": ("╺", "warn"),
    "set_aside": ("┉", "bad"),
    "idle": ("·", "dim"),
}
_OTHER = ("░", "text")  # of a part that is not listed


def sign_of(what: str, look: Look) -> Part:
    sign, role = SIGNS.get(what, _OTHER)
    return sign, look[role]


def split_bar(spent: Mapping[str, float], width: int, look: Look) -> list[Part]:
    """The parts of a slot's time in `width` cells, by largest remainder; nothing was spent: an empty bar."""
    names = [*SIGNS, *(what for what in spent if what not in SIGNS and what != OFF)]
    parts = {what: seconds for what in names if (seconds := spent.get(what, 0.0)) > 0}
    whole = sum(parts.values())
    if not whole or width <= 0:
        return [(look.glyph("bar_rest") * max(0, width), look["bar_rest"])]
    shares = {what: seconds * width / whole for what, seconds in parts.items()}
    cells = {what: int(share) for what, share in shares.items()}
    left = width - sum(cells.values())
    for what in sorted(shares, key=lambda what: cells[what] - shares[what])[:left]:
        cells[what] += 1
    signs = {what: sign_of(what, look) for what in parts}
    return [(signs[what][0] * count, signs[what][1]) for what, count in cells.items() if count]
