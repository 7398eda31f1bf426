"""Sigma against experiments that want to move it, and what is judged by it."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.record import events as e
from core.record.events import Event
from core.record.fold import fold
from core.record.metric import Metric
from core.record.sample import Claim, Prior, Sample
from core.record.state import Run, State
from core.stats.decide import (
    Policy,
    baseline_due,
    judge,
    refresh_due,
    simplicity_allowance,
    stands,
    worse_in_a_row,
)  # fmt: skip
from core.stats.noise import FACTOR, Noise, disagreement, estimate, scatter, session_noise
from core.stats.sigma import baseline_wanted, noise_of, overlooked, refuted_best, simplicity_left

LOSS, SCORE = Metric("loss"), Metric("score", "max")
BASELINE = (10.0, 11.0, 12.0)  # sigma 1
QUIET = Noise(sigma=1.0, df=20, low=0.8, high=1.3)
anything = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6).map(tuple)


@given(anything)
def test_no_experiment_moves_sigma_by_more_than_a_bounded_factor(values: tuple[float, ...]) -> None:
    most = math.sqrt((1 + FACTOR**2) / 2)
    for noise in (session_noise(BASELINE, [values]), session_noise(BASELINE, others=[values])):
        assert 1 / most <= noise.sigma <= most


@given(st.lists(anything, max_size=12))
def test_all_that_were_discarded_together_do_not_either(groups: list[tuple[float, ...]]) -> None:
    assert 0.79 <= session_noise(BASELINE, others=groups).sigma <= 1.59


def test_honest_repeats_make_sigma_better_known() -> None:
    dice = random.Random(1)
    groups = [tuple(dice.gauss(5, 1) for _ in range(3)) for _ in range(40)]
    found = session_noise(groups[0], groups[1:20], groups[20:])
    assert found.df > 30 and found.sigma == pytest.approx(1, abs=0.15)


def test_a_prior_counts_where_it_agrees_with_the_baseline() -> None:
    alone = session_noise(BASELINE)
    assert (alone.sigma, alone.df) == (1.0, 2.0)
    assert session_noise(BASELINE, prior=Prior(1.5, 2)).df == 4
    for far in (8.0, 400.0, 0.3, 0.001):
        assert session_noise(BASELINE, prior=Prior(far, 2)) == alone
    assert session_noise((5.0,) * 3, prior=Prior(1.0, 2)).sigma == 0, "nothing is known of code without noise"


def test_the_scatter_of_discarded_results_bounds_sigma() -> None:
    dice = random.Random(2)
    results = [dice.gauss(0, 0.5) if dice.random() < 0.6 else -dice.expovariate(0.2) for _ in range(80)]
    frozen = session_noise((10.0, 14.0, 12.0), results=results)  # 2.0, four times the truth
    assert 0.5 <= frozen.sigma < 1.0 and frozen.sigma == pytest.approx(scatter(results))
    spoilt = [*results, *(1e6 for _ in range(9))]
    assert scatter(spoilt) < 1.3 * scatter(results)
    assert scatter(results[:19]) == 0 and session_noise(BASELINE, results=results[:19]).sigma == 1
    assert session_noise((9.0, 9.001, 9.002), results=results).sigma == pytest.approx(0.001), "it never raises sigma"
    assert session_noise(BASELINE, results=[3.0] * 50).sigma == 1, "equal results say nothing"


def test_sigma_without_noise_or_without_repeats() -> None:
    assert session_noise((2.0,) * 3, others=[(1.0, 9.0)]).sigma == 0, "one noisy candidate is not the session's noise"
    assert session_noise((2.0,) * 3, [(1.0, 1.1)]).sigma > 0, "the best's is"
    assert session_noise((2.0,)).df == 0
    only = session_noise((2.0,), others=[(1.0, 1.2), (1.0, 1.1), (0.0, 900.0)])
    assert only.df == 2 and only.sigma < 0.2


def test_runs_that_disagree_are_judged_by_their_own_scatter() -> None:
    best = Sample((10.0, 10.5, 9.5))
    assert disagreement((1.0, 2.0), 1.0) == 1 == disagreement((1.0,), 1.0)
    assert disagreement((1.0, 9.0), 1.0) == pytest.approx(32)
    steady = judge(LOSS, best, Sample((8.2, 8.0)), QUIET, Policy())
    wild = judge(LOSS, best, Sample((4.2, 12.0)), QUIET, Policy())  # of the same mean
    assert (steady.verdict, wild.verdict) == ("kept", "discarded") and "its own runs differ" in wild.reason
    # A quarantined one whose repeat is far from its first run is not kept on that repeat alone.
    assert judge(LOSS, best, Sample((-5.0, 6.0)), QUIET, Policy()).verdict == "provisional"
    # Where no other code has a noise, that of its own runs counts.
    exact = estimate([(2.0, 2.0, 2.0)])
    assert judge(LOSS, Sample((2.0,) * 3), Sample((0.5, 3.4)), exact, Policy()).verdict != "kept"


@pytest.mark.parametrize("metric", [LOSS, SCORE])
def test_fewer_lines_cost_no_more_than_the_baselines_sigma_in_all(metric: Metric) -> None:
    worse = 1.0 if metric is LOSS else -1.0
    wide = Noise(sigma=50.0, df=9, low=30, high=90)  # whatever sigma has become
    allowed = simplicity_allowance(metric, 11.0, 11.0, BASELINE, Policy())
    assert allowed == 1.0
    assert simplicity_allowance(metric, 11.0 + 0.7 * worse, 11.0, BASELINE, Policy()) == pytest.approx(0.3)
    assert simplicity_allowance(metric, 11.0 + 2 * worse, 11.0, BASELINE, Policy()) < 0
    assert simplicity_allowance(metric, 11.0, 11.0, (1.0,), Policy()) == math.inf
    best, late = Sample((11.0,) * 20), Sample((11.0 + 40 * worse,) * 3)
    free = judge(metric, best, late, wide, Policy(repeats=2), lines_saved=3)
    capped = judge(metric, best, late, wide, Policy(repeats=2), lines_saved=3, allowance=allowed)
    assert (free.verdict, capped.verdict) == ("kept", "discarded")


def test_the_baseline_runs_again_where_all_is_discarded() -> None:
    policy = Policy()
    assert [baseline_due(3, 0, stood, policy) for stood in (0, 7, 8, 30)] == [False, False, True, True]
    assert [baseline_due(4, 1, stood, policy) for stood in (15, 16)] == [False, True]
    assert not baseline_due(6, 3, 1000, policy) and not baseline_due(3, 0, 1000, Policy(refresh=0))


def test_a_best_runs_again_where_all_candidates_are_much_worse() -> None:
    assert [worse_in_a_row(LOSS, results, 1.0) for results in ([], [3.0], [3, 1, 4, 5], [-9.0])] == [0, 1, 2, 0]
    assert worse_in_a_row(SCORE, [-3.0, -4.0], 1.0) == 2 and worse_in_a_row(LOSS, [3.0] * 9, 0.0) == 9
    lucky = Sample((6.0,), 1, Claim(6.3, 1.0, 1))
    assert [refresh_due(lucky, 4, Policy(), worse) for worse in (0, 1, 2)] == [False, False, True]
    again = replace(lucky, values=(6.0, 6.1))
    assert [refresh_due(again, 8, Policy(), worse) for worse in (3, 4)] == [False, True]
    assert not refresh_due(lucky, 9, Policy(refresh=0), 9) and not refresh_due(Sample(BASELINE), 9, Policy(), 9)


def test_a_best_is_looked_at_again_where_its_runs_disagree() -> None:
    before, best = Sample((10.0, 10.5, 9.5)), Sample((6.0,), 1, Claim(6.3, 1.0, 1))
    assert stands(LOSS, before, best, QUIET, Policy())
    assert stands(LOSS, before, replace(best, values=(6.0, 7.5)), QUIET, Policy())
    assert stands(LOSS, before, replace(best, values=(6.0, 10.2, 6.1, 5.9)), QUIET, Policy()), "one fluke of four"
    assert not stands(LOSS, before, replace(best, values=(6.0, 13.0)), QUIET, Policy())


def _run(number: int, experiment: int, kind: Any, metric: float) -> Run:
    return Run(
        run=number, experiment=experiment, kind=kind, slot="cpu0", seed=number, commit=f"c{experiment}", budget="1s",
        started=0.0, phase=None, ended="done", metric=metric,
    )  # fmt: skip


def _session(*later: float) -> State:
    """A baseline about 10, and #1, kept at 6 on one run; it ran again with the results `later`."""
    state = State()
    started = e.SessionStarted(
        session="s", project="/p", branch="b", commit="c0", metric="loss", direction="min", self_reported=True,
        run_budget="1s", budget={}, edit=("a",), seed=1, version="0",
    )  # fmt: skip
    bodies: list[e.Body] = [
        started,
        e.ExperimentStarted(experiment=0, parent=0, parent_commit="c0", researcher="baseline"),
        e.Calibrated(metric=10.0, sigma=0.5, values=(10.0, 10.5, 9.5)),
        e.NoiseEstimated(sigma=0.5, low=0.3, high=2.2, df=2.0),
        e.ExperimentStarted(experiment=1, parent=0, parent_commit="c0", researcher="x"),
    ]
    for seq, body in enumerate(bodies, 1):
        fold(state, Event(seq=seq, time=float(seq), body=body))
    runs = tuple(_run(n, 0, "baseline", v) for n, v in enumerate((10.0, 10.5, 9.5), 1))
    state.experiments[0] = replace(state.experiments[0], runs=runs)
    own = tuple(_run(n, 1, "repeat" if n > 4 else "candidate", v) for n, v in enumerate((6.0, *later), 4))
    state.experiments[1] = replace(state.experiments[1], runs=own[:1], commit="c1")
    kept = e.Judged(
        experiment=1, verdict="kept", metric=6.1, delta=-4.0, reason="", commit="c1", runs=1, claim=6.1, claim_runs=1.0
    )
    fold(state, Event(seq=9, time=9.0, body=kept))
    state.experiments[1] = replace(state.experiments[1], runs=own)
    return state


def test_a_best_that_its_runs_do_not_bear_out_is_taken_back() -> None:
    assert refuted_best(_session(6.2), Policy()) is None
    state = _session(14.0)
    found = refuted_best(state, Policy())
    assert found is not None and [x.number for x in found] == [1, 0]
    back = e.Judged(experiment=1, verdict="discarded", metric=10.0, delta=0.0, reason="taken back", commit="c1", runs=2)
    fold(state, Event(seq=10, time=10.0, body=back))
    assert (state.best, state.best_metric, state.best_commit, state.stood) == (0, 10.0, "c0", 0)
    assert state.verdicts["kept"] == 0 and state.experiments[1].verdict == "discarded"


def test_what_was_discarded_against_a_number_that_fell_is_judged_again() -> None:
    state = _session()
    for number, metric in ((2, 7.0), (3, 9.9)):
        begun = e.ExperimentStarted(experiment=number, parent=1, parent_commit="c1", researcher="x")
        fold(state, Event(seq=10 * number, time=20.0, body=begun))
        runs = (_run(20 + number, number, "candidate", metric),)
        state.experiments[number] = replace(state.experiments[number], runs=runs, commit=f"c{number}")
        gone = e.Judged(experiment=number, verdict="discarded", metric=metric, delta=metric - 6.1, reason="", runs=1)
        fold(state, Event(seq=10 * number + 1, time=30.0, body=gone))
    assert overlooked(state, Policy()) == []
    best = state.experiments[1]
    state.experiments[1] = replace(best, runs=(*best.runs, *(_run(40 + n, 1, "repeat", 8.0) for n in range(9))))
    assert [x.number for x in overlooked(state, Policy())] == [2], "the best counts as 7.8 now"
    again = e.Judged(experiment=2, verdict="provisional", metric=7.0, delta=-0.8, reason="", runs=1)
    fold(state, Event(seq=50, time=50.0, body=again))
    assert set(state.live) == {2}, "it is live again"
    assert state.judged == 2 and overlooked(state, Policy()) == []
    back = e.Judged(experiment=1, verdict="discarded", metric=10.0, delta=0.0, reason="taken back", commit="c1", runs=2)
    fold(state, Event(seq=51, time=51.0, body=back))
    assert 3 in [x.number for x in overlooked(state, Policy())], "it was built on a best that is none"
    onto = e.Rebased(experiment=3, parent=0, parent_commit="c0", commit="c4")
    fold(state, Event(seq=52, time=52.0, body=onto))
    assert set(state.live) == {2, 3} and state.experiments[3].verdict is None and not state.experiments[3].values
    assert state.verdicts["discarded"] == 1 and 3 not in [x.number for x in overlooked(state, Policy())]


def test_sigma_of_a_state() -> None:
    state = _session(14.0)
    assert noise_of(state).sigma == 0.5, "runs of one code that disagree are no part of sigma"
    assert simplicity_left(state, Policy()) == pytest.approx(0.5)
    assert not baseline_wanted(state, Policy())
    state.stood = 8
    assert baseline_wanted(state, Policy())
    base = state.experiments[0]
    state.experiments[0] = replace(base, runs=(*base.runs, _run(9, 0, "repeat", 10.1)))
    assert not baseline_wanted(state, Policy()) and noise_of(state).df >= 3
