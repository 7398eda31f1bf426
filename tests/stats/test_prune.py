"""Early stopping: what a curve says, the margins learned from ended runs, and curves that are missing, odd or false."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from core.stats import prune
from core.stats.prune import CELLS, LOOKS, MIN_FINISHED, Finished, Margin

NONE = (None,) * len(LOOKS)


def _curve(above: float = 0.0, points: int = 40, noise: float = 0.0, seed: int = 0) -> list[tuple[float, float]]:
    scatter = random.Random(seed)
    shares = [(k + 1) / points for k in range(points)]
    return [(x, 5 - 3 * math.sqrt(x) + above + scatter.gauss(0, noise)) for x in shares]


def _ended(n: int = 12, scatter: float = 0.01, slope: float = 0.02, seed: int = 1) -> list[Finished]:
    """Runs that ended -1 to 6 sigmas worse, and were behind by so much a sigma."""
    luck = random.Random(seed)
    ends = [7 * k / (n - 1) - 1 for k in range(n)]
    return [
        Finished(behind=tuple(slope * end + luck.gauss(0, scatter) for _ in LOOKS), worse=end, curves=3) for end in ends
    ]


def _stop(above: float, margins: Sequence[Margin | None], **more: float) -> int | None:
    gaps = prune.behind(prune.profile(_curve(above)), prune.profile(_curve()))
    return prune.stop_at(gaps, margins, bar=more.get("bar", 0.0), curves=3, since=more.get("since", 0.0))


def test_a_run_far_behind_is_stopped_at_the_third_look() -> None:
    margins = prune.learn(_ended())
    assert _stop(0.5, margins) == prune.AGREE - 1
    assert _stop(0.5, margins, since=0.6) == LOOKS.index(24) + prune.AGREE - 1
    assert _stop(0.0, margins) is None and _stop(-0.5, margins) is None


def test_the_margin_grows_with_the_scatter_and_with_what_may_end_worse() -> None:
    tight, wide = prune.learn(_ended(scatter=0.005))[5], prune.learn(_ended(scatter=0.05))[5]
    assert tight and wide and wide.limit(0, 3) > 2 * tight.limit(0, 3)
    assert tight.limit(1.0, 3) > tight.limit(0.0, 3), "fewer lines may end a little worse"
    assert tight.limit(0.0, 1) > tight.limit(0.0, 3), "one curve is a poorer reference than three"


def test_nothing_is_stopped_before_enough_runs_have_ended() -> None:
    few = prune.learn(_ended(MIN_FINISHED - 1))
    assert few == NONE and _stop(5.0, few) is None
    assert all(prune.learn(_ended(MIN_FINISHED)))


def test_runs_that_ended_far_worse_teach_nothing() -> None:
    far = [Finished(behind=(9.0,) * len(LOOKS), worse=prune.NEAR + 1)] * 50
    assert prune.learn([*far, *_ended()]) == prune.learn(_ended())
    assert prune.learn(far) == NONE


def test_a_late_comparable_run_counts_from_its_share_on() -> None:
    late = [Finished(behind=one.behind, worse=one.worse, since=0.6) for one in _ended()]
    assert [margin is not None for margin in prune.learn(late)] == [end / CELLS >= 0.6 for end in LOOKS]


def test_one_that_caught_up_is_remembered() -> None:
    behind = (0.4,) * len(LOOKS)
    margins = prune.learn([*_ended(), Finished(behind=behind, worse=-2.0, curves=3)])
    assert prune.learn([*_ended(), Finished(behind=behind, worse=-0.5, curves=3)])[5] != margins[5], (
        "that one is no gain"
    )
    assert all(margin and margin.limit(0.0, 3) >= 0.4 for margin in margins) and _stop(0.39, margins) is None


def test_a_spike_stops_no_run() -> None:
    margins = prune.learn(_ended())
    points = [(x, y + (50 if 0.4 < x < 0.46 else 0)) for x, y in _curve()]
    gaps = prune.behind(prune.profile(points), prune.profile(_curve()))
    assert prune.stop_at(gaps, margins, bar=0.0, curves=3) is None


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 1e300, -1e300])
def test_losses_that_are_no_numbers_are_missing(odd: float) -> None:
    margins = prune.learn(_ended())
    assert prune.behind(prune.profile([(x, odd) for x, _ in _curve()]), prune.profile(_curve())) == NONE
    assert prune.behind(prune.profile(_curve()), prune.profile([(x, odd) for x, _ in _curve()])) == NONE
    mixed = [(x, odd if k % 3 == 0 else y + 0.5) for k, (x, y) in enumerate(_curve(points=120))]
    gaps = prune.behind(prune.profile(mixed), prune.profile(_curve()))
    assert prune.stop_at(gaps, margins, bar=0.0, curves=3) is not None, "the rest of it is still a curve"
    assert prune.profile([(odd, 1.0), (0.5, 2.0)]) == prune.profile([(0.5, 2.0)])


def test_telemetry_that_is_missing_ends_or_goes_backward_stops_nothing() -> None:
    margins, reference = prune.learn(_ended()), prune.profile(_curve())
    for points in ([], [(0.5, 9.0)], _curve(0.5)[:5], [(0.1, 9.0), (0.2, 9.0)] * 20, [(7.0, 9.0)], [(-1.0, 9.0)]):
        assert prune.stop_at(prune.behind(prune.profile(points), reference), margins, bar=0.0, curves=1) is None, points
    back = list(reversed(_curve(0.5)))
    assert prune.behind(prune.profile(back), reference) == NONE
    # What jumps ahead leaves a gap that is bridged, and is no more than a line between two points.
    assert prune.profile([(0.0, 1.0), (1.0, 2.0)])[20] == pytest.approx(1.5, abs=0.02)


def test_a_curve_that_ends_early_is_not_extended() -> None:
    gaps = prune.behind(prune.profile(_curve(0.5)[:20]), prune.profile(_curve()))
    assert all(gap is None for gap, end in zip(gaps, LOOKS, strict=True) if end > 22)


def test_a_best_cannot_have_others_stopped_by_a_curve_better_than_its_score() -> None:
    """A false curve: 1 nat below the baseline's, with a score that is 2 sigmas better."""
    ended = _ended()
    margins, first = prune.learn(ended), prune.profile(_curve())
    false, honest = prune.profile(_curve(-1.0)), prune.profile(_curve(-0.04))
    above = prune.bounded(false, first, 2.0, margins)
    assert all(a is not None and a > 0.9 for a in above)
    equal = prune.profile(_curve(-0.04))  # as good as the score of the best says
    gaps = [None if g is None or a is None else g - a for g, a in zip(prune.behind(equal, false), above, strict=True)]
    assert prune.stop_at(tuple(gaps), margins, bar=0.0, curves=1) is None
    without = prune.stop_at(prune.behind(equal, false), margins, bar=0.0, curves=1)
    assert without is not None, "this is what the bound is for"
    small = prune.bounded(honest, first, 2.0, margins)
    assert all(a is not None and a < 0.03 for a in small), "an honest curve is hardly moved"
    assert prune.bounded(first, first, 2.0, prune.learn([])) == NONE, "nothing learned, nothing compared"


def test_children_say_how_far_a_curve_can_be_believed() -> None:
    """A best whose curve is 1 nat lower than its score explains is corrected by what was made from it, and ended."""
    margins, first = prune.learn(_ended()), prune.profile(_curve())
    false = prune.profile(_curve(-1.0))
    above = prune.bounded(false, first, 2.0, margins)
    honest = [Finished(behind=tuple(1.0 + 0.02 * worse for _ in LOOKS), worse=worse) for worse in (0.0, 1.0, 2.0, 3.0)]
    assert prune.corrected(above, honest[:-1], margins) == above, "too few to know better than the score"
    corrected = prune.corrected(above, honest, margins)
    assert all(a is not None and 0.9 < a < 1.1 for a in corrected), "they print the truth"
    same = [Finished(behind=tuple(0.02 * worse for _ in LOOKS), worse=worse) for worse in (0.0, 1.0, 2.0, 3.0)]
    corrected = prune.corrected(above, same, margins)
    assert all(a is not None and a < 0.03 for a in corrected), "their curves are as low: of the code, not of the result"
    low = [Finished(behind=(-5.0,) * len(LOOKS), worse=1.0)] * 9
    assert all(a == 0.0 for a in prune.corrected(above, low, margins)), "never stricter than the curve itself"
    far = [Finished(behind=(-5.0,) * len(LOOKS), worse=prune.NEAR + 1)] * 9
    assert prune.corrected(above, far, margins) == above


def test_a_false_bad_curve_that_ends_well_only_widens_the_margin() -> None:
    margins = prune.learn([*_ended(), Finished(behind=(3.0,) * len(LOOKS), worse=-1.0)])
    assert _stop(1.0, margins) is None


def test_audits_that_went_wrong_end_the_stops() -> None:
    assert prune.believed(0, 0) and prune.believed(9, 0) and prune.believed(3, 1) and prune.believed(30, 2)
    assert not prune.believed(1, 1) and not prune.believed(2, 1) and not prune.believed(9, 2)
    assert not prune.believed(400, 400)


def test_as_many_are_lost_as_the_rule_says() -> None:
    """Of runs that end exactly as their parent, few are stopped, though each is looked at fourteen times."""
    lost = 0
    for seed in range(400):
        luck = random.Random(seed)
        margins = prune.learn(_ended(30, seed=seed))
        gaps = tuple(luck.gauss(0, 0.01) * math.sqrt(4 / 3) for _ in LOOKS)
        lost += prune.stop_at(gaps, margins, bar=0.0, curves=3) is not None
    assert lost <= 8, "2%"
