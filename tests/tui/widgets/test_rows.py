"""The leaderboard's rows follow the State: an order that is kept is the order that sorting gives, after every event."""

from __future__ import annotations

import pytest

from core.record.events import Event
from core.record.fold import fold
from core.record.metric import Metric
from core.record.state import BASELINE, State
from tests.long_session import long_session
from tui.widgets.leaderboard.columns import NAMES, is_active, order, ranking
from tui.widgets.leaderboard.rows import Listed


def _sorted(state: State, by: str, reverse: bool, metric: Metric) -> list[int]:
    live = sorted((n for n in state.live if n != BASELINE), reverse=True)
    return [*live, *order([x for n, x in state.experiments.items() if n not in live], by, reverse, metric)]


@pytest.mark.parametrize("direction", ["min", "max"])
def test_kept_orders_are_the_sorted_ones_after_every_event(direction: str) -> None:
    metric, state = Metric("m", direction), State()  # type: ignore[arg-type]
    ways = [(by, reverse) for by in NAMES for reverse in (False, True)]
    turn = 0
    for time, bodies in long_session(40):
        for body in bodies:
            fold(state, Event(state.seq + 1, time, body))
            assert {n for n, x in state.experiments.items() if is_active(x)} == set(state.live) - {BASELINE}
            for by, reverse in ways[turn % 7 :: 7]:
                assert list(ranking(state.experiments, by, reverse, metric)) == _sorted(state, by, reverse, metric)
            turn += 1


def test_a_row_is_found_by_its_experiment() -> None:
    state = State()
    for time, bodies in long_session(60):
        for body in bodies:
            fold(state, Event(state.seq + 1, time, body))
    for by in NAMES:
        rows = ranking(state.experiments, by, False, state.metric)
        plain = Listed(list(rows))
        assert [rows.place(n) for n in plain] == [plain.place(n) for n in plain] == list(range(len(plain)))
        assert rows[3:7] == plain[3:7] and rows[-1] == plain[-1] and rows.place(999) is None
        with pytest.raises(IndexError):
            rows[len(rows)]
