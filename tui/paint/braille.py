"""Plots in braille characters, two by four dots in a cell; tick marks of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


class Dots:
    """A grid of `width` × `height` cells with 2·width × 4·height dots; (0, 0) is the upper left dot."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._cells = [[0] * width for _ in range(height)]

    def set(self, x: int, y: int) -> None:
        if 0 <= x < self.width * 2 and 0 <= y < self.height * 4:
            self._cells[y // 4][x // 2] |= _DOTS[x % 2][y % 4]

    def line(self, x0: int, y0: int, x1: int, y1: int) -> None:
        """A straight line (Bresenham)."""
        dx, dy = abs(x1 - x0), -abs(y1 - y0)
        step_x, step_y = (1 if x0 < x1 else -1), (1 if y0 < y1 else -1)
        error = dx + dy
        while True:
            self.set(x0, y0)
            if x0 == x1 and y0 == y1:
                return
            double = 2 * error
            if double >= dy:
                error += dy
                x0 += step_x
            if double <= dx:
                error += dx
                y0 += step_y

    def any(self, column: int, row: int) -> bool:
        return self._cells[row][column] != 0

    def bits(self, column: int, row: int) -> int:
        """The dots of one cell, numbered as in Unicode braille."""
        return self._cells[row][column]

    def text(self, column: int, row: int) -> str:
        """The character of one cell, a space where no dot is set."""
        bits = self._cells[row][column]
        return chr(0x2800 + bits) if bits else " "


def curve(values: Sequence[tuple[float, float]], width: int, height: int, low: float, high: float,
          left: float, right: float) -> Dots:  # fmt: skip
    """A connected line through (x, y) pairs, in the window left..right, low..high (low at the bottom)."""
    dots = Dots(width, height)
    across, down = width * 2 - 1, height * 4 - 1
    wide, tall = (right - left) or 1.0, (high - low) or 1.0
    before: tuple[int, int] | None = None
    for x, y in values:
        px = round((x - left) / wide * across)
        py = round((1 - (min(high, max(low, y)) - low) / tall) * down)
        if before is not None and (px, py) != before:
            dots.line(*before, px, py)
        elif before is None:
            dots.set(px, py)
        before = (px, py)
    return dots


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers in low..high."""
    span = high - low
    if not 0 < span < math.inf or count < 1:
        return [low]
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough), 10 * power)
    first = -(-low // step) * step
    out, value = [], first
    while value <= high + step * 1e-9:
        out.append(round(value, 12))
        value += step
    return out or [low]


def decimals(values: Sequence[float]) -> int:
    """Decimals that show these ticks exactly, at most 6."""
    return next((n for n in range(6) if all(abs(round(v, n) - v) < 1e-9 for v in values)), 6)
