"""What is asked of a model before its loss counts: the rows it is fed, and the probes it has to pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nanotrain import prepare
from nanotrain.model_process import Caged
from nanotrain.weights import Rejected

Tokens = NDArray[np.uint16]
ROWS = {"cpu": 32, "cuda": 8}  # rows a request, always: the batch is no setting of the experiment
# How far logits may move where nothing that they may depend on has moved: float noise, by device.
TOLERANCE = {"cpu": 1e-3, "cuda": 5e-2}
PASSES = {"cpu": 2, "cuda": 8}  # how often the witness sees each row, with its future changed at another place
# A small glance ahead in every row hides in float noise, and not in its mean: nats a token, and standard errors.
GLANCE_NATS, GLANCE_ERRORS = 1e-3, 6.0
STRANGERS = 4096  # rows of training text: what the witness is asked about, and what the changed futures are made of


@dataclass
class Judgement:
    """The outcome of scoring: nats and bytes, and each probe's worst movement."""

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0
    probes: dict[str, dict[str, bool | float]] = field(default_factory=dict)

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    def record(self, name: str, value: float, limit: float, broken: str) -> None:
        """Note the probe's worst value. Raises Rejected, saying `broken`, when it is over its limit."""
        before = float(self.probes.get(name, {}).get("value", 0.0))
        self.probes[name] = {"ok": value <= limit, "value": round(max(before, float(value)), 6)}
        if not value <= limit:
            raise Rejected(broken)


def rows_of(tokens: Tokens, lengths: NDArray[np.int64], device: str) -> Tokens:
    """Cut a slice into rows of context + 1 tokens (the last one is the target of the last input).

    `lengths` are the bytes of each token. All rows when the slice is short, else evenly spaced ones that hold the
    device's EVAL_BYTES of targets. Returns (rows, context + 1). Raises ValueError when there is too little text.
    """
    context, enough, least = prepare.EVAL_CONTEXT[device], prepare.EVAL_BYTES[device], prepare.EVAL_BYTES_LEAST
    count = (len(tokens) - 1) // context
    rows = np.stack([tokens[i * context : (i + 1) * context + 1] for i in range(max(1, count))])
    size = int(lengths[rows[:, 1:]].sum())
    if size < least:
        raise ValueError(f"the slice holds {size} bytes of text, {least} are needed")
    if size > 2 * enough:
        wanted = math.ceil(1.1 * count * enough / size)
        rows = rows[np.linspace(0, count - 1, wanted).round().astype(int)]
    return rows


def strangers_of(train: Tokens, length: int, random: np.random.Generator) -> Tokens:
    """(STRANGERS, length) rows of training text, from anywhere in it."""
    starts = random.integers(0, max(1, len(train) - length), size=STRANGERS)
    return np.asarray(train[starts[:, None] + np.arange(length)], dtype=np.uint16)


def change_future(rows: Tokens, cuts: NDArray[np.int64], donors: Tokens, random: np.random.Generator) -> Tokens:
    """Each row (B, T) with every token from its cut on replaced by those of a donor row, the first of them for certain.

    A cut at T changes nothing.
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
    """Scores one model and asks another process of it to bear witness.

    The first process sees each row that is scored, once, and nothing else. The witness is started afresh when the
    first has ended: it sees training text, and the beginnings of the scored rows with training text behind. It never
    sees a scored row's future, so what it says of the beginning is what a model can know that does not look ahead;
    and it has another past, other neighbours and another order, so what it says is no memory either. Any code that
    looks, remembers or guesses which process it is in disagrees with itself.
    """

    def __init__(self, rows: Tokens, strangers: Tokens, lengths: NDArray[np.int64], device: str) -> None:
        self.rows, self.strangers, self.lengths = rows, strangers[:, : rows.shape[1] - 1], lengths
        self.inputs, self.targets = rows[:, :-1], rows[:, 1:]
        self.batch, self.tolerance = ROWS[device], TOLERANCE[device]
        self.passes = PASSES[device]
        self.random = np.random.default_rng()  # from the system's entropy: the code under test cannot foresee it
        self.nats = np.full(self.targets.shape, np.nan)  # what each target cost the first process
        self.result = Judgement()

    # --- the first process ---

    def score(self, model: Caged) -> None:
        """Every row once, in an order of chance."""
        order = self.random.permutation(len(self.rows))
        order = np.concatenate([order, order[: -len(order) % self.batch]])  # the last batch is full, too
        for places, logits in self.answers(model, self.inputs, order):
            for place, values in zip(places, logits, strict=True):
                if np.isnan(self.nats[place, 0]):
                    self.nats[place] = cross_entropy(values, self.targets[place])
        if np.isnan(self.nats).any():
            raise AssertionError("some rows were not scored")
        sizes = self.lengths[self.targets]
        self.result.nats = math.fsum(self.nats[sizes > 0])  # BOS is no text: neither its loss nor its bytes count
        self.result.tokens = int((sizes > 0).sum())
        self.result.bytes = int(sizes.sum())

    def answers(
        self, model: Caged, feed: Tokens, order: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """(places, logits) batch by batch, with the next request already under way."""
        places = order.reshape(-1, self.batch)
        model.ask(feed[places[0]])
        for index, some in enumerate(places):
            if index + 1 < len(places):
                model.ask(feed[places[index + 1]])
            yield some, model.answer((self.batch, feed.shape[1]))

    # --- the witness ---

    def examine(self, witness: Caged) -> None:
        """The rules one by one, on training text, so that what is broken has a name; then the scored rows."""
        self.same_batch(witness)
        self.other_rows(witness)
        self.other_future(witness)
        self.testimony(witness)

    def sample(self) -> Tokens:
        return self.strangers[self.random.choice(len(self.strangers), self.batch, replace=False)]

    def same_batch(self, model: Caged) -> None:
        """The same rows twice: the answers must not depend on chance or on earlier calls."""
        rows = self.sample()
        moved = float(np.abs(model.logits(rows) - model.logits(rows)).max())
        self.result.record(
            "deterministic",
            moved,
            self.tolerance,
            f"not deterministic, or keeps a memory between calls: the same rows moved the logits by {moved:.3g}",
        )

    def other_rows(self, model: Caged) -> None:
        """The same row among other rows, at another place: only its own text may count."""
        rows, others = self.sample(), self.sample()
        kept = self.random.permutation(self.batch)[: self.batch // 2]
        place = self.random.permutation(self.batch)[: self.batch // 2]
        others[place] = rows[kept]
        moved = float(np.abs(model.logits(rows)[kept] - model.logits(others)[place]).max())
        self.result.record(
            "rows",
            moved,
            self.tolerance,
            f"rows are not independent: changing the other rows of the batch moved a row's logits by {moved:.3g}",
        )

    def other_future(self, model: Caged) -> None:
        """The same row with another future, cut at every place in turn: earlier logits must not move."""
        length = self.inputs.shape[1]
        cuts = np.arange(1, length) if length <= 128 else np.unique(np.geomspace(1, length - 1, 64).astype(np.int64))
        cuts = self.random.permutation(np.resize(cuts, math.ceil(len(cuts) / self.batch) * self.batch))
        for some in cuts.reshape(-1, self.batch):
            rows = self.sample()
            before = model.logits(rows)
            after = model.logits(change_future(rows, some, self.strangers, self.random))
            for row, cut in enumerate(some):
                self.causal(before[row], after[row], int(cut))

    def causal(self, before: NDArray[np.float32], after: NDArray[np.float32], cut: int) -> None:
        """(T, V) of a row and of the row changed from `cut` on."""
        moves = np.abs(before[:cut] - after[:cut]).max(axis=1)
        where, moved = int(moves.argmax()), float(moves.max())
        self.result.record(
            "causal",
            moved,
            self.tolerance,
            f"not causal: changing the tokens from {cut} on moved the logits at {where} by {moved:.3g}",
        )

    def testimony(self, witness: Caged) -> None:
        """The scored rows again, each with other text from a cut of chance on: their beginnings must cost the same."""
        length = self.inputs.shape[1]
        names = np.concatenate([self.random.permutation(len(self.rows)) for _ in range(self.passes)])
        names = np.concatenate([names, names[: -len(names) % self.batch]])
        cuts = self.random.integers(1, length + 1, size=len(names))
        feed = change_future(self.inputs[names], cuts, self.strangers, self.random)
        glances = []
        for places, logits in self.answers(witness, feed, np.arange(len(names))):
            for place, values in zip(places, logits, strict=True):
                name, cut = int(names[place]), int(cuts[place])
                gained = cross_entropy(values[:cut], self.targets[name, :cut]) - self.nats[name, :cut]
                self.agrees(gained, cut, length)
                glances.append(gained[-1])
        self.glance(np.array(glances))

    def agrees(self, gained: NDArray[np.float64], cut: int, length: int) -> None:
        """`gained` (cut,): nats that each target cost the witness more than the first process."""
        where = int(np.abs(gained).argmax())
        moved, limit = float(abs(gained[where])), 2 * self.tolerance
        how = f"with other text from {cut} on" if cut < length else "with another past and other neighbours"
        broken = (
            f"not causal, or keeps a memory between calls: {how}, a second process that never saw the row gave "
            f"the token after {where} a loss that differs by {moved:.3g} nats"
        )
        self.result.record("witness", moved, limit, broken)

    def glance(self, gained: NDArray[np.float64]) -> None:
        """`gained` (rows,): what the last target before each cut cost the witness more. Noise has mean 0."""
        mean, error = float(gained.mean()), float(gained.std(ddof=1)) / math.sqrt(len(gained))
        sure = mean > GLANCE_ERRORS * error
        broken = f"not causal: hiding the next token costs {mean:.3g} nats on average, {error:.2g} is chance"
        self.result.record("glance", mean if sure else 0.0, GLANCE_NATS, broken)


def cross_entropy(logits: NDArray[np.float32], targets: Tokens) -> NDArray[np.float64]:
    """Nats of each target: logits (T, V), targets (T,) -> (T,). The scorer's own softmax, whatever the model claims.

    Logits are set against their row's largest before anything is added up: beside a logit of 1e17 the normaliser's
    own few nats would vanish, and a thousand equal tokens would all be certain.
    """
    top = logits.max(axis=1, keepdims=True)
    with np.errstate(over="ignore"):  # the spread of two huge logits: minus infinity, whose exponential is 0
        total = np.log(np.exp(logits - top).sum(axis=1, dtype=np.float64))
    chosen = logits[np.arange(len(targets)), targets].astype(np.float64)
    return np.asarray(total + (top[:, 0].astype(np.float64) - chosen), dtype=np.float64)
