"""The rows on which a model is scored, and the probes that it must pass for its loss to count."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nanotrain import prepare
from nanotrain.corpus import PrepareError
from nanotrain.device.spread import Tolerance
from nanotrain.foresight import advantage
from nanotrain.foresight.reference import guesses
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
# Passes of the witness over every row, each with its future changed from another position on; and of a second witness,
# which is asked after the model was scored. Where the device's own noise hides more, twice as many.
WITNESS_PASSES = {"cpu": 2, "cuda": 2}
LATER_PASSES = {"cpu": 0, "cuda": 2}
PAYING_CUTS = 0.5  # share of the second witness's cuts that are put where a look ahead would pay
DECOYS = 8  # tokens that could have stood after a cut, to which the one that does is compared
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
    at = np.minimum(cuts, rows.shape[1] - 1)
    every = np.arange(len(rows))
    for row in np.flatnonzero((cuts < rows.shape[1]) & (changed[every, at] == rows[every, at])):
        old = rows[row, cuts[row]]
        new = others[row][others[row] != old]
        changed[row, cuts[row]] = random.choice(new) if len(new) else old
    return changed


@dataclass(frozen=True, slots=True)
class Beginnings:
    """A batch of scored rows as a witness answered them, each with other text from its cut on.

    `names` and `cuts` (B,); `positions` asked for, `nats` of their targets and `tops`, the largest logits, (B, K);
    `shown` (B,) the probability, just before the cut, of the token that was put there, `decoys` (B, DECOYS) of others.
    """

    names: NDArray[np.int64]
    cuts: NDArray[np.int64]
    positions: NDArray[np.int64]
    nats: NDArray[np.float64]
    tops: NDArray[np.float64]
    shown: NDArray[np.float64]
    decoys: NDArray[np.float64]

    @property
    def last(self) -> NDArray[np.bool_]:
        """(B, K): the position before the cut, where every look ahead shows."""
        return np.asarray(self.positions == self.cuts[:, None] - 1)


class Examiner:
    """Scores the model in one process and checks its answers against those of another, the witness.

    The witness is asked first. It sees training text, and the beginnings of the scored rows followed by training text:
    when it answers for the position before a cut, no process has been shown what follows in the row. The second process
    sees each scored row once and nothing else; it is started after the witness has ended and does not know the cuts.
    Earlier requests, other rows of the batch and order differ. Code that looks ahead, keeps state between calls or
    behaves in one of the processes only gives different losses in the two. Should the witness tell the second process
    all it was asked, that one can agree with it and look ahead elsewhere: then its losses there are better than where
    nobody could (nanotrain/foresight/advantage.py).
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
        times = 2 if 0 < spread < math.inf else 1
        self.passes, self.later_passes = times * WITNESS_PASSES[device], times * LATER_PASSES[device]
        self.random = np.random.default_rng()  # seeded by the system: the code under test cannot predict it
        # Later passes have later cuts: each shows of a row what was asked for before, and a little more.
        self.cuts = np.sort(self.random.integers(1, self.length + 1, size=(self.passes, len(rows))), axis=0)
        self.nats = np.full(self.targets.shape, np.nan)  # loss of each target in the scored process
        self.beginnings: list[Beginnings] = []
        self.results = ProbeResults()

    def batches(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """`order` in batches (n, B), begun again so that the last one is full."""
        return np.resize(order, (math.ceil(len(order) / self.batch), self.batch))

    # --- the scored process ---

    def score(self, model: ModelProcess) -> None:
        """Every row once, in random order."""
        # What it imports or reads when it is first asked, it does before its calls are refused.
        list(model.logits(LogitRequest(self.sample(), np.zeros(1, dtype=np.int32))))
        model.isolate()
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

    # --- the witnesses ---

    def examine(self, witness: ModelProcess) -> None:
        """Each rule by itself on training text, which names the violation; then beginnings of the scored rows."""
        self.check_rules(witness)
        witness.isolate()
        self.ask(witness, self.cuts)

    def examine_again(self, witness: ModelProcess) -> None:
        """Beginnings of the scored rows, cut where a look ahead would have paid; needs their scores."""
        names = np.tile(np.arange(len(self.rows)), self.later_passes)
        witness.isolate()
        self.ask(witness, self.paying_cuts(names).reshape(self.later_passes, -1))

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
        reason = f"not deterministic, or keeps a memory between calls: the same rows moved the logits by {moved:.1g}"
        self.results.record("deterministic", moved, limit, reason)
        _, moved, limit = self.tolerance.worst(np.abs(before[kept] - among[place]).max(axis=2), tops[kept])
        reason = f"rows are not independent: changing the other rows of the batch moved a row's logits by {moved:.1g}"
        self.results.record("rows", moved, limit, reason)
        for cuts, after in zip(causal, answers, strict=True):
            moves = np.where(positions < cuts[:, None], np.abs(before - after.reshape(shape)).max(axis=2), 0.0)
            (row, column), moved, limit = self.tolerance.worst(moves, tops)
            where = f"{cuts[row]} on moved the logits at {positions[row, column]}"
            self.results.record("causal", moved, limit, f"not causal: changing the tokens from {where} by {moved:.1g}")

    def causal_cuts(self) -> NDArray[np.int64]:
        """(n, B) cuts: every position of short rows, else a few."""
        most = self.length - 1
        cuts = np.arange(1, most + 1) if self.length <= MAX_ALL_CUTS else np.geomspace(1, most, SAMPLED_CUTS)
        return self.random.permutation(self.batches(cuts.astype(np.int64)).reshape(-1)).reshape(-1, self.batch)

    def ask(self, witness: ModelProcess, cuts: NDArray[np.int64]) -> None:
        """The scored rows, each with other text from its cut in `cuts` (passes, rows) on."""
        places = [some for _ in cuts for some in self.batches(self.random.permutation(len(self.rows)))]
        each = len(places) // len(cuts)  # batches of a pass
        ends = [cuts[index // each][some] for index, some in enumerate(places)]
        positions = [self.positions(some) for some in ends]
        changed = [self.changed(self.inputs[some], end) for some, end in zip(places, ends, strict=True)]
        requests = [self.request(rows, chosen) for (rows, _), chosen in zip(changed, positions, strict=True)]
        nats, tops = np.full((2, len(places), positions[0].size), np.nan)
        chances = np.zeros((len(places), self.batch, 1 + DECOYS))
        for index, where, logits in witness.stream(requests):
            tops[index, where] = np.maximum(logits.max(axis=1), -logits.min(axis=1))
            targets = np.take_along_axis(self.targets[places[index]], positions[index], 1).reshape(-1)[where]
            nats[index, where] = cross_entropy(logits, targets)
            for at in np.flatnonzero((positions[index] == ends[index][:, None] - 1).reshape(-1)[where]):
                row = (where.start + at) // positions[index].shape[1]
                chances[index, row] = logits[at, changed[index][1][row]] / logits[at].sum(dtype=np.float64)
        self.beginnings += [
            Beginnings(some, end, chosen, found.reshape(chosen.shape), top.reshape(chosen.shape), at[:, 0], at[:, 1:])
            for some, end, chosen, found, top, at in zip(places, ends, positions, nats, tops, chances, strict=True)
        ]

    def changed(self, rows: Tokens, cuts: NDArray[np.int64]) -> tuple[Tokens, Tokens]:
        """`rows` (B, T) with other text from `cuts` on; (B, 1 + DECOYS): the token put there and others drawn alike."""
        ends = np.repeat(cuts, 1 + DECOYS)
        drawn = change_future(np.repeat(rows, 1 + DECOYS, axis=0), ends, self.training_rows, self.random)
        at = np.minimum(ends, self.length - 1)
        return drawn[:: 1 + DECOYS], drawn[np.arange(len(at)), at].reshape(len(rows), -1)

    def paying_cuts(self, names: NDArray[np.int64]) -> NDArray[np.int64]:
        """A cut, 1 to length, for each row named: anywhere, or, PAYING_CUTS of them, where a look ahead would pay.

        It would pay where the scored loss is below one guessed from the frequency of the token in the training text,
        scaled to the same mean.
        """
        counts = 1.0 + np.bincount(self.training_rows.reshape(-1), minlength=len(self.lengths))
        guess = np.log(counts.sum() / counts)[self.targets]
        gains = np.maximum(guess * (self.nats.mean() / guess.mean()) - self.nats, 1e-9).cumsum(axis=1)
        paying = (gains[names] < self.random.random(len(names))[:, None] * gains[names, -1:]).sum(axis=1)
        anywhere = self.random.integers(self.length, size=len(names))
        chosen = self.random.random(len(names)) < PAYING_CUTS
        return np.where(chosen, np.minimum(paying, self.length - 1), anywhere) + 1

    # --- what the processes answered ---

    def compare(self) -> None:
        """The losses of the witnesses against the scored ones: equal before each cut, and no better elsewhere."""
        glances = []
        for some in self.beginnings:
            gained = some.nats - np.take_along_axis(self.nats[some.names], some.positions, 1)
            moves = np.where(some.positions < some.cuts[:, None], np.abs(gained), 0.0)
            _, moved, limit = self.tolerance.worst(moves, some.tops, 2.0)
            reason = (
                "not causal, or keeps a memory between calls: with other text after the beginning of a row, a process "
                "that had not seen the row gave its tokens other losses"
            )
            self.results.record("witness", moved, limit, reason)
            glances.append(gained[some.last])
        self.record_glance(np.concatenate(glances))
        self.record_foresight()

    def record_glance(self, gained: NDArray[np.float64]) -> None:
        """`gained` (rows,): the difference for the last target before each cut. Its mean is 0 without a leak."""
        mean, error = float(gained.mean()), float(gained.std(ddof=1)) / math.sqrt(len(gained))
        significant = mean > MIN_GLANCE_STANDARD_ERRORS * error
        reason = "not causal: hiding the next token costs more than noise, on average"
        self.results.record("glance", mean if significant else 0.0, MAX_GLANCE_NATS, reason)

    def record_foresight(self) -> None:
        """Only the first witness's answers count: of a second one every process may know the rows."""
        first = self.beginnings[: self.passes * len(self.batches(np.arange(len(self.rows))))]
        clean, asked = np.full(self.cuts.shape, np.nan), np.zeros(self.nats.shape, dtype=bool)
        for index, some in reversed(
            list(enumerate(first))
        ):  # a row that fills a batch up comes again: the first counts
            clean[index * self.passes // len(first), some.names] = some.nats[some.last]
            rows, columns = np.nonzero(some.positions < some.cuts[:, None])
            asked[some.names[rows], some.positions[rows, columns]] = True
        hidden = [some.cuts < self.length for some in first]  # the others ended with their row
        shown = np.concatenate([some.shown[told] for some, told in zip(first, hidden, strict=True)])
        decoys = np.concatenate([some.decoys[told] for some, told in zip(first, hidden, strict=True)])
        plain = guesses(self.rows, self.training_rows, len(self.lengths))
        places = np.arange(self.length)
        others = (min(self.length, WITNESS_POSITIONS) - 1) / max(1, self.length - 1)
        chance = 1 - (1 - (1 + (self.length - 1 - places) * others) / self.length) ** self.passes
        found = max(
            advantage.of_the_scored(clean, self.cuts, self.nats, plain),
            advantage.of_the_unasked(asked, chance, self.nats, plain),
            advantage.of_the_shown(shown, decoys),
        )
        reason = "not causal: its answers are better where it had been shown what follows than where nobody had"
        self.results.record("foresight", max(0.0, found), advantage.MAX_STANDARD_ERRORS, reason)


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
