"""Orders and marks of a table: whatever was changed, they are those that are computed from scratch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ordered import Mark, Order, Ordered, starting

BY_TEXT: Order[str] = Order(lambda text: text or None)
BY_LETTERS: Order[str] = Order(lambda text: (text[0], len(text)) if text else None)
CHANGES = st.lists(st.tuples(st.integers(0, 6), st.one_of(st.none(), st.text("abc", max_size=3))), max_size=40)


def change(table: Ordered[str], number: int, text: str | None) -> None:
    if text is not None:
        table[number] = text
    elif number in table:
        del table[number]


@given(CHANGES, CHANGES)
def test_what_is_kept_is_what_would_be_computed(
    first: list[tuple[int, str | None]], then: list[tuple[int, str | None]]
) -> None:
    table, seen, marks = Ordered[str](), dict[int, str](), list[tuple[Mark, dict[int, str]]]()
    for number, text in first:
        change(table, number, text)
    table.places(BY_TEXT), table.places(BY_LETTERS)
    marks.append((table.mark, dict(table)))
    copied, seen = table.copy(), dict(table)
    for number, text in then:
        change(table, number, text)
        marks.append((table.mark, dict(table)))
        for order in (BY_TEXT, BY_LETTERS):
            assert table.places(order) == Ordered(table).places(order)
            assert table.memo(order, "count", len) == len(Ordered(table).places(order))
        assert table.highest == max(table, default=-1)
    for mark, before in marks:
        changed = {n for n in table if before.get(n) is not table[n]}
        assert changed <= set(table.since(mark))
    assert copied == seen and copied.places(BY_TEXT) == Ordered(seen).places(BY_TEXT)


def test_a_follower_reads_what_changed_and_nothing_else() -> None:
    table = Ordered({number: "a" for number in range(100)})
    mark = table.mark
    assert list(table.since(mark)) == [] and len(list(table.since(None))) == 100
    table[7], table[3] = "b", "b"
    copied = table.copy()
    assert list(table.since(mark)) == [3, 7] == list(copied.since(mark))
    copied[5] = "c"  # another table from here on, of which the mark says nothing
    assert set(copied.since(table.mark)) == set(range(100)) and list(table.since(mark)) == [3, 7]
    assert len(list(Ordered(table).since(mark))) == 100
    later = table.mark
    assert next(iter(copied.since(later))) == 5


def test_a_part_of_an_order_begins_with_the_same_words() -> None:
    table = Ordered({1: "abc", 2: "a", 3: "bb", 4: "b", 5: "", 6: "b"})
    places = table.places(BY_LETTERS)
    assert [n for _, n in places[starting(places, "b")]] == [4, 6, 3]
    assert [n for _, n in places[starting(places, "a", 3)]] == [1] and places[starting(places, "c")] == []


def test_a_table_is_changed_in_one_way() -> None:
    table = Ordered({1: "a"})
    with pytest.raises(TypeError):
        table.pop(1)
    with pytest.raises(TypeError):
        table.update({2: "b"})
    with pytest.raises(TypeError):
        table.setdefault(2, "b")
