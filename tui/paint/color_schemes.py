"""The 24-bit looks: dark, and what is derived from it. A derived look keeps every role and changes its colours.

Each palette names the colours that mean something; all others (frames, grounds, code) are moved along with it: turned
over for a light ground, pushed apart for high contrast. The two colour-blind safe ones use pairs that stay apart for
red-green and for blue-yellow deficiency (after Okabe and Ito, 2008); tests hold them to it by simulation.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

BACKGROUND = "#11151a"
_HEX = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours as #rrggbb. `contrast`: the least contrast that text in colour has against the ground."""

    background: str
    panel: str
    text: str
    accent: str
    good: str
    warn: str
    bad: str
    violet: str
    dark: bool = True
    contrast: float = 0.0


PALETTES: Mapping[str, Palette] = {
    "dark": Palette(BACKGROUND, "#1a212a", "#d3d7dd", "#7fb4e6", "#4fc3a1", "#e0b354", "#e8825a", "#b79be0"),
    "light": Palette(
        "#fbfaf7", "#eceae4", "#22272e", "#1f62a8", "#0f6b53", "#7d5700", "#b03a12", "#6a3fb0", False, 4.5
    ),
    "contrast": Palette(
        "#000000", "#1c1c1c", "#ffffff", "#8fd0ff", "#5dffc8", "#ffe14d", "#ff9a70", "#e0c4ff", True, 7.0
    ),
    "blue-orange": Palette(
        "#10141a", "#1a212a", "#d8dbe0", "#9fb4c8", "#56b4e9", "#f0e442", "#ea5f0a", "#cc9fd6", True, 4.5
    ),
    "tritan": Palette(
        "#14141a", "#20202a", "#dcdcdf", "#b9bccb", "#2fd0c8", "#ffb3be", "#ff5a5a", "#9a9aa6", True, 4.5
    ),
}
_FAINT = ("faint", "frame", "band", "bar_rest", "curve_base", "curve_best")  # lines and grounds: no text


def derive(dark: Mapping[str, str], palette: Palette) -> dict[str, str]:
    """The roles of `dark` in another palette's colours."""
    own = PALETTES["dark"]
    if palette is own:
        return dict(dark)
    swap = {getattr(own, name): getattr(palette, name) for name in Palette.__slots__ if name not in _NO_COLOURS}
    return {role: _recoloured(role, text, palette, swap) for role, text in dark.items()}


_NO_COLOURS = ("dark", "contrast")


def _recoloured(role: str, text: str, palette: Palette, swap: Mapping[str, str]) -> str:
    """One role's style: its ground first, since its text must stand out from that."""
    front, on, ground = text.partition("on #")
    if on:
        ground = _moved("#" + ground, palette, swap)
    words = [_front(word, role, palette, swap, ground or palette.background) for word in front.split()]
    return " ".join([*words, *([f"on {ground}"] if on else [])])


def _front(word: str, role: str, palette: Palette, swap: Mapping[str, str], ground: str) -> str:
    if not _HEX.fullmatch(word):
        return word
    least = 1.6 if role in _FAINT else palette.contrast
    return _apart(_moved(word, palette, swap), ground, least)


def _moved(colour: str, palette: Palette, swap: Mapping[str, str]) -> str:
    if colour in swap:
        return swap[colour]
    h, l, s = colorsys.rgb_to_hls(*_rgb(colour))
    if not palette.dark:
        return _hex(colorsys.hls_to_rgb(h, 1 - l * 0.9, min(1.0, s * 1.1)))
    if palette.contrast >= 7:
        return _hex(colorsys.hls_to_rgb(h, l * 0.75 if l < 0.4 else min(0.92, l * 1.15), s))
    return colour


@cache
def _apart(colour: str, ground: str, least: float) -> str:
    """The colour, moved away from the ground until it has so much contrast to it (WCAG 2.1)."""
    h, l, s = colorsys.rgb_to_hls(*_rgb(colour))
    step = 0.02 if luminance(ground) < 0.18 else -0.02
    while contrast(colour, ground) < least and 0 < l < 1:
        l = min(1.0, max(0.0, l + step))
        colour = _hex(colorsys.hls_to_rgb(h, l, s))
    return colour


def luminance(colour: str) -> float:
    """Relative luminance, 0..1 (WCAG 2.1)."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _rgb(colour))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1..21 (WCAG 2.1)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _rgb(colour: str) -> tuple[float, float, float]:
    return int(colour[1:3], 16) / 255, int(colour[3:5], 16) / 255, int(colour[5:7], 16) / 255


def _hex(rgb: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(max(0.0, min(1.0, c)) * 255):02x}" for c in rgb)
