"""Compositor that sends only the changed cells of a line.

For a changed span, Textual 8 also sends the part of the widget's line to the left of it. With a color for every word
that is half of all bytes, which matters over a slow link.
"""

from __future__ import annotations

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor


class SpanUpdate(ChopsUpdate):
    """A partial update that renders each span cut on both sides."""

    def render_segments(self, console: Console) -> str:
        out: list[str] = []
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                first, last = max(x, x1), min(end, x2)
                if strip is not None and first < last:
                    out += (Control.move_to(first, y).segment.text, strip.crop(first - x, last - x).render(console))
        return "".join(out)


class TightCompositor(Compositor):
    """A compositor whose partial updates are `SpanUpdate`s."""

    def render_partial_update(self) -> ChopsUpdate | None:
        update = super().render_partial_update()
        return None if update is None else SpanUpdate(update.chops, update.spans, update.chop_ends)
