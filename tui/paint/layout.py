"""How the panes of the main screen stand: shares of width and height, and which are hidden; remembered."""

from __future__ import annotations

from dataclasses import dataclass, field

from tui.user_settings import remember, remembered

PAIRS = (("reasoning", "diff"), ("chart", "board"))  # beside each other
ROWS = ("upper", "middle", "run")  # those whose heights a person sets; the strip of slots takes what it needs
NAMES = ("reasoning", "diff", "chart", "board", "slots", "run")
STEP = 0.04  # of the width or the height, for each press of a key
LEAST, MOST = 0.15, 0.85
TALL = 42  # rows of a terminal from which the run has a place of its own


@dataclass(slots=True)
class Panes:
    """`split`: the left pane's share of each pair's width; `heights`: the rows' shares of what the strip leaves."""

    split: list[float] = field(default_factory=lambda: [0.48, 0.48])
    heights: list[float] = field(default_factory=lambda: [0.38, 0.40, 0.22])
    hidden: set[str] = field(default_factory=set)

    @classmethod
    def recalled(cls) -> Panes:
        """As they stood last time; what does not read stands as at first."""
        kept, out = remembered("panes"), cls()
        for name, values in (("split", out.split), ("heights", out.heights)):
            found = kept.get(name)
            if isinstance(found, list) and len(found) == len(values):
                good = [v for v in found if isinstance(v, (int, float)) and 0.05 <= v <= 0.95]
                if len(good) == len(values):
                    values[:] = [float(v) for v in good]
        hidden = kept.get("hidden")
        out.hidden = {str(name) for name in hidden} & set(NAMES) if isinstance(hidden, list) else set()
        if len(out.hidden) == len(NAMES):
            out.hidden = set()
        return out

    def keep(self) -> None:
        remember(
            "panes",
            {
                "split": [round(v, 3) for v in self.split],
                "heights": [round(v, 3) for v in self.heights],
                "hidden": sorted(self.hidden),
            },
        )

    def shown(self, height: int) -> list[str]:
        """The panes that a screen of `height` rows shows side by side."""
        return [n for n in NAMES if n not in self.hidden and (n != "run" or height >= TALL or self._alone(n))]

    def _alone(self, name: str) -> bool:
        return all(other in self.hidden for other in NAMES if other not in (name, "slots"))

    def hide(self, name: str) -> bool:
        """Hide a pane; False when it is the last one."""
        if not set(NAMES) - self.hidden - {name}:
            return False
        self.hidden.add(name)
        self.keep()
        return True

    def widen(self, name: str, step: float) -> bool:
        """Make a pane wider by a share of the screen (negative: narrower); False where it has nothing beside it."""
        for place, (left, right) in enumerate(PAIRS):
            if name in (left, right) and not self.hidden & {left, right}:
                self.set_split(place, self.split[place] + (step if name == left else -step))
                return True
        return False

    def set_split(self, pair: int, share: float) -> None:
        self.split[pair] = max(LEAST, min(MOST, share))

    def heighten(self, row: int, step: float, rows: list[int]) -> bool:
        """Make a row taller by a share of the height, at the cost of the one below it (of the last: the one above)."""
        if row not in rows or len(rows) < 2:
            return False
        at = rows.index(row)
        other = rows[at + 1] if at + 1 < len(rows) else rows[at - 1]
        return self.move_edge(row, other, step)

    def move_edge(self, row: int, other: int, step: float) -> bool:
        """Give `row` a share of `other`'s height, as far as both keep some."""
        least = 0.1
        step = max(least - self.heights[row], min(step, self.heights[other] - least))
        self.heights[row] += step
        self.heights[other] -= step
        return True


def row_of(name: str) -> int | None:
    """Which of ROWS a pane stands in; None: the strip."""
    for place, pair in enumerate(PAIRS):
        if name in pair:
            return place
    return 2 if name == "run" else None
