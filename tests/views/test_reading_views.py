"""Searches, lineage, curves and costs: the pure functions of the screens for reading."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import views
from core.record import events as e
from core.record.events import Event
from core.record.fold import fold
from core.record.state import BASELINE, Experiment, State
from tests.long_session import long_session
from tests.recorded import story_events
from tui.widgets.diff.changed_words import changed_words, pairs


def state_of(experiments: int = 40, live: bool = False) -> State:
    state = State()
    for event in story_events(experiments=experiments, live=live):
        fold(state, event)
    return state


STATE = state_of()


def found(text: str, state: State) -> set[int]:
    passes = views.search(text, state)
    return {n for n, x in state.experiments.items() if passes(x)}


@pytest.mark.parametrize(
    "text,meant",
    [
        ("verdict:kept", lambda x: x.verdict == "kept"),
        ("verdict:kept,prov", lambda x: x.verdict in ("kept", "provisional")),
        *((words, lambda x: x.kind == "optimizer") for words in ("kind:optimiser", "kind:Optimis", "kind:lr")),
        ("-verdict:kept kind:arch", lambda x: x.verdict != "kept" and x.kind == "architecture"),
        ("metric<1.99 runs>=1", lambda x: x.metric is not None and x.metric < 1.99 and len(x.runs) >= 1),
        ("change<-0.001", lambda x: x.number and x.delta is not None and x.delta < -0.001),
        ('"rotary base"', lambda x: "rotary base" in x.hypothesis.lower()),
        ("ROTARY", lambda x: "rotary" in x.hypothesis.lower()),
        ("is:best", lambda x: x.number == STATE.best),
        ("parent:1", lambda x: x.number and x.parent == 1),
        ("verdict:", lambda x: True),
        ("metric<-", lambda x: False),
    ],
)
def test_search_terms_filter_experiments(text: str, meant: Callable[[Experiment], object]) -> None:
    state = STATE
    assert found(text, state) == {n for n, x in state.experiments.items() if meant(x)}


@given(st.text(alphabet='ab:<>=-"0.9 kindverdictmetric', max_size=40))
def test_no_search_text_raises_an_error(text: str) -> None:
    found(text, STATE)


def test_the_lineage_leads_from_the_baseline_to_the_best() -> None:
    state = state_of(60)
    tree = views.lineage(state)
    trunk = [b.number for b in tree if b.trunk]
    assert trunk[0] == 0 and trunk[-1] == state.best
    assert all(state.experiments[b].parent == a for a, b in pairwise(trunk))
    shown = {b.number for b in tree}
    assert {n for n, x in state.experiments.items() if x.verdict in ("kept", "provisional")} <= shown
    assert len(tree) == len(shown)
    assert all(not b.lanes for b in tree if b.trunk)
    assert all(b.lanes for b in tree if not b.trunk)


def test_a_fork_of_a_discarded_experiment_has_a_branch() -> None:
    state = state_of(12)
    discarded = next(n for n, x in state.experiments.items() if x.verdict == "discarded")
    number = state.next_experiment
    for body in (
        e.BaseChanged(discarded),
        e.ExperimentStarted(experiment=number, parent=discarded, parent_commit="abc", researcher="scripted"),
        e.Judged(experiment=number, verdict="provisional", metric=1.9, delta=-0.1, reason="maybe"),
    ):
        fold(state, Event(state.seq + 1, state.time, body))
    lanes = {b.number: b for b in views.lineage(state)}
    assert lanes[discarded].first and not lanes[number].first and lanes[number].lanes == lanes[discarded].lanes


def test_the_lineage_follows_every_change() -> None:
    """Its rows are those of what is kept, to be repeated, pinned or built on, with all ancestors."""
    state = State()
    for place, (time, bodies) in enumerate(long_session(150)):
        for body in bodies:
            fold(state, Event(state.seq + 1, time, body))
        state.pinned, state.base = frozenset({place % 37, 999}), place % 41 or None
        table = state.experiments
        wanted = {BASELINE}
        for number, x in table.items():
            if x.verdict in ("kept", "provisional") or number in state.pinned or number == state.base:
                while number not in wanted:
                    wanted.add(number)
                    number = table[number].parent
        assert sorted(row.number for row in views.lineage(state)) == sorted(wanted)


def test_a_lineage_of_thousands_needs_no_recursion() -> None:
    state = state_of(1)
    for number in range(2, 2002):
        for body in (
            e.ExperimentStarted(experiment=number, parent=number - 1, parent_commit="abc", researcher="x"),
            e.Judged(experiment=number, verdict="kept", metric=2.0, delta=0.0, reason=""),
        ):
            fold(state, Event(state.seq + 1, state.time, body))
    assert len(views.lineage(state)) == 2002


def falling(floor: float, until: float = 100.0, step: float = 1.0) -> list[tuple[float, float]]:
    return [(t * step, floor + 3 * math.exp(-t * step / 20)) for t in range(int(until / step) + 1)]


def test_a_forecast_follows_the_curve_of_the_best() -> None:
    best, mine = falling(1.0), falling(1.2)
    guess = views.forecast(mine[:50], 100.0, best, "#3")
    assert guess is not None and guess.loss == pytest.approx(mine[-1][1], abs=0.02) and "#3" in guess.method
    assert views.forecast(mine[:5], 100.0, best) is None
    assert views.forecast(mine, 100.0, best) is None  # it has ended
    log_line = [(float(t), 5.0 - 0.5 * math.log(t)) for t in range(1, 60)]
    alone = views.forecast(log_line, 100.0)
    assert alone is not None and alone.loss == pytest.approx(5.0 - 0.5 * math.log(100)) and "log time" in alone.method


def test_curves_are_compared_at_equal_time() -> None:
    assert views.difference(falling(1.2)[:40], falling(1.0, step=0.5)) == pytest.approx(0.2, abs=1e-3)
    assert views.difference(falling(1.2)[:40], []) is None
    assert views.loss_at([(0.0, 4.0), (2.0, 2.0)], 1.0) == 3.0
    assert views.loss_at([(0.0, 4.0), (2.0, 2.0)], 3.0) is None


def test_speed_is_compared_with_the_usual_speed() -> None:
    usual = [(float(t), t * 10.0) for t in range(20)]
    slow = [(float(t), t * 8.0) for t in range(10)]
    rate, share = views.speed(slow, usual) or (0.0, None)
    assert rate == pytest.approx(8.0) and share == pytest.approx(0.8)
    assert views.speed(slow[:2], usual) is None and views.speed(slow, []) == (8.0, None)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1e6, 1e6)), max_size=30), st.floats(0, 1e6))
def test_no_curve_raises_an_error(points: list[tuple[float, float]], end: float) -> None:
    points.sort()
    for other in ([], points, falling(1.0)):
        views.forecast(points, end, other)
        views.difference(points, other)
        views.speed(points, other)


def test_the_time_of_a_slot_adds_up() -> None:
    state = state_of(30, live=True)
    found = views.costs(state, state.time + 5)
    assert found.all.count == state.total and found.all.kept == state.verdicts["kept"]
    assert found.all.usd == pytest.approx(sum(x.usd for x in state.experiments.values()))
    for spent in found.use.split.values():
        assert views.held_seconds(spent) == pytest.approx(found.seconds) and min(spent.values()) >= 0
    assert sum(found.runs.values()) == sum(k.count for k in found.kinds.values())
    assert sum(s.count for s in found.verdicts.values()) == found.all.count
    assert found.per_kept(lambda s: s.count) == found.all.count / found.all.kept
    assert views.costs(State(), 0.0).per_kept(lambda s: s.usd) is None


def test_runs_cost_time_by_the_wall_and_keep_it_while_they_are_scored() -> None:
    state = state_of(3, live=True)
    begun, before = state.time, views.costs(state, state.time)

    def cost_at(seconds: float, body: e.Body) -> tuple[float, float]:
        """What the run has added by then to its kind and to all experiments."""
        fold(state, Event(state.seq + 1, begun + seconds, body))
        found = views.costs(state, begun + seconds)
        return found.kinds["reference"].seconds, found.all.seconds - before.all.seconds

    started = e.RunStarted(run=90, experiment=3, kind="reference", slot="cpu7", seed=1, commit="c", budget="20s cpu")
    assert cost_at(0, started) == cost_at(1, e.RunPhaseChanged(90, 3, "training")) == (0.0, 0.0)
    assert cost_at(12, e.RunPhaseChanged(90, 3, "scoring")) == (11.0, 0.0)
    ended = e.RunFinished(run=90, experiment=3, ended="done", metric=None, seconds=20.0, on_clock=11.0, wall_seconds=16)
    assert cost_at(15, ended) == pytest.approx((11.0, 11.0))


def test_changed_words_are_whole_words() -> None:
    old, new = "RATE = 0.6  # share", "RATE = 0.45  # share"
    before, after = changed_words(old, new)
    assert [old[a:b] for a, b in before] == ["0.6"] and [new[a:b] for a, b in after] == ["0.45"]
    assert changed_words("one thing", "something else entirely") == ((), ())
    assert changed_words("x" * 1000, "y" * 1000) == ((), ())
    assert pairs(["a = 1", "b = 2"], ["b = 3"]) == [(1, 0)]


@given(st.text(max_size=60), st.text(max_size=60))
def test_marks_are_within_their_lines(old: str, new: str) -> None:
    for text, spans in zip((old, new), changed_words(old, new), strict=True):
        assert all(0 <= a < b <= len(text) for a, b in spans)
