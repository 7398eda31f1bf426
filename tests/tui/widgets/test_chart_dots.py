"""The chart's dots follow the table of experiments: what is kept in its cells is what placing every dot again gives."""

from __future__ import annotations

from itertools import islice

import pytest

from core.record import events as e
from core.record.events import Event
from core.record.fold import fold
from core.record.state import State
from tests.long_session import long_session
from tui.widgets.progress.dots import Cell, KeptDots, topmost
from tui.widgets.progress.series import Axis, Point, Series, by_number, series_of

WIDTH, ROWS = 40, 8


def _place(series: Series, point: Point) -> Cell:
    across = (point.x - series.first) / (series.last - series.first)
    down = 0.0 if point.metric is None else (series.high - point.metric) / (series.high - series.low)
    return max(0, min(ROWS - 1, int(down * ROWS))), max(0, min(WIDTH - 1, round(across * (WIDTH - 1))))


def _same(dots: KeptDots, state: State) -> None:
    series = series_of(state)
    kept = dots.follow(state.experiments, by_number, lambda point: _place(series, point), series.window)
    assert kept == topmost(list(series.points), lambda point: _place(series, point))


def _story(experiments: int, seed: int = 1) -> list[list[e.Body]]:
    """A session with verdicts that a log rarely has: skipped, and certified."""
    moments = [bodies for _, bodies in long_session(experiments, seed)]
    judged = {body.experiment: body for bodies in moments for body in bodies if isinstance(body, e.Judged)}
    for number, body in islice(judged.items(), 5, None, 9):
        moments.append([e.Judged(experiment=number, verdict="skipped", metric=None, delta=None, reason="", runs=0)])
        if body.verdict == "discarded":
            certified = {"p": 0.001, "z": 3.1, "gain": 0.04, "low": 0.03, "high": 0.05, "runs": 6}
            moments.append([e.Certified(experiment=number - 1, outcome="certified", reason="", **certified)])  # type: ignore[arg-type]
    return moments


def test_dots_are_those_of_placing_all_again_after_every_event() -> None:
    state, dots = State(), KeptDots()
    for bodies in _story(130):
        for body in bodies:
            fold(state, Event(state.seq + 1, state.time + 20, body))
        _same(dots, state)


def test_dots_after_a_jump_to_another_moment_of_a_recording() -> None:
    dots = KeptDots()
    for experiments in (60, 20, 61, 60):
        state = State()
        for bodies in _story(experiments, seed=experiments):
            for body in bodies:
                fold(state, Event(state.seq + 1, state.time + 20, body))
        _same(dots, state)


@pytest.mark.parametrize("axis", ["experiments", "hours", "dollars"])
def test_a_series_of_the_newest_is_the_end_of_the_whole(axis: Axis) -> None:
    state = State()
    for time, bodies in long_session(80):
        for body in bodies:
            fold(state, Event(state.seq + 1, time, body))
    whole, part = series_of(state, axis), series_of(state, axis, 30)
    assert list(whole.points)[-30:] == list(part.points) and whole.numbers[-30:] == part.numbers
    assert part.first == part.points[0].x and part.last >= part.points[-1].x
    assert whole.steps[-1] == part.steps[-1] and whole.has_results
    assert (
        whole.low < min(metric for _, metric in whole.steps) and whole.point(7) == whole.points[whole.numbers.index(7)]
    )
