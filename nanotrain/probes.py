"""The rows on which a model is scored, and the probes that it must pass for its loss to count."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nanotrain import prepare
from nanotrain.corpus import PrepareError
from nanotrain.model_process import ModelProcess
from nanotrain.weights import Rejected

Tokens = NDArray[np.uint16]
BATCH_ROWS = {"cpu": 32, "cuda": 8}  # rows per request, fixed: an experiment cannot set it
# Largest change of a logit when none of its permitted inputs changes: floating-point noise, by device.
MAX_LOGIT_CHANGE = {"cpu": 1e-3, "cuda": 5e-2}
WITNESS_PASSES = {"cpu": 2, "cuda": 8}  # over every row, each with its future changed from another position on
# A small leak of the next token in every row is hidden by noise in single rows, but not in their mean.
MAX_GLANCE_NATS = 1e-3  # per token
MIN_GLANCE_STANDARD_ERRORS = 6.0
TRAINING_ROWS = 4096  # inputs of the probes, and replacements of the changed futures


@dataclass
class ProbeResults:
    """The outcome of scoring: nats and bytes, and the largest value of each probe."""

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0
    probes: dict[str, dict[str, bool | float]] = field(default_factory=dict)

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    def record(self, name: str, value: float, limit: float, reason: str) -> None:
        """Record the largest value of a probe. Raises Rejected with `reason` when it exceeds the limit."""
        before = float(self.probes.get(name, {}).get("value", 0.0))
        self.probes[name] = {"ok": value <= limit, "value": round(max(before, float(value)), 6)}
        if not value <= limit:
            raise Rejected(reason)


def rows_of(tokens: Tokens, lengths: NDArray[np.int64], device: str) -> Tokens:
    """Cut a slice into rows of context + 1 tokens (the last one is the target of the last input).

    `lengths` are the bytes of each token. All rows of a short slice, else evenly spaced rows with EVAL_BYTES of
    targets for the device. Returns (rows, context + 1). Raises PrepareError when there is too little text.
    """
    context, enough, least = prepare.EVAL_CONTEXT[device], prepare.EVAL_BYTES[device], prepare.MIN_EVAL_BYTES
    count = (len(tokens) - 1) // context
    rows = np.stack([tokens[i * context : (i + 1) * context + 1] for i in range(max(1, count))])
    size = int(lengths[rows[:, 1:]].sum())
    if size < least:
        what = f"the slice holds {size} bytes of text, {least} are needed"
        raise PrepareError(what, "prepare a larger corpus: python -m nanotrain.prepare --data DIR")
    if size > 2 * enough:
        wanted = math.ceil(1.1 * count * enough / size)
        rows = rows[np.linspace(0, count - 1, wanted).round().astype(int)]
    return rows


def training_rows_of(train: Tokens, length: int, random: np.random.Generator) -> Tokens:
    """(TRAINING_ROWS, length) rows of training text, from random positions."""
    starts = random.integers(0, max(1, len(train) - length), size=TRAINING_ROWS)
    return np.asarray(train[starts[:, None] + np.arange(length)], dtype=np.uint16)


def change_future(rows: Tokens, cuts: NDArray[np.int64], donors: Tokens, random: np.random.Generator) -> Tokens:
    """Each row (B, T) with the tokens from its cut on replaced by those of a donor row.

    The token at the cut always changes. A cut at T changes nothing.
    """
    others = donors[random.integers(len(donors), size=len(rows))][:, : rows.shape[1]]
    changed = np.where(np.arange(rows.shape[1]) >= cuts[:, None], others, rows)
    vocabulary = np.unique(donors)
    for row in np.flatnonzero(cuts < rows.shape[1]):
        cut = cuts[row]
        if changed[row, cut] == rows[row, cut]:
            changed[row, cut] = random.choice(vocabulary[vocabulary != rows[row, cut]])
    return changed


class Examiner:
    """Scores the model in one process and checks its answers against those of a second process, the witness.

    The first process sees each scored row once and nothing else. The witness is started after the first has ended. It
    sees training text, and the beginnings of the scored rows followed by training text: never the future of a scored
    row, so its losses are those of a model that cannot look ahead. Earlier requests, other rows of the batch and order
    differ, too, so they hold no memory of the rows. Code that looks ahead, keeps state between calls or behaves in one
    of the processes only gives different losses in the two.
    """

    def __init__(self, rows: Tokens, training_rows: Tokens, lengths: NDArray[np.int64], device: str) -> None:
        self.rows, self.training_rows, self.lengths = rows, training_rows[:, : rows.shape[1] - 1], lengths
        self.inputs, self.targets = rows[:, :-1], rows[:, 1:]
        self.batch, self.tolerance = BATCH_ROWS[device], MAX_LOGIT_CHANGE[device]
        self.passes = WITNESS_PASSES[device]
        self.random = np.random.default_rng()  # seeded by the system: the code under test cannot predict it
        self.nats = np.full(self.targets.shape, np.nan)  # loss of each target in the first process
        self.results = ProbeResults()

    # --- the first process ---

    def score(self, model: ModelProcess) -> None:
        """Every row once, in random order."""
        order = self.random.permutation(len(self.rows))
        order = np.concatenate([order, order[: -len(order) % self.batch]])  # so that the last batch is full
        for places, logits in self.answers(model, self.inputs, order):
            for place, values in zip(places, logits, strict=True):
                if np.isnan(self.nats[place, 0]):
                    self.nats[place] = cross_entropy(values, self.targets[place])
        if np.isnan(self.nats).any():
            raise AssertionError("some rows were not scored")
        sizes = self.lengths[self.targets]
        self.results.nats = math.fsum(self.nats[sizes > 0])  # BOS stands for no text and does not count
        self.results.tokens = int((sizes > 0).sum())
        self.results.bytes = int(sizes.sum())

    def answers(
        self, model: ModelProcess, feed: Tokens, order: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """(indices of rows, logits) batch by batch; the next request is sent before the answer is read."""
        places = order.reshape(-1, self.batch)
        model.ask(feed[places[0]])
        for index, some in enumerate(places):
            if index + 1 < len(places):
                model.ask(feed[places[index + 1]])
            yield some, model.answer((self.batch, feed.shape[1]))

    # --- the witness ---

    def examine(self, witness: ModelProcess) -> None:
        """Each rule by itself on training text, which gives the violation a name; then the scored rows."""
        self.check_deterministic(witness)
        self.check_rows(witness)
        self.check_causal(witness)
        self.check_scored_rows(witness)

    def sample(self) -> Tokens:
        return self.training_rows[self.random.choice(len(self.training_rows), self.batch, replace=False)]

    def check_deterministic(self, model: ModelProcess) -> None:
        """The same rows twice: the answers must not depend on random numbers or on earlier calls."""
        rows = self.sample()
        moved = float(np.abs(model.logits(rows) - model.logits(rows)).max())
        reason = f"not deterministic, or keeps a memory between calls: the same rows moved the logits by {moved:.3g}"
        self.results.record("deterministic", moved, self.tolerance, reason)

    def check_rows(self, model: ModelProcess) -> None:
        """The same row among other rows, at another index: the answer must depend on the row only."""
        rows, others = self.sample(), self.sample()
        kept = self.random.permutation(self.batch)[: self.batch // 2]
        place = self.random.permutation(self.batch)[: self.batch // 2]
        others[place] = rows[kept]
        moved = float(np.abs(model.logits(rows)[kept] - model.logits(others)[place]).max())
        reason = f"rows are not independent: changing the other rows of the batch moved a row's logits by {moved:.3g}"
        self.results.record("rows", moved, self.tolerance, reason)

    def check_causal(self, model: ModelProcess) -> None:
        """The same row with another future, changed from every position in turn: earlier logits must not change."""
        length = self.inputs.shape[1]
        cuts = np.arange(1, length) if length <= 128 else np.unique(np.geomspace(1, length - 1, 64).astype(np.int64))
        cuts = self.random.permutation(np.resize(cuts, math.ceil(len(cuts) / self.batch) * self.batch))
        for some in cuts.reshape(-1, self.batch):
            rows = self.sample()
            before = model.logits(rows)
            after = model.logits(change_future(rows, some, self.training_rows, self.random))
            for row, cut in enumerate(some):
                self.record_causal(before[row], after[row], int(cut))

    def record_causal(self, before: NDArray[np.float32], after: NDArray[np.float32], cut: int) -> None:
        """Record the largest change before `cut` of the logits (T, V) of a row that was changed from `cut` on."""
        moves = np.abs(before[:cut] - after[:cut]).max(axis=1)
        where, moved = int(moves.argmax()), float(moves.max())
        reason = f"not causal: changing the tokens from {cut} on moved the logits at {where} by {moved:.3g}"
        self.results.record("causal", moved, self.tolerance, reason)

    def check_scored_rows(self, witness: ModelProcess) -> None:
        """The scored rows again, each with other text from a random cut on: losses before the cut must agree."""
        length = self.inputs.shape[1]
        names = np.concatenate([self.random.permutation(len(self.rows)) for _ in range(self.passes)])
        names = np.concatenate([names, names[: -len(names) % self.batch]])
        cuts = self.random.integers(1, length + 1, size=len(names))
        feed = change_future(self.inputs[names], cuts, self.training_rows, self.random)
        glances = []
        for places, logits in self.answers(witness, feed, np.arange(len(names))):
            for place, values in zip(places, logits, strict=True):
                name, cut = int(names[place]), int(cuts[place])
                gained = cross_entropy(values[:cut], self.targets[name, :cut]) - self.nats[name, :cut]
                self.record_witness(gained, cut, length)
                glances.append(gained[-1])
        self.record_glance(np.array(glances))

    def record_witness(self, gained: NDArray[np.float64], cut: int, length: int) -> None:
        """`gained` (cut,): loss of each target in the witness minus that in the first process, in nats."""
        where = int(np.abs(gained).argmax())
        moved, limit = float(abs(gained[where])), 2 * self.tolerance
        how = f"with other text from {cut} on" if cut < length else "after other requests and among other rows"
        reason = (
            f"not causal, or keeps a memory between calls: {how}, a second process that never saw the row gave "
            f"the token after {where} a loss that differs by {moved:.3g} nats"
        )
        self.results.record("witness", moved, limit, reason)

    def record_glance(self, gained: NDArray[np.float64]) -> None:
        """`gained` (rows,): the same for the last target before each cut. Its mean over rows is 0 without a leak."""
        mean, error = float(gained.mean()), float(gained.std(ddof=1)) / math.sqrt(len(gained))
        significant = mean > MIN_GLANCE_STANDARD_ERRORS * error
        reason = f"not causal: hiding the next token costs {mean:.3g} nats on average (standard error {error:.2g})"
        self.results.record("glance", mean if significant else 0.0, MAX_GLANCE_NATS, reason)


def cross_entropy(logits: NDArray[np.float32], targets: Tokens) -> NDArray[np.float64]:
    """Loss of each target in nats: logits (T, V), targets (T,) -> (T,), by the scorer's own log-softmax.

    The largest logit of each position is subtracted before the sum: next to a logit of 1e17 the few nats of the
    normalizer would be lost, and a thousand equal logits would all count as certain.
    """
    top = logits.max(axis=1, keepdims=True)
    with np.errstate(over="ignore"):  # a difference of two huge logits is minus infinity, whose exponential is 0
        total = np.log(np.exp(logits - top).sum(axis=1, dtype=np.float64))
    chosen = logits[np.arange(len(targets)), targets].astype(np.float64)
    return np.asarray(total + (top[:, 0].astype(np.float64) - chosen), dtype=np.float64)
