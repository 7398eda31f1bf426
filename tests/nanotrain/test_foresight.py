"""The worst case of a scoring: whatever one process was asked, the other knows. Models here are tables of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from nanotrain.foresight import advantage, reference
from nanotrain.model_process import LogitRequest, ModelProcess
from nanotrain.probes import Examiner
from nanotrain.weights import Rejected

VOCAB, LENGTH, ROWS = 40, 64, 192
RANDOM = np.random.default_rng(5)
PAIRS = RANDOM.normal(scale=1.5, size=(VOCAB, VOCAB))  # logits of the next token


def text(count: int) -> NDArray[np.uint16]:
    """Rows of a language in which PAIRS is the truth."""
    chances = np.exp(PAIRS) / np.exp(PAIRS).sum(axis=1, keepdims=True)
    edges = chances.cumsum(axis=1)
    rows = np.zeros((count, LENGTH + 1), dtype=np.uint16)
    for place in range(LENGTH):
        drawn = RANDOM.random((count, 1)) > edges[rows[:, place]]
        rows[:, place + 1] = np.minimum(drawn.sum(axis=1), VOCAB - 1)
    return rows


TEXT = text(ROWS + 1000)
Answer = Callable[[NDArray[np.uint16], NDArray[Any]], None]  # changes the logits of rows in place


class Told:
    """Stands for both processes. After the rules it answers by `witness`, and by `scored` when it is scored."""

    def __init__(self) -> None:
        self.asked: list[NDArray[np.uint16]] = []
        self.examiner = Examiner(TEXT[:ROWS], TEXT[ROWS:], np.ones(VOCAB, dtype=np.int64), "cpu")

    def stream(self, requests: Sequence[LogitRequest]) -> Iterator[tuple[int, slice, NDArray[np.float32]]]:
        for index, (rows, _) in enumerate(requests):
            logits = PAIRS[rows].astype(np.float32)
            self.answer(rows, logits)
            yield index, slice(0, rows.size), logits.reshape(-1, VOCAB)

    def logits(self, *requests: LogitRequest) -> Iterator[NDArray[np.float32]]:
        """As to what is asked before any row is shown."""
        return (PAIRS[request.tokens].astype(np.float32) for request in requests)

    def isolate(self) -> None:
        """It holds nothing."""

    def run(self, witness: Answer, scored: Answer) -> Examiner:
        model = cast(ModelProcess, self)
        self.answer = witness
        self.examiner.ask(model, self.examiner.cuts)
        self.answer = scored
        self.examiner.score(model)
        self.examiner.compare()
        return self.examiner

    def honest(self, rows: NDArray[np.uint16], logits: NDArray[Any]) -> None:
        """As the table says."""

    def beyond_the_cuts(self, rows: NDArray[np.uint16], logits: NDArray[Any]) -> None:
        """Looks ahead a little where the witness was not asked: it knows all cuts."""
        known = {TEXT[row, :-1].tobytes(): cut for row, cut in enumerate(self.examiner.cuts.max(axis=0))}
        for row, some in zip(rows, logits, strict=True):
            for place in range(known[row.tobytes()], LENGTH - 1):
                some[place, row[place + 1]] += 0.5

    def everywhere(self, rows: NDArray[np.uint16], logits: NDArray[Any]) -> None:
        """Looks ahead, and says of a beginning what was said of it before: of its next token then."""
        for row, some in zip(rows, logits, strict=True):
            self.asked.append(row)
            agree = np.cumprod(np.stack(self.asked) == row, axis=1)
            for place in range(LENGTH - 1):
                some[place, self.asked[int(agree[:, place].argmax())][place + 1]] += 0.7


def test_an_honest_model_passes_and_its_number_is_the_mean_of_its_losses() -> None:
    told = Told()
    found = told.run(told.honest, told.honest)
    inputs, targets = TEXT[:ROWS, :-1], TEXT[:ROWS, 1:]
    losses = np.log(np.exp(PAIRS).sum(axis=1))[inputs] - PAIRS[inputs, targets]
    assert found.results.nats == pytest.approx(losses.sum(), rel=1e-6)
    assert all(probe["ok"] for probe in found.results.probes.values())
    assert float(found.results.probes["witness"]["value"]) < 1e-5


def test_a_look_ahead_that_agrees_with_all_it_was_told_is_measured_by_its_gain() -> None:
    for name in ("beyond_the_cuts", "everywhere"):
        told = Told()
        witness = told.honest if name == "beyond_the_cuts" else told.everywhere
        with pytest.raises(Rejected, match="its answers are better where it had been shown what follows"):
            told.run(witness, getattr(told, name))
        probes = told.examiner.results.probes
        assert probes["witness"]["ok"] and probes["glance"]["ok"], "they agree before each cut"
        assert float(probes["foresight"]["value"]) > 8, name


def test_the_tests_are_in_standard_errors_and_rare_events_do_not_shrink_them() -> None:
    random, values = np.random.default_rng(2), []
    for _ in range(15):
        losses = random.gamma(1.2, 2.5, size=(200, LENGTH))
        losses[random.random(losses.shape) > 0.003] += 1.0  # very few are below one
        cuts = np.sort(random.integers(1, LENGTH + 1, size=(2, 200)), axis=0)
        clean = np.stack([losses[np.arange(200), some - 1] for some in cuts])
        plain = random.normal(size=(2, 200, LENGTH))
        asked = np.arange(LENGTH) < cuts.max(axis=0)[:, None]
        chance = 1 - (1 - (LENGTH - np.arange(LENGTH)) / LENGTH) ** 2
        values.append(advantage.of_the_scored(clean, cuts, losses, plain))
        values.append(advantage.of_the_unasked(asked, chance, losses, plain))
        chances = random.random((300, 9)) ** 20
        values.append(advantage.of_the_shown(chances[:, 0], chances[:, 1:]))
    assert -2 < np.mean(values) < 2 and np.max(values) < 5
    assert advantage.standard_errors(np.zeros(3), 0.0) == 0.0
    assert advantage.of_the_shown(chances[:, 0] + 0.1, chances[:, 1:]) > advantage.MAX_STANDARD_ERRORS


def test_a_few_enormous_losses_hide_no_gain() -> None:
    random = np.random.default_rng(3)
    losses = random.gamma(1.2, 2.5, size=(900, LENGTH))
    cuts = np.sort(random.integers(1, LENGTH + 1, size=(2, 900)), axis=0)
    clean = np.stack([losses[np.arange(900), some - 1] for some in cuts])
    scored = np.minimum(losses, 4.0)
    scored[np.arange(900), cuts[0] - 1], scored[np.arange(900), cuts[1] - 1] = clean
    scored[7:11, 60] = 3000.0
    assert advantage.of_the_scored(clean, cuts, scored, np.zeros((1, 900, LENGTH))) > advantage.MAX_STANDARD_ERRORS


def test_plain_counts_explain_most_of_what_a_table_of_pairs_does() -> None:
    losses = np.log(np.exp(PAIRS).sum(axis=1))[TEXT[:ROWS, :-1]] - PAIRS[TEXT[:ROWS, :-1], TEXT[:ROWS, 1:]]
    plain = reference.guesses(TEXT[:ROWS], TEXT[ROWS:, :-1], VOCAB)
    assert plain.shape == (2, ROWS, LENGTH) and np.isfinite(plain).all()
    assert advantage.residuals(losses, plain).var() < 0.1 * losses.var()
