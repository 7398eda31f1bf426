"""The probes' limits on a device with noise: simulated on the CPU, with the rules of CUDA and short rows."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from nanotrain import score
from nanotrain.device.spread import MAX_TOP, Tolerance, remembered, unit
from nanotrain.model_process import ModelProcess
from nanotrain.probes import Examiner
from nanotrain.weights import Rejected
from tests.nanotrain import warm_python, worlds
from tests.nanotrain.conftest import sparing_other_children

VOCAB, LENGTH, ROWS = 512, 96, 32
LEAK = "        logits[:, :-1] += {} * F.one_hot(tokens[:, 1:], self.config.vocab_size)\n"
RESULT = "torch.tanh(logits.float() / self.config.softcap)\n"


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with warm_python.serving(tmp_path_factory.mktemp("n")) as prefix, sparing_other_children():
        yield [sys.executable, "-I", "-S", str(Path(__file__).with_name("noisy_device.py")), "0.5", *prefix]


def examiner(spread: float) -> Examiner:
    random = np.random.default_rng(1)
    text = random.integers(VOCAB, size=(256 + ROWS, LENGTH + 1), dtype=np.uint16)
    return Examiner(text[:ROWS], text[ROWS:], np.ones(VOCAB, dtype=np.int64), "cuda", spread)


def examined(folder: Path, sandbox: list[str], spread: float, softcap: float, leak: str = "") -> Examiner:
    """Score a model with random weights and logits up to about 30, without a cap."""
    tree = worlds.worktree(folder / "tree", *([(RESULT, RESULT + leak)] if leak else []))
    config = replace(worlds.SMALL, vocab_size=VOCAB, sequence_len=LENGTH, softcap=softcap)
    order = {"worktree": str(tree), "run": str(worlds.saved_run(folder / "run", config)), "device": "cpu", "seed": 1}
    found = examiner(spread)
    for work in (found.examine, found.score, found.examine_again):
        with ModelProcess(sandbox, order | {"imports": []}, VOCAB, math.inf) as model:
            model.load(60, 60)
            work(model)
    found.compare()
    return found


@pytest.mark.slow  # four models on a device with noise: about ten seconds
def test_on_a_device_with_noise_the_honest_pass_and_a_look_ahead_does_not(tmp_path: Path, noisy: list[str]) -> None:
    config = asdict(replace(worlds.SMALL, vocab_size=VOCAB, sequence_len=LENGTH))
    spread = score.measured_spread(examiner(math.inf), noisy, config, "cpu")
    assert spread is not None and 1 <= spread <= 4, "one unit up or down in both of two answers"
    for softcap in (0.0, 15.0):
        found = examined(tmp_path / f"honest{softcap}", noisy, spread, softcap)
        assert all(one["ok"] for one in found.results.probes.values()), found.results.probes
        assert found.passes == found.later_passes == 4
        with pytest.raises(Rejected, match="not causal"):
            examined(tmp_path / f"leak{softcap}", noisy, spread, softcap, LEAK.format(2.0))
    with pytest.raises(Rejected, match="not deterministic"):
        examined(tmp_path / "tight", noisy, 0.0, 0.0)


def test_a_limit_grows_with_the_logits_only_where_the_device_has_noise() -> None:
    moves, tops = np.array([0.04, 0.2, 0.3]), np.array([1.0, 20.0, 1e9])
    assert unit(np.array([1.0, 20.0, 1e9])).tolist() == [2**-7, 2**-3, 2**-2], "no wider than at 32"
    assert unit(np.array([1e9])) == unit(np.array([MAX_TOP]))
    exact = Tolerance(0.05)
    assert exact.worst(moves, tops) == ((2,), 0.3, 0.05)
    assert exact.seen == pytest.approx(0.04 * 2**7)
    assert Tolerance(0.05, 1.0).worst(moves, tops) == ((1,), 0.2, 0.25)
    assert Tolerance(0.05, 1.0).worst(moves, tops, 2.0)[2] == 0.5
    measuring = Tolerance(0.05, math.inf)
    assert measuring.worst(moves, tops)[2] == math.inf


def test_a_spread_is_measured_once_for_each_machine_and_code(tmp_path: Path) -> None:
    path, measured = tmp_path / "spread.json", []

    def measure() -> float | None:
        measured.append(1.0)
        return float(len(measured))

    assert [remembered(path, name, b"x", measure) for name in ("a", "b", "a")] == [1.0, 2.0, 1.0]
    assert remembered(path, "a", b"y", measure) == 3.0
    assert remembered(path, "c", b"x", lambda: None) == 0.0
    assert remembered(path / "spread.json", "a", b"x", lambda: 5.0) == 5.0, "a cache that cannot be written"
    path.write_text("[1, 2")
    assert remembered(path, "a", b"x", measure) == 4.0 and len(json.loads(path.read_text())) == 1


@pytest.mark.slow  # four processes with rows of 2048: about ten seconds
def test_the_scorer_measures_a_gpu_and_scores_by_it(home: Path, tmp_path: Path, noisy: list[str]) -> None:
    exact = ["0" if word == "0.5" else word for word in noisy]
    run = worlds.saved_run(tmp_path / "run", replace(worlds.SMALL, sequence_len=2048, n_layer=1), device="cuda")
    tree, path = worlds.worktree(tmp_path / "tree"), home / "nanotrain" / "spread.json"
    path.unlink(missing_ok=True)
    done = worlds.command(
        "nanotrain.score", AUTORESEARCH_HOME=str(home), AUTORESEARCH_WORKTREE=str(tree),
        AUTORESEARCH_RUN_DIR=str(run), AUTORESEARCH_CAGE=json.dumps(exact),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["metric"] > 1 and all(probe["ok"] for probe in result["probes"].values()), result
    ((machine, spread),) = json.loads(path.read_text()).items()
    assert machine.startswith("a played GPU, torch ") and spread == 0.0
