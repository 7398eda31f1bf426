"""The rows on which a model is scored, and the probes that it must pass for its loss to count."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nanotrain import prepare
from nanotrain.corpus import PrepareError
from nanotrain.device.spread import Tolerance
from nanotrain.model_process import LogitRequest, ModelProcess
from nanotrain.weights import Rejected

Tokens = NDArray[np.uint16]
BATCH_ROWS = {"cpu": 32, "cuda": 8}  # rows per request, fixed: an experiment cannot set it
MAX_BATCH_LOGITS = 1 << 27  # per request: with a large vocabulary fewer rows, so that the model's memory is bounded
MIN_BATCH_ROWS = 2  # so that a row can be asked for among other rows
# Positions per row at which the witness is compared: the one before the cut, and others at random. All of short rows.
WITNESS_POSITIONS = 64
MAX_ALL_CUTS = 128  # length of rows up to which the causal probe cuts at every position
SAMPLED_CUTS = 8
# Largest change of a logit when none of its permitted inputs changes: floating-point noise, by device.
MAX_LOGIT_CHANGE = {"cpu": 1e-3, "cuda": 5e-2}
WITNESS_PASSES = {"cpu": 2, "cuda": 4}  # over every row, each with its future changed from another position on
PAYING_CUTS = {"cpu": 0.0, "cuda": 0.25}  # share of the cuts that are put where a look ahead would pay
NOISY_PASSES = 8  # where the device's own noise hides more
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
        self.probes[name] = {"ok": value <= limit, "value": round(max(before, float(value)), 6), "limit": limit}
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

    The token at the cut always changes, if the donor has another one. A cut at T changes nothing.
    """
    others = donors[random.integers(len(donors), size=len(rows))][:, : rows.shape[1]]
    changed = np.where(np.arange(rows.shape[1]) >= cuts[:, None], others, rows)
    for row in np.flatnonzero(cuts < rows.shape[1]):
        old = rows[row, cuts[row]]
        if changed[row, cuts[row]] == old:
            new = others[row][others[row] != old]
            changed[row, cuts[row]] = random.choice(new) if len(new) else old
    return changed


class Examiner:
    """Scores the model in one process and checks its answers against those of a second process, the witness.

    The first process sees each scored row once and nothing else. The witness is started after the first has ended. It
    sees training text, and the beginnings of the scored rows followed by training text: never the future of a scored
    row, so its losses are those of a model that cannot look ahead. Earlier requests, other rows of the batch and order
    differ, too, so they hold no memory of the rows. Code that looks ahead, keeps state between calls or behaves in one
    of the processes only gives different losses in the two.
    """

    def __init__(
        self, rows: Tokens, training_rows: Tokens, lengths: NDArray[np.int64], device: str, spread: float = 0.0
    ) -> None:
        """`lengths` are the bytes of each token, `spread` that of the device (nanotrain/device/spread.py)."""
        self.rows, self.training_rows, self.lengths = rows, training_rows[:, : rows.shape[1] - 1], lengths
        self.inputs, self.targets = rows[:, :-1], rows[:, 1:]
        self.length = self.inputs.shape[1]
        fitting = MAX_BATCH_LOGITS // (self.length * len(lengths))
        self.batch = max(MIN_BATCH_ROWS, min(BATCH_ROWS[device], fitting))
        self.tolerance = Tolerance(MAX_LOGIT_CHANGE[device], spread)
        self.passes = NOISY_PASSES if 0 < spread < math.inf else WITNESS_PASSES[device]
        self.paying = PAYING_CUTS[device]
        self.random = np.random.default_rng()  # seeded by the system: the code under test cannot predict it
        self.nats = np.full(self.targets.shape, np.nan)  # loss of each target in the first process
        self.results = ProbeResults()

    def batches(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """`order` in batches (n, B), begun again so that the last one is full."""
        return np.resize(order, (math.ceil(len(order) / self.batch), self.batch))

    # --- the first process ---

    def score(self, model: ModelProcess) -> None:
        """Every row once, in random order."""
        order = self.random.permutation(len(self.rows))
        places = self.batches(order)
        nats = np.full((len(places), self.batch * self.length), np.nan)
        for index, where, logits in model.stream([LogitRequest(self.inputs[some]) for some in places]):
            nats[index, where] = cross_entropy(logits, self.targets[places[index]].reshape(-1)[where])
        self.nats[order] = nats.reshape(-1, self.length)[: len(order)]
        if np.isnan(self.nats).any():
            raise AssertionError("some rows were not scored")
        sizes = self.lengths[self.targets]
        self.results.nats = math.fsum(self.nats[sizes > 0])  # BOS stands for no text and does not count
        self.results.tokens = int((sizes > 0).sum())
        self.results.bytes = int(sizes.sum())

    # --- the witness ---

    def examine(self, witness: ModelProcess) -> None:
        """Each rule by itself on training text, which gives the violation a name; then the scored rows."""
        self.check_rules(witness)
        self.check_scored_rows(witness)

    def sample(self) -> Tokens:
        chosen: Tokens = self.training_rows[self.random.choice(len(self.training_rows), self.batch, replace=False)]
        return chosen

    def positions(self, cuts: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, K) positions of each row to compare, in order: random ones, that before the row's cut (B,) among them.

        Which of them is the one before the cut does not show.
        """
        if self.length <= WITNESS_POSITIONS:
            return np.tile(np.arange(self.length), (len(cuts), 1))
        chance = self.random.random((len(cuts), self.length))
        chance[np.arange(len(cuts)), cuts - 1] = -1.0
        return np.sort(np.argpartition(chance, WITNESS_POSITIONS, axis=1)[:, :WITNESS_POSITIONS], axis=1)

    def request(self, rows: Tokens, positions: NDArray[np.int64]) -> LogitRequest:
        """For the logits of `rows` at the positions (B, K)."""
        if positions.shape[1] == self.length:
            return LogitRequest(rows)
        return LogitRequest(
            rows, (positions + self.length * np.arange(len(rows))[:, None]).astype(np.int32).reshape(-1)
        )

    def check_rules(self, model: ModelProcess) -> None:
        """The same rows again, among other rows, and with other futures."""
        causal = self.causal_cuts()
        rows, others, positions = self.sample(), self.sample(), self.positions(causal[0])
        kept, place = (self.random.permutation(self.batch)[: self.batch // 2] for _ in range(2))
        elsewhere = positions.copy()
        others[place], elsewhere[place] = rows[kept], positions[kept]
        changed = [change_future(rows, cuts, self.training_rows, self.random) for cuts in causal]
        shape = *positions.shape, len(self.lengths)
        answers = model.logits(
            self.request(rows, positions), self.request(rows, positions), self.request(others, elsewhere),
            *(self.request(some, positions) for some in changed),
        )  # fmt: skip
        before, again, among = (next(answers).reshape(shape) for _ in range(3))
        tops = np.abs(before).max(axis=2)
        _, moved, limit = self.tolerance.worst(np.abs(before - again).max(axis=2), tops)
        reason = f"not deterministic, or keeps a memory between calls: the same rows moved the logits by {moved:.3g}"
        self.results.record("deterministic", moved, limit, reason)
        _, moved, limit = self.tolerance.worst(np.abs(before[kept] - among[place]).max(axis=2), tops[kept])
        reason = f"rows are not independent: changing the other rows of the batch moved a row's logits by {moved:.3g}"
        self.results.record("rows", moved, limit, reason)
        for cuts, after in zip(causal, answers, strict=True):
            moves = np.where(positions < cuts[:, None], np.abs(before - after.reshape(shape)).max(axis=2), 0.0)
            (row, column), moved, limit = self.tolerance.worst(moves, tops)
            where = f"{cuts[row]} on moved the logits at {positions[row, column]}"
            self.results.record("causal", moved, limit, f"not causal: changing the tokens from {where} by {moved:.3g}")

    def causal_cuts(self) -> NDArray[np.int64]:
        """(n, B) cuts: every position of short rows, else a few."""
        most = self.length - 1
        cuts = np.arange(1, most + 1) if self.length <= MAX_ALL_CUTS else np.geomspace(1, most, SAMPLED_CUTS)
        return self.random.permutation(self.batches(cuts.astype(np.int64)).reshape(-1)).reshape(-1, self.batch)

    def check_scored_rows(self, witness: ModelProcess) -> None:
        """The scored rows again, each with other text from some cut on: losses before the cut must agree."""
        names = np.concatenate([self.random.permutation(len(self.rows)) for _ in range(self.passes)])
        batches = self.batches(names)
        cuts = self.cuts(batches.reshape(-1)).reshape(batches.shape)
        positions = [self.positions(some) for some in cuts]
        requests = [
            self.request(change_future(self.inputs[some], ends, self.training_rows, self.random), chosen)
            for some, ends, chosen in zip(batches, cuts, positions, strict=True)
        ]
        nats, tops = np.full((2, len(batches), positions[0].size), np.nan)
        for index, where, logits in witness.stream(requests):
            tops[index, where] = np.maximum(logits.max(axis=1), -logits.min(axis=1))
            targets = np.take_along_axis(self.targets[batches[index]], positions[index], 1)
            nats[index, where] = cross_entropy(logits, targets.reshape(-1)[where])
        glances = []
        for some, ends, chosen, found, top in zip(batches, cuts, positions, nats, tops, strict=True):
            gained = found.reshape(chosen.shape) - np.take_along_axis(self.nats[some], chosen, 1)
            self.record_witness(
                np.where(chosen < ends[:, None], np.abs(gained), 0.0), top.reshape(chosen.shape), chosen, ends
            )
            glances.append(gained[chosen == ends[:, None] - 1])
        self.record_glance(np.concatenate(glances))

    def cuts(self, names: NDArray[np.int64]) -> NDArray[np.int64]:
        """A cut, 1 to length, for each row named: anywhere, or, PAYING_CUTS of them, where a look ahead would pay.

        It would pay where the first process's loss is below one guessed from the frequency of the token in the
        training text, scaled to the same mean.
        """
        counts = 1.0 + np.bincount(self.training_rows.reshape(-1), minlength=len(self.lengths))
        guess = np.log(counts.sum() / counts)[self.targets]
        gains = np.maximum(guess * (self.nats.mean() / guess.mean()) - self.nats, 1e-9).cumsum(axis=1)
        paying = (gains[names] < self.random.random(len(names))[:, None] * gains[names, -1:]).sum(axis=1)
        anywhere = self.random.integers(self.length, size=len(names))
        chosen = self.random.random(len(names)) < self.paying
        return np.where(chosen, np.minimum(paying, self.length - 1), anywhere) + 1

    def record_witness(
        self,
        moves: NDArray[np.float64],
        tops: NDArray[np.float64],
        positions: NDArray[np.int64],
        cuts: NDArray[np.int64],
    ) -> None:
        """`moves` (B, K): difference of the losses in the two processes, in nats, 0 from the cut on."""
        (row, column), moved, limit = self.tolerance.worst(moves, tops, 2.0)
        cut = int(cuts[row])
        how = f"with other text from {cut} on" if cut < self.length else "after other requests and among other rows"
        reason = (
            f"not causal, or keeps a memory between calls: {how}, a second process that never saw the row gave "
            f"the token after {positions[row, column]} a loss that differs by {moved:.3g} nats"
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

    The logits are overwritten. Exponentials are taken in float32 and added in float64. The largest logit of each
    position is subtracted before the sum: next to a logit of 1e17 the few nats of the normalizer would be lost, and a
    thousand equal logits would all count as certain.
    """
    top = logits.max(axis=1, keepdims=True)
    chosen = top[:, 0].astype(np.float64) - logits[np.arange(len(targets)), targets]
    with np.errstate(over="ignore"):  # a difference of two huge logits is minus infinity, whose exponential is 0
        np.exp(np.subtract(logits, top, out=logits), out=logits)
    return np.asarray(np.log(logits.sum(axis=1, dtype=np.float64)) + chosen)
