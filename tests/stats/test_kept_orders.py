"""What verdicts read from orders of the experiments, against the same computed from all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

from core.ordered import Ordered
from core.record.events import Event
from core.record.fold import fold
from core.record.sample import mean
from core.record.state import BASELINE, KEPT, TRIED, Experiment, State
from core.stats.decide import Policy, judge
from core.stats.noise import in_turn_noise, session_noise
from core.stats.sigma import best_wanted, noise_of, overlooked, refuted_best, simplicity_left
from tests.long_session import long_session

POLICY = Policy()


def states(experiments: int, seed: int) -> Iterator[State]:
    """One State as it is folded, at the end of each transaction: its orders are kept all the way."""
    state = State()
    for time, bodies in long_session(experiments, seed):
        for body in bodies:
            fold(state, Event(state.seq + 1, time, body))
        yield state


def leader(state: State, apart_from: int | None) -> Experiment | None:
    found = state.experiments.get(BASELINE)
    metric = state.baseline.metric if state.baseline else None
    for x in state.experiments.values():
        if x.verdict != "kept" or x.metric is None or x.number in state.pinned or x.number == apart_from:
            continue
        if metric is None or state.metric.gain(metric, x.metric) > 0:
            found, metric = x, x.metric
    return found


def first_results(state: State) -> list[float]:
    judged = [x for n, x in state.experiments.items() if n != BASELINE and x.delta is not None and x.chosen_on]
    judged.sort(key=lambda x: x.ended or math.inf)
    return [x.values[0] - mean(x.values[: x.chosen_on]) + (x.delta or 0.0) for x in judged if x.values]


def noise(state: State) -> object:
    found = [x for n, x in state.experiments.items() if n != BASELINE and len(x.values) > 1]
    alone = state.experiments[BASELINE].values if BASELINE in state.experiments else ()
    if state.timed:
        return in_turn_noise(alone, [x.values for x in found], state.best_metric or 0.0, state.prior)
    bests = [x.values for x in found if x.verdict == "kept"]
    others = [x.values for x in found if x.verdict != "kept"]
    return session_noise(alone, bests, others, state.prior, first_results(state))


def overlooked_ones(state: State) -> list[int]:
    best = state.experiments[state.best]
    left = simplicity_left(state, POLICY)

    def wanted(x: Experiment) -> bool:
        if x.verdict != "discarded" or x.number in state.live or x.number in state.pinned or x.forked or not x.values:
            return False
        if x.parent != state.best:
            return state.experiments[x.parent].verdict == "discarded"
        found = judge(
            state.metric, best.sample, x.sample, noise_of(state), POLICY, lines_saved=-x.lines, allowance=left
        )
        return found.verdict != "discarded"

    return [n for n, x in state.experiments.items() if n != BASELINE and wanted(x)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_numbers_of_a_verdict_are_those_of_all_experiments(seed: int) -> None:
    pinned = 0
    for place, state in enumerate(states(150, seed)):
        assert noise_of(state) == noise(state)
        for apart in (None, state.best):
            assert state.leader(apart_from=apart) == leader(state, apart)
        if place % 40 == 39:
            pinned += 1
            state.pinned = state.pinned | {state.best - pinned}
        for order in (TRIED, *KEPT.values()):
            assert state.experiments.places(order) == Ordered(state.experiments).places(order)
        if state.best_metric is not None and state.best != BASELINE:
            assert [x.number for x in overlooked(state, POLICY)] == overlooked_ones(state)
            best_wanted(state, POLICY), refuted_best(state, POLICY)


@pytest.mark.parametrize("worse", [0.0, 0.004, 0.02, 0.2])
@pytest.mark.parametrize("saved", [0, 3])
def test_what_the_best_no_longer_beats_is_found_wherever_it_is(worse: float, saved: int) -> None:
    """The number of the best is lowered, so that some of what was discarded against it is judged again."""
    state = list(states(120, 4))[-1]
    best = state.experiments[state.best]
    values = tuple(replace(run, metric=(run.metric or 0.0) + worse) for run in best.runs)
    state.experiments[state.best] = replace(best, runs=values, claim=None)
    for number, x in list(state.experiments.items()):
        if number % 3 == 0 and x.verdict == "discarded":
            state.experiments[number] = replace(x, parent=state.best, lines=-saved)
    assert [x.number for x in overlooked(state, POLICY)] == overlooked_ones(state)


def test_what_was_built_on_a_best_that_was_taken_back_is_found() -> None:
    state = list(states(120, 5))[-1]
    kept = [n for n, x in state.experiments.items() if x.verdict == "kept" and n != state.best]
    state.experiments[kept[1]] = replace(state.experiments[kept[1]], verdict="discarded")
    found = [x.number for x in overlooked(state, POLICY)]
    assert found == overlooked_ones(state) and any(state.experiments[n].parent == kept[1] for n in found)
