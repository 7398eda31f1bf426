"""Lineage of the best: kept and pending experiments and their parents, as rows of a tree"""

from __future__ import annotations

from dataclasses import dataclass

from core.ordered import Order
from core.record.state import BASELINE, Experiment, State

LEADING: Order[Experiment] = Order(lambda x: 0 if x.verdict in ("kept", "provisional") else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageRow:
    """One row of the tree. `lanes`: for each column to its left, whether a line continues below this row.

    `first`: it begins a branch, drawn with a corner. `trunk`: it is between the baseline and the best; a trunk row has
    no lanes.
    """

    number: int
    lanes: tuple[bool, ...]
    first: bool
    trunk: bool


def lineage(state: State) -> list[LineageRow]:
    """Kept, provisional, pinned and forked experiments with all their ancestors, the baseline first.

    Children follow their parent one column further in, except one that continues the parent's column below them: on the
    trunk the next step to the best, elsewhere the child with the most descendants.
    """
    children = _children(state)
    trunk = set(_ancestors(state, state.best if state.best_metric is not None else BASELINE))
    size = _sizes(children)
    out: list[LineageRow] = []
    todo: list[tuple[int, tuple[bool, ...], bool]] = [(BASELINE, (), False)]  # a stack, since chains may be long
    while todo:
        number, lanes, first = todo.pop()
        out.append(LineageRow(number=number, lanes=lanes, first=first, trunk=number in trunk))
        below = sorted(children.get(number, []))
        heirs = [n for n in below if n in trunk] if number in trunk else below
        heir = max(heirs, key=lambda n: (size[n], n), default=None)
        branches = [n for n in below if n != heir]
        if heir is not None:
            todo.append((heir, lanes, False))
        todo += [(n, (*lanes, heir is not None or n != branches[-1]), True) for n in reversed(branches)]
    return out


def _shown(state: State) -> set[int]:
    """Experiments with a row of their own accord."""
    chosen = {BASELINE, *state.pinned} | ({state.base} if state.base is not None else set())
    return (chosen & state.experiments.keys()) | {number for _, number in state.experiments.places(LEADING)}


def _ancestors(state: State, number: int) -> list[int]:
    """`number` and its ancestors, down to the baseline."""
    found: dict[int, None] = {}
    while number not in found:
        found[number] = None
        x = state.experiments.get(number)
        if number == BASELINE or x is None:
            break
        number = x.parent
    return list(found)


def _children(state: State) -> dict[int, list[int]]:
    wanted: set[int] = {BASELINE}
    for number in _shown(state):
        while number not in wanted:
            wanted.add(number)
            x = state.experiments.get(number)
            number = x.parent if x is not None else BASELINE
    children: dict[int, list[int]] = {}
    for number in wanted - {BASELINE}:
        parent = state.experiments[number].parent if number in state.experiments else BASELINE
        children.setdefault(parent if parent in wanted else BASELINE, []).append(number)
    return children


def _sizes(children: dict[int, list[int]]) -> dict[int, int]:
    """Number of descendants of each, itself included."""
    order, todo = [], [BASELINE]
    while todo:
        number = todo.pop()
        order.append(number)
        todo += children.get(number, [])
    size: dict[int, int] = {}
    for number in reversed(order):
        size[number] = 1 + sum(size[n] for n in children.get(number, []))
    return size
