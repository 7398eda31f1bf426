"""What is said while the noise of a metric is unknown."""

from __future__ import annotations

import pytest
import tomli

from core.record import events as e
from core.record.state import Baseline, State
from core.stats.silence import gain_word, seed_way, silence, silence_hint


def _state(metric: float, run: str, sigma: float = 0.0) -> State:
    session = e.SessionStarted(
        session="s", project="/p", branch="b", commit="c", metric="m", direction="min", self_reported=True,
        run_budget="1s", budget={}, edit=("a",), seed=1, version="0", program=f'+++\nrun = "{run}"\n[metric]\n+++\n',
    )  # fmt: skip
    noise = e.NoiseEstimated(sigma=sigma, low=sigma, high=sigma, df=2)
    return State(session=session, baseline=Baseline(metric, sigma, 3), noise=noise)


@pytest.mark.parametrize(
    ("run", "line"),
    [
        ("python a.py", "python a.py --seed $AUTORESEARCH_SEED"),
        ("python a.py --seed 42 --x 3", "python a.py --seed $AUTORESEARCH_SEED --x 3"),
        ("python a.py --random-seed=7", "python a.py --random-seed=$AUTORESEARCH_SEED"),
        ("SEED=1 python a.py", "SEED=$AUTORESEARCH_SEED python a.py"),
        ("python a.py train.seed=1", "python a.py train.seed=$AUTORESEARCH_SEED"),
    ],
)
def test_the_hint_is_the_line_that_passes_the_seed_on(run: str, line: str) -> None:
    assert f'run = "{line}"' in silence_hint(_state(1.5, run))


def test_a_whole_number_is_not_called_luck() -> None:
    state = _state(104.0, "python a.py")
    assert "3 runs with different seeds gave the same whole number" in silence(state) and "luck" not in silence(state)
    assert silence_hint(state).startswith("where chance plays a part, give the code its seed")
    assert "luck of a fixed seed" in silence(_state(1.5, "python a.py"))


def test_nothing_is_better_while_the_noise_is_unknown() -> None:
    unknown, known = _state(1.5, "python a.py"), _state(1.5, "python a.py", sigma=0.1)
    assert [gain_word(unknown, gain) for gain in (0.1, -0.1)] == ["lower", "higher"]
    assert [gain_word(known, gain) for gain in (0.1, -0.1)] == ["better", "worse"]


def test_the_line_of_the_hint_is_toml_whatever_quotes_the_command_has() -> None:
    run = """python -c "print('a\\\\d')" x"""
    line = seed_way(run).partition("program.md: ")[2].partition(", or read")[0]
    assert tomli.loads(line) == {"run": f"{run} --seed $AUTORESEARCH_SEED"}
    assert 'run = \'sh -c "a b" x --seed' in silence_hint(_state(1.5, r"sh -c \"a b\" x"))
