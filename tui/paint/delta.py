"""What goes to the terminal of a painting: the changed cells, and no more.

Textual 8 sends of every changed span also what stands to the left of it in the same widget's line. Over a slow link,
and with a colour for every word, that is half of all bytes.
"""

from __future__ import annotations

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor


class Spans(ChopsUpdate):
    """The spans of a partial update, each cut on both sides."""

    def render_segments(self, console: Console) -> str:
        out: list[str] = []
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                first, last = max(x, x1), min(end, x2)
                if strip is not None and first < last:
                    out += (Control.move_to(first, y).segment.text, strip.crop(first - x, last - x).render(console))
        return "".join(out)


class TightCompositor(Compositor):
    """A compositor whose partial updates are `Spans`."""

    def render_partial_update(self) -> ChopsUpdate | None:
        update = super().render_partial_update()
        return None if update is None else Spans(update.chops, update.spans, update.chop_ends)
