"""Dots of the progress chart: which experiment each of its cells shows, kept while the table of experiments changes"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from core.ordered import Mark, Ordered
from core.record.state import Experiment
from tui.widgets.progress.series import POINTS, Point

Cell = tuple[int, int]  # row, column
Place = Callable[[Point], Cell]

# Of several experiments in one cell, the one with the highest rank is shown, of equal ones the last.
_RANK = {"kept": 6, "provisional": 5, "running": 4, "discarded": 3, "pruned": 2, "crashed": 1, "rejected": 1}


def rank(point: Point) -> int:
    return 7 if point.certified else _RANK.get(point.verdict, 0)


def topmost(points: Iterable[Point], place: Place) -> dict[Cell, Point]:
    """The point of each cell."""
    found: dict[Cell, Point] = {}
    for point in points:
        cell = place(point)
        if point.verdict != "skipped" and (cell not in found or rank(point) >= rank(found[cell])):
            found[cell] = point
    return found


class KeptDots:
    """The point of each cell, as `topmost` has it, of all experiments of a table by number: after a change only what
    changed is placed again.
    """

    def __init__(self) -> None:
        self._scale: Hashable = None
        self._mark: Mark | None = None
        self._cells: dict[Cell, dict[int, Point]] = {}
        self._cell_of: dict[int, Cell | None] = {}  # None: it is in no cell
        self._top: dict[Cell, Point] = {}

    def follow(
        self, table: Ordered[Experiment], point: Callable[[Experiment], Point | None], place: Place, scale: Hashable
    ) -> dict[Cell, Point]:
        """The point of each cell, not to be changed. `scale`: all that `place` depends on besides the point."""
        if scale != self._scale:
            self._clear(scale)
        self._read(table, point, place)
        if len(self._cell_of) != len(table.places(POINTS)):  # of another table, which a recording has after a jump
            self._clear(scale)
            self._read(table, point, place)
        return self._top

    def _clear(self, scale: Hashable) -> None:
        self._scale, self._mark = scale, None
        self._cells, self._cell_of, self._top = {}, {}, {}

    def _read(self, table: Ordered[Experiment], point: Callable[[Experiment], Point | None], place: Place) -> None:
        for number in table.since(self._mark):
            self._remove(number)
            found = point(table[number])
            if found is not None:
                self._add(found, None if found.verdict == "skipped" else place(found))
        self._mark = table.mark

    def _remove(self, number: int) -> None:
        cell = self._cell_of.pop(number, None)
        if cell is None:
            return
        others = self._cells[cell]
        del others[number]
        if not others:
            del self._cells[cell], self._top[cell]
        elif self._top[cell].number == number:
            self._top[cell] = max(others.values(), key=_turn)

    def _add(self, point: Point, cell: Cell | None) -> None:
        self._cell_of[point.number] = cell
        if cell is None:
            return
        self._cells.setdefault(cell, {})[point.number] = point
        above = self._top.get(cell)
        if above is None or _turn(point) > _turn(above):
            self._top[cell] = point


def _turn(point: Point) -> tuple[int, int]:
    return rank(point), point.number
