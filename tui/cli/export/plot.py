"""The progress chart as shapes, written as SVG or drawn as PNG with Pillow"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import NamedTuple
from xml.sax.saxutils import escape

from core.record.metric import format_metric
from core.views import Chart, one_line
from tui.paint.braille import ticks

WIDTH, HEIGHT = 960, 480
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 40, 48
INK, DIM, FRAME, BAND, LINE = "#1f2933", "#6b7683", "#d5dae0", "#eceff3", "#1b7f6b"
COLOURS = {"kept": LINE, "provisional": "#c98a12", "discarded": "#98a2ad", "rejected": "#c8552d"}
FAILED = "#c8552d"


class Rect(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    fill: str


class Line(NamedTuple):
    points: tuple[tuple[float, float], ...]
    colour: str
    width: float = 1.0


class Dot(NamedTuple):
    x: float
    y: float
    radius: float
    fill: str
    title: str = ""


class Text(NamedTuple):
    x: float
    y: float  # of the baseline
    text: str
    size: float = 13
    colour: str = DIM
    anchor: str = "start"  # start, middle, end


Shape = Rect | Line | Dot | Text


def shapes(chart: Chart) -> list[Shape]:
    """Each experiment as a dot, the best so far as a step line, the baseline as a band of two sigma."""
    low, high = chart.range()
    last = max(chart.last, 1)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(experiment: float) -> float:
        return LEFT + (right - LEFT) * experiment / last

    def y(value: float) -> float:
        share = (value - low) / (high - low)
        return bottom - (bottom - TOP) * max(-0.02, min(1.02, share))

    found: list[Shape] = [Rect(0, 0, WIDTH, HEIGHT, "#ffffff")]
    if chart.baseline is not None:
        top, base = y(chart.baseline + 2 * (chart.sigma or 0)), y(chart.baseline - 2 * (chart.sigma or 0))
        found.append(Rect(LEFT, max(top, TOP), right - LEFT, max(1.0, min(base, bottom) - max(top, TOP)), BAND))
    for value in ticks(low, high, 6):
        found.append(Line(((LEFT, y(value)), (right, y(value))), FRAME))
        found.append(Text(LEFT - 8, y(value) + 4, format_metric(value).replace("−", "-"), anchor="end"))
    for number in (int(v) for v in ticks(0, last, 6) if v == int(v)):
        found.append(Text(x(number), bottom + 20, str(number), anchor="middle"))
    for number, _ in chart.failed:
        found.append(Line(((x(number), bottom), (x(number), bottom - 7)), FAILED, 1.5))
    for dot in sorted(chart.dots, key=lambda d: d.verdict == "kept"):
        title = f"#{dot.experiment} {dot.verdict} {format_metric(dot.metric)}"
        radius = 4.5 if dot.verdict == "kept" else 3.0
        found.append(Dot(x(dot.experiment), y(dot.metric), radius, COLOURS.get(dot.verdict, DIM), title))
    found += _best(chart, x, y)
    arrow = "lower" if chart.direction == "min" else "higher"
    found.append(Text(LEFT, 24, f"{one_line(chart.name, 40)} ({arrow} is better)", 15, INK))
    found.append(Text(right, 24, "best so far: line   baseline: band of 2 sigma   no result: tick", 12, anchor="end"))
    found.append(Text((LEFT + right) / 2, HEIGHT - 8, "experiment", anchor="middle"))
    return found


def _best(chart: Chart, x: Callable[[float], float], y: Callable[[float], float]) -> list[Shape]:
    if not chart.best:
        return []
    points: list[tuple[float, float]] = []
    for number, value in chart.best:
        if points:
            points.append((x(number), points[-1][1]))
        points.append((x(number), y(value)))
    points.append((x(max(chart.last, 1)), points[-1][1]))
    return [Line(tuple(points), LINE, 2.0)]


def to_svg(found: Sequence[Shape]) -> str:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif" width="{WIDTH}" height="{HEIGHT}">'
    ]
    for s in found:
        if isinstance(s, Rect):
            size = f'width="{s.width:.1f}" height="{s.height:.1f}"'
            parts.append(f'<rect x="{s.x:.1f}" y="{s.y:.1f}" {size} fill="{s.fill}"/>')
        elif isinstance(s, Line):
            points = " ".join(f"{px:.1f},{py:.1f}" for px, py in s.points)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{s.colour}" stroke-width="{s.width}"/>')
        elif isinstance(s, Dot):
            title = f"<title>{escape(s.title)}</title>" if s.title else ""
            parts.append(f'<circle cx="{s.x:.1f}" cy="{s.y:.1f}" r="{s.radius}" fill="{s.fill}">{title}</circle>')
        else:
            style = f'font-size="{s.size}" fill="{s.colour}" text-anchor="{s.anchor}"'
            parts.append(f'<text x="{s.x:.1f}" y="{s.y:.1f}" {style}>{escape(s.text)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def to_png(found: Sequence[Shape], scale: int = 2) -> bytes:
    """The picture as PNG, `scale` pixels a unit; drawn at twice the size and reduced, which smooths it."""
    from PIL import Image, ImageDraw, ImageFont

    big = scale * 2
    image = Image.new("RGB", (WIDTH * big, HEIGHT * big), "white")
    draw = ImageDraw.Draw(image)
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for s in found:
        if isinstance(s, Rect):
            draw.rectangle([s.x * big, s.y * big, (s.x + s.width) * big, (s.y + s.height) * big], fill=s.fill)
        elif isinstance(s, Line):
            draw.line([(px * big, py * big) for px, py in s.points], s.colour, max(1, round(s.width * big)), "curve")
        elif isinstance(s, Dot):
            r = s.radius * big
            draw.ellipse([s.x * big - r, s.y * big - r, s.x * big + r, s.y * big + r], fill=s.fill)
        else:
            font = ImageFont.load_default(s.size * big)
            draw.text((s.x * big, s.y * big), s.text, s.colour, font, anchors[s.anchor])
    small = image.resize((WIDTH * scale, HEIGHT * scale), Image.Resampling.LANCZOS)
    data = BytesIO()
    small.save(data, "PNG", optimize=True)
    return data.getvalue()
