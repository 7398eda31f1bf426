"""Rows of a pane: experiments in an order, and where each of them stands"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from core.ordered import Order, Ordered
from core.record.state import Experiment


class Rows(Sequence[int]):
    """Numbers of experiments, the first row first."""

    def place(self, number: int) -> int | None:
        """The row of an experiment; None where it has none."""
        raise NotImplementedError

    def at(self, place: int) -> int:
        """The experiment of a row, from 0."""
        raise NotImplementedError

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> list[int]: ...
    def __getitem__(self, place: int | slice) -> int | list[int]:
        size = len(self)
        if isinstance(place, slice):
            return [self.at(row) for row in range(*place.indices(size))]
        if not -size <= place < size:
            raise IndexError(place)
        return self.at(place % size)


class Listed(Rows):
    """Rows as a list has them."""

    def __init__(self, numbers: Sequence[int] = ()) -> None:
        self._numbers = numbers
        self._places = {number: row for row, number in enumerate(numbers)}

    def __len__(self) -> int:
        return len(self._numbers)

    def at(self, place: int) -> int:
        return self._numbers[place]

    def place(self, number: int) -> int | None:
        return self._places.get(number)


class InOrder(Rows):
    """Rows as orders of a table have them, one order below the other, each with whether it is read from its end. They
    change with the table, and none is made before it is asked for.
    """

    def __init__(self, table: Ordered[Experiment], parts: Sequence[tuple[Order[Experiment], bool]]) -> None:
        self._table = table
        self._parts = parts

    def __len__(self) -> int:
        return sum(len(self._table.places(order)) for order, _ in self._parts)

    def at(self, place: int) -> int:
        for order, from_end in self._parts:
            places = self._table.places(order)
            if place < len(places):
                return places[~place if from_end else place][1]
            place -= len(places)
        raise IndexError(place)

    def place(self, number: int) -> int | None:
        above = 0
        for order, from_end in self._parts:
            size = len(self._table.places(order))
            at = self._table.place_of(order, number)
            if at is not None:
                return above + (size - 1 - at if from_end else at)
            above += size
        return None
