"""Layout of the main screen's panes: shares of width and height, hidden panes; saved for the next start."""

from __future__ import annotations

from dataclasses import dataclass, field

from tui.user_settings import remember, remembered

PAIRS = (("reasoning", "diff"), ("chart", "board"))  # side by side
PANE_IDS = ("reasoning", "diff", "chart", "board", "slots", "run")
KEY_STEP = 0.04  # share of the width or the height that a key press changes
MIN_SPLIT, MAX_SPLIT = 0.15, 0.85  # share of a pair's width
MIN_HEIGHT = 0.1  # share of the height
MIN_RUN_ROWS = 42  # of a terminal that shows the run pane beside the others


@dataclass(slots=True)
class PaneLayout:
    """`split`: the left pane's share of each pair's width; `heights`: shares of the upper, middle and run rows."""

    split: list[float] = field(default_factory=lambda: [0.48, 0.48])
    heights: list[float] = field(default_factory=lambda: [0.38, 0.40, 0.22])  # the slots take the rows that they need
    hidden: set[str] = field(default_factory=set)

    @classmethod
    def saved(cls) -> PaneLayout:
        """The layout of the last time; defaults in place of invalid values."""
        kept, out = remembered("panes"), cls()
        for name, values in (("split", out.split), ("heights", out.heights)):
            found = kept.get(name)
            valid = isinstance(found, list) and all(isinstance(v, (int, float)) and 0.05 <= v <= 0.95 for v in found)
            if isinstance(found, list) and valid and len(found) == len(values):
                values[:] = [float(v) for v in found]
        hidden = kept.get("hidden")
        out.hidden = {str(name) for name in hidden} & set(PANE_IDS) if isinstance(hidden, list) else set()
        if len(out.hidden) == len(PANE_IDS):
            out.hidden = set()
        return out

    def save(self) -> None:
        split, heights = ([round(v, 3) for v in shares] for shares in (self.split, self.heights))
        remember("panes", {"split": split, "heights": heights, "hidden": sorted(self.hidden)})

    def shown(self, height: int) -> list[str]:
        """The panes that a screen of `height` rows shows together."""
        run = height >= MIN_RUN_ROWS or not set(PANE_IDS) - self.hidden - {"run", "slots"}
        return [name for name in PANE_IDS if name not in self.hidden and (name != "run" or run)]

    def hide(self, name: str) -> bool:
        """Hide a pane; False when it is the last one."""
        if not set(PANE_IDS) - self.hidden - {name}:
            return False
        self.hidden.add(name)
        self.save()
        return True

    def widen(self, name: str, step: float) -> bool:
        """Make a pane wider by a share of the screen (negative: narrower); False when no pane is beside it."""
        for place, (left, right) in enumerate(PAIRS):
            if name in (left, right) and not self.hidden & {left, right}:
                self.set_split(place, self.split[place] + (step if name == left else -step))
                return True
        return False

    def set_split(self, pair: int, share: float) -> None:
        self.split[pair] = max(MIN_SPLIT, min(MAX_SPLIT, share))

    def heighten(self, row: int, step: float, rows: list[int]) -> bool:
        """Make a row taller by a share of the height, taken from the row below (for the last row: above)."""
        if row not in rows or len(rows) < 2:
            return False
        at = rows.index(row)
        other = rows[at + 1] if at + 1 < len(rows) else rows[at - 1]
        self.move_edge(row, other, step)
        return True

    def move_edge(self, row: int, other: int, step: float) -> None:
        """Give `row` a share of `other`'s height; both keep at least MIN_HEIGHT."""
        step = max(MIN_HEIGHT - self.heights[row], min(step, self.heights[other] - MIN_HEIGHT))
        self.heights[row] += step
        self.heights[other] -= step


def row_of(name: str) -> int | None:
    """Index in `PaneLayout.heights` of a pane's row; None for the slots."""
    for place, pair in enumerate(PAIRS):
        if name in pair:
            return place
    return 2 if name == "run" else None
