"""Loss curves of runs: read from the engine's files as they grow, and drawn over one another."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style
from textual.strip import Strip

from core.client import FileTail
from core.record.budget import format_seconds
from core.session.paths import SessionPaths
from tui.paint.braille import Dots, curve
from tui.paint.canvas import joined
from tui.paint.cells import Part, strip_of
from tui.paint.theme import Look

MAX_POINTS = 4000  # of a run
MAX_FILE_BYTES = 4_000_000
Points = list[tuple[float, float]]


class _KnownCurve:
    def __init__(self, paths: SessionPaths, run: int) -> None:
        self.tail = FileTail(paths.run(run) / "curve.tsv", limit=MAX_FILE_BYTES)
        self.losses: Points = []
        self.steps: Points = []

    def poll(self) -> None:
        for line in self.tail.lines():
            if found := _point(line):
                seconds, step, loss = found
                self.losses.append((seconds, loss))
                self.steps.append((seconds, step))
        while len(self.losses) > MAX_POINTS:  # drop every other point of the older half
            half = len(self.losses) // 2
            del self.losses[1:half:2], self.steps[1:half:2]


class Curves:
    """The loss curves of the runs on a screen, read as they grow."""

    def __init__(self, paths: SessionPaths) -> None:
        self._paths = paths
        self._known: dict[int, _KnownCurve] = {}

    def poll(self, runs: set[int]) -> None:
        """Read the new points of `runs`, and drop all other runs."""
        self._known = {run: self._known.get(run) or _KnownCurve(self._paths, run) for run in runs}
        for known in self._known.values():
            known.poll()

    def of(self, run: int | None) -> Points:
        """(seconds, loss) pairs."""
        return self._known[run].losses if run in self._known else []

    def steps_of(self, run: int | None) -> Points:
        """(seconds, step) pairs."""
        return self._known[run].steps if run in self._known else []


def _point(line: str) -> tuple[float, float, float] | None:
    """Seconds, step and loss of a line `seconds<TAB>step<TAB>loss`; None for any other line."""
    fields = line.split("\t")
    try:
        seconds, step, loss = float(fields[0]), float(fields[1]), float(fields[-1])
    except (ValueError, IndexError):
        return None
    return (seconds, step, loss) if len(fields) >= 3 and abs(loss) < 1e9 and 0 <= seconds < 1e9 else None


def overlay(lines: Sequence[tuple[Points, str]], end: float, width: int, height: int, look: Look) -> list[Strip]:
    """Curves of (points, role) in one window, the last one on top; x from 0 to `end` seconds."""
    shown = [(points, role) for points, role in lines if len(points) >= 2]
    rows, cells = height - 1, width - 8
    if not shown or rows < 2 or cells < 8:
        return []
    low, high = window([points for points, _ in shown], 0.9 if rows > 12 else 0.75)
    drawn = [
        (curve(_below(points, high), cells, rows, low, high, 0.0, end or 1.0), look[role]) for points, role in shown
    ]
    out = []
    for y in range(rows):
        label = high if y == 0 else low if y == rows - 1 else None
        text = f"{label:7.4g} " if label is not None else " " * 8
        parts: list[Part] = [(text, look["dim"]), *joined([_cell(drawn, x, y, look["text"]) for x in range(cells)])]
        out.append(strip_of(parts, width, look["text"]))
    right = format_seconds(end)
    axis = " " * 8 + "0" + " " * max(1, cells - 1 - len(right)) + right
    return [*out, strip_of([(axis, look["faint"])], width, look["text"])]


def _below(points: Points, high: float) -> Points:
    """The points from the last one before the curve enters the window, which ends at `high`."""
    first = next((i for i, (_, y) in enumerate(points) if y <= high), 0)
    return points[max(0, first - 1) :]


def window(curves: Sequence[Points], share: float = 0.9) -> tuple[float, float]:
    """Lowest and highest loss to show: the high losses of the first steps would flatten the rest of the curve."""
    values = sorted(y for points in curves for _, y in points)
    low, high = values[0], values[min(len(values) - 1, int(len(values) * share))]
    return low, high if high > low else low + (abs(low) * 0.01 or 1.0)


def _cell(drawn: Sequence[tuple[Dots, Style]], x: int, y: int, blank: Style) -> Part:
    bits, style = 0, blank
    for dots, own in drawn:
        if own_bits := dots.bits(x, y):
            bits, style = bits | own_bits, own
    return (chr(0x2800 + bits) if bits else " ", style)
