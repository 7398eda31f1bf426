"""24-bit color schemes: the dark one, and the others derived from it.

A scheme names the colors that carry meaning. The other colors of the dark look (frames, backgrounds, code) are
derived: lightness inverted for a light background, contrast raised for a high-contrast scheme. `blue-orange` and
`tritan` stay distinct under red-green and blue-yellow color blindness (after Okabe and Ito, 2008; tests simulate it).
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
class ColorScheme:
    """Colors as #rrggbb. `contrast`: the minimum contrast ratio of colored text against its background."""

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


COLOR_SCHEMES: Mapping[str, ColorScheme] = {
    "dark": ColorScheme(BACKGROUND, "#1a212a", "#d3d7dd", "#7fb4e6", "#4fc3a1", "#e0b354", "#e8825a", "#b79be0"),
    "light": ColorScheme(
        "#fbfaf7", "#eceae4", "#22272e", "#1f62a8", "#0f6b53", "#7d5700", "#b03a12", "#6a3fb0", False, 4.5
    ),
    "contrast": ColorScheme(
        "#000000", "#1c1c1c", "#ffffff", "#8fd0ff", "#5dffc8", "#ffe14d", "#ff9a70", "#e0c4ff", True, 7.0
    ),
    "blue-orange": ColorScheme(
        "#10141a", "#1a212a", "#d8dbe0", "#9fb4c8", "#56b4e9", "#f0e442", "#ea5f0a", "#cc9fd6", True, 4.5
    ),
    "tritan": ColorScheme(
        "#14141a", "#20202a", "#dcdcdf", "#b9bccb", "#2fd0c8", "#ffb3be", "#ff5a5a", "#9a9aa6", True, 4.5
    ),
}
_FAINT = ("faint", "frame", "band", "bar_rest", "curve_base", "curve_best")  # roles of lines and fills, not of text
MIN_FAINT_CONTRAST = 1.6  # of these roles, in every derived scheme


def derive(dark: Mapping[str, str], scheme: ColorScheme) -> dict[str, str]:
    """The styles of `dark`, role by role, in the colors of `scheme`."""
    own = COLOR_SCHEMES["dark"]
    if scheme is own:
        return dict(dark)
    swap = {getattr(own, n): getattr(scheme, n) for n in ColorScheme.__slots__ if n not in ("dark", "contrast")}
    return {role: _recolored(role, text, scheme, swap) for role, text in dark.items()}


def _recolored(role: str, text: str, scheme: ColorScheme, swap: Mapping[str, str]) -> str:
    """One role's style: the background first, since the text's contrast is measured against it."""
    front, on, background = text.partition("on #")
    if on:
        background = _moved("#" + background, scheme, swap)
    least = MIN_FAINT_CONTRAST if role in _FAINT else scheme.contrast
    words = [
        _with_contrast(_moved(word, scheme, swap), background or scheme.background, least)
        if _HEX.fullmatch(word)
        else word
        for word in front.split()
    ]
    return " ".join([*words, *([f"on {background}"] if on else [])])


def _moved(color: str, scheme: ColorScheme, swap: Mapping[str, str]) -> str:
    if color in swap:
        return swap[color]
    h, l, s = colorsys.rgb_to_hls(*_rgb(color))
    if not scheme.dark:
        return _hex(colorsys.hls_to_rgb(h, 1 - l * 0.9, min(1.0, s * 1.1)))
    if scheme.contrast >= 7:
        return _hex(colorsys.hls_to_rgb(h, l * 0.75 if l < 0.4 else min(0.92, l * 1.15), s))
    return color


@cache
def _with_contrast(color: str, background: str, least: float) -> str:
    """The color, its lightness changed until its contrast ratio to the background is at least `least` (WCAG 2.1)."""
    h, l, s = colorsys.rgb_to_hls(*_rgb(color))
    step = 0.02 if luminance(background) < 0.18 else -0.02
    while contrast(color, background) < least and 0 < l < 1:
        l = min(1.0, max(0.0, l + step))
        color = _hex(colorsys.hls_to_rgb(h, l, s))
    return color


def luminance(color: str) -> float:
    """Relative luminance, 0..1 (WCAG 2.1)."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _rgb(color))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colors, 1..21 (WCAG 2.1)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _rgb(color: str) -> tuple[float, float, float]:
    return int(color[1:3], 16) / 255, int(color[3:5], 16) / 255, int(color[5:7], 16) / 255


def _hex(rgb: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(max(0.0, min(1.0, c)) * 255):02x}" for c in rgb)
