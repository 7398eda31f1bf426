"""A false curve gains nothing but its own stop: not for itself, and not against others; odd telemetry stops nobody."""

from __future__ import annotations

from pathlib import Path

from tests.engine.runs.pruning.sessions import CHILDREN, HOPELESS, USUAL, change, session

BY = len(USUAL)


def test_a_false_curve_of_the_best_has_no_other_run_stopped(tmp_path: Path) -> None:
    """The best is 3 nats too good by its own words. What says the truth is far behind it, and is kept."""
    lying = change(RATE=0.45, SHOWN=-3.0)
    honest = [change(RATE=rate, SHOWN=0.0) for rate in (0.4, 0.3)]
    state, ends, _ = session(tmp_path, [lying, *CHILDREN, *honest])
    assert state.experiments[1].verdict == "kept"
    assert state.stopped_early == 0 and not any(end.ended == "killed" for end in ends)
    first = state.experiments[BY + 2]  # the second may be judged before it
    assert first.metric is not None and first.metric < 1.02, "a real gain beside a false curve"
    assert state.best == BY + 3


def test_a_false_curve_gains_nothing_for_the_run_that_prints_it(tmp_path: Path) -> None:
    good, bad = change(RATE=0.95, SHOWN=-3.0), change(RATE=0.3, SHOWN=3.0)
    state, ends, _ = session(tmp_path, [*USUAL, good, bad, change(RATE=0.3)])
    flattering, gloomy, honest = (state.experiments[BY + n] for n in (1, 2, 3))
    assert flattering.verdict == "discarded" and flattering.metric and flattering.metric > 1.3, "its number decides"
    assert gloomy.verdict == "pruned" and gloomy.metric is None and gloomy.values == (), "its own stop"
    assert honest.verdict == "kept" and state.best == honest.number
    assert state.sigma and state.sigma < 0.01, "no stopped run is in sigma"
    assert [end.experiment for end in ends if end.ended == "killed"] == [gloomy.number]


def test_telemetry_that_is_odd_stops_no_run(tmp_path: Path) -> None:
    """NaN, infinite, beyond all bounds, backward, ahead of the schedule, or missing. All are scored as they are."""
    odd = [
        change(RATE=0.5, SHOWN="float('nan')"),
        change(RATE=0.5, SHOWN="float('inf')"),
        change(RATE=0.5, SHOWN="-float('inf')"),
        change(RATE=0.5, SHOWN=1e300),
        change(RATE=0.5, SHOWN=5.0, WAY=-1),
        change(RATE=0.5, SHOWN=5.0, AHEAD=999_999),
        change(RATE=0.5, SHOWN=5.0, EVERY=1000),
    ]
    state, ends, _ = session(tmp_path, [*USUAL, *odd, HOPELESS])
    for number in range(BY + 1, BY + 1 + len(odd)):
        x = state.experiments[number]
        assert x.verdict not in ("pruned", "crashed") and x.metric is not None, (x.hypothesis, x.reason)
    assert [end.experiment for end in ends if end.ended == "killed"] == [BY + 1 + len(odd)], "the honest one is stopped"
