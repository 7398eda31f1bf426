"""Tables of records by number, in orders that are kept with every change: reading in them does not grow with the table

An `Order` is made once by whoever reads in it, beside the code that reads. A table keeps an order from its first use
on; each change of a record moves it, by bisection.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterator, Mapping
from threading import Lock
from typing import Any, Generic, TypeVar

T = TypeVar("T")
V = TypeVar("V")
Place = tuple[Any, int]  # key of a record, its number
Mark = tuple[object, int]  # a table, and how often it had changed


class Order(Generic[T]):
    """Records by a `key` that depends on the record alone; those whose key is None are left out. Equal keys are in
    order of number. Keys must be comparable with one another: a NaN is none.
    """

    __slots__ = ("key",)

    def __init__(self, key: Callable[[T], Any]) -> None:
        self.key = key


class Ordered(dict[int, T]):
    """Records by number. It is read as any dict, and changed by `table[number] = record` and `del` alone.

    Whoever follows a table notes its `mark`, and asks later for what changed `since`. One thread changes a table and
    reads in its orders; any other may `copy` it meanwhile.
    """

    __slots__ = ("_changed", "_changes", "_copied", "_left_out", "_lock", "_memo", "_orders", "_origin", "highest")

    def __init__(self, records: Mapping[int, T] | None = None, *, left_out: int = 0, highest: int = -1) -> None:
        """`left_out`: how many more records there are than these; `highest`: a number that one of them has."""
        super().__init__(records or {})
        self._lock = Lock()
        self._left_out = left_out
        self.highest = max(self, default=-1) if highest < 0 else highest  # number
        self._origin, self._copied = object(), False  # what this table and its copies have in common
        self._changes = len(self)
        self._changed = {number: place for place, number in enumerate(self, 1)}  # number -> its last change, in order
        self._orders: dict[Order[T], list[Place]] = {}
        self._memo: dict[Order[T], dict[Hashable, Any]] = {}  # what follows from an order, as it is now

    @property
    def size(self) -> int:
        """Number of records, with those that were left out."""
        return len(self) + self._left_out

    def __setitem__(self, number: int, record: T) -> None:
        old = self.get(number)
        with self._lock:
            super().__setitem__(number, record)
            self._changed.pop(number, None)
            self._changed[number] = self._count()
            self.highest = max(self.highest, number)
            self._move(number, old, record)

    def __delitem__(self, number: int) -> None:
        old = self[number]
        with self._lock:
            super().__delitem__(number)
            self._count()
            self._changed.pop(number)
            if number == self.highest:
                self.highest = max(self, default=-1)
            self._move(number, old, None)

    def _count(self) -> int:
        if self._copied:  # from here on it is another table
            self._origin, self._copied = object(), False
        self._changes += 1
        return self._changes

    def _move(self, number: int, old: T | None, new: T | None) -> None:
        for order, places in self._orders.items():
            before = None if old is None else order.key(old)
            after = None if new is None else order.key(new)
            if before == after:
                continue
            if before is not None:
                del places[bisect_left(places, (before, number))]
            if after is not None:
                insort(places, (after, number))
            self._memo.pop(order, None)

    def places(self, order: Order[T]) -> list[Place]:
        """(key, number) of the records in `order`. Not to be changed; it changes with the table."""
        found = self._orders.get(order)
        if found is None:
            keyed = ((order.key(record), number) for number, record in self.items())
            found = sorted(place for place in keyed if place[0] is not None)
            with self._lock:
                self._orders[order] = found
        return found

    def place_of(self, order: Order[T], number: int) -> int | None:
        """Where a record stands in `places`; None where it is not in this order."""
        record = self.get(number)
        key = None if record is None else order.key(record)
        return None if key is None else bisect_left(self.places(order), (key, number))

    def memo(self, order: Order[T], name: Hashable, make: Callable[[list[Place]], V]) -> V:
        """The value of `make`, computed once for as long as nothing changes in `order`."""
        known = self._memo.get(order, {})
        if name in known:
            found: V = known[name]
            return found
        found = make(self.places(order))
        with self._lock:
            self._memo.setdefault(order, {})[name] = found
        return found

    @property
    def mark(self) -> Mark:
        """The table as it is now, for `since`."""
        return self._origin, self._changes

    def since(self, mark: Mark | None) -> Iterator[int]:
        """Numbers of the records that changed since `mark`, the last change first: all of them if it is of another
        table, or of a later time.
        """
        known = mark[1] if mark is not None and mark[0] is self._origin and mark[1] <= self._changes else 0
        for number, at in reversed(self._changed.items()):
            if at <= known:
                return
            yield number

    def copy(self) -> Ordered[T]:
        """A table that stays the same while this one changes."""
        new: Ordered[T] = Ordered.__new__(Ordered)
        new._lock = Lock()
        with self._lock:
            dict.update(new, self)
            new.highest, new._changes, new._left_out = self.highest, self._changes, self._left_out
            new._origin, new._copied = self._origin, True
            new._changed = self._changed.copy()
            new._orders = {order: places.copy() for order, places in self._orders.items()}
            new._memo = {order: known.copy() for order, known in self._memo.items()}
        return new

    def __reduce__(self) -> tuple[type[Ordered[T]], tuple[dict[int, T]]]:
        return Ordered, (dict(self),)

    def _refuse(self, *_: object, **__: object) -> Any:
        raise TypeError("change it by `table[number] = record`")

    pop = popitem = clear = update = setdefault = __ior__ = _refuse


def starting(places: list[Place], *start: Any) -> slice:
    """Of places whose keys are tuples: the part whose keys begin with `start`."""
    return slice(bisect_left(places, (start,)), bisect_left(places, ((*start, _LAST),)))


class _Last:
    """Comes after everything else."""

    def __lt__(self, other: object) -> bool:
        return False

    def __gt__(self, other: object) -> bool:
        return True


_LAST = _Last()
