"""What is asked of a model before its loss counts: the rows it is fed, and the probes it has to pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nanotrain import prepare
from nanotrain.caged import Caged
from nanotrain.weights import Rejected

Tokens = NDArray[np.uint16]
ROWS = {"cpu": 32, "cuda": 8}  # rows a request, always: the batch is no setting of the experiment
# How far logits may move where nothing that they may depend on has moved: float noise, by device.
TOLERANCE = {"cpu": 1e-3, "cuda": 5e-2}
# The same when the row is cut short: other shapes take other kernels, and bfloat16 rounds them differently.
SHORT_TOLERANCE = {"cpu": 2e-3, "cuda": 2.5e-1}
DISGUISED = {"cpu": 64, "cuda": 8}  # rows with a changed future mixed into the scored ones


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


def change_future(rows: Tokens, cuts: NDArray[np.int64], random: np.random.Generator) -> Tokens:
    """Each row (B, T) with every token from its cut on replaced by other real text, the first of them for certain."""
    donors = random.permutation(rows)
    changed = np.where(np.arange(rows.shape[1]) >= cuts[:, None], donors, rows)
    at = np.arange(len(rows)), cuts
    same = changed[at] == rows[at]
    vocabulary = np.unique(rows)
    for row in np.flatnonzero(same):
        changed[row, cuts[row]] = random.choice(vocabulary[vocabulary != rows[row, cuts[row]]])
    return changed


class Examiner:
    """Runs the probes and the scoring on one caged model."""

    def __init__(self, model: Caged, rows: Tokens, lengths: NDArray[np.int64], device: str) -> None:
        self.model, self.rows, self.lengths = model, rows, lengths
        self.inputs, self.targets = rows[:, :-1], rows[:, 1:]
        self.batch, self.tolerance, self.short_tolerance = ROWS[device], TOLERANCE[device], SHORT_TOLERANCE[device]
        self.disguised = DISGUISED[device]
        self.random = np.random.default_rng()  # from the system's entropy: the code under test cannot foresee it
        self.result = Judgement()

    def judge(self) -> Judgement:
        """All of it. Raises Rejected at the first rule broken."""
        self.same_batch()
        self.other_rows()
        self.other_future()
        self.cut_short()
        self.score()
        return self.result

    def sample(self) -> Tokens:
        return self.inputs[self.random.choice(len(self.inputs), self.batch, replace=len(self.inputs) < self.batch)]

    def same_batch(self) -> None:
        """The same rows twice: the answers must not depend on chance or on earlier calls."""
        rows = self.sample()
        moved = float(np.abs(self.model.logits(rows) - self.model.logits(rows)).max())
        self.result.record(
            "deterministic",
            moved,
            self.tolerance,
            f"not deterministic, or keeps a memory between calls: the same rows moved the logits by {moved:.3g}",
        )

    def other_rows(self) -> None:
        """The same row among other rows, at another place: only its own text may count."""
        rows, others = self.sample(), self.sample()
        kept = self.random.permutation(self.batch)[: self.batch // 2]
        place = self.random.permutation(self.batch)[: self.batch // 2]
        others[place] = rows[kept]
        moved = float(np.abs(self.model.logits(rows)[kept] - self.model.logits(others)[place]).max())
        self.result.record(
            "rows",
            moved,
            self.tolerance,
            f"rows are not independent: changing the other rows of the batch moved a row's logits by {moved:.3g}",
        )

    def other_future(self) -> None:
        """The same row with another future, cut at every place in turn: earlier logits must not move."""
        length = self.inputs.shape[1]
        cuts = np.arange(1, length) if length <= 128 else np.unique(np.geomspace(1, length - 1, 64).astype(np.int64))
        cuts = self.random.permutation(np.resize(cuts, math.ceil(len(cuts) / self.batch) * self.batch))
        for some in cuts.reshape(-1, self.batch):
            rows = self.sample()
            before = self.model.logits(rows)
            after = self.model.logits(change_future(rows, some, self.random))
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

    def cut_short(self) -> None:
        """The beginning of a row by itself: the answers must be those of the whole row."""
        rows = self.sample()
        whole = self.model.logits(rows)
        for length in {max(1, rows.shape[1] // 2), max(1, rows.shape[1] - 1)}:
            moved = float(np.abs(self.model.logits(rows[:, :length]) - whole[:, :length]).max())
            self.result.record(
                "prefix",
                moved,
                self.short_tolerance,
                f"not causal: cutting the row after {length} tokens moved the logits before by {moved:.3g}",
            )

    def score(self) -> None:
        """Every row twice and some with another future, shuffled together; the first sight of a row is scored.

        A model cannot tell which is which, so it cannot behave for the probes and cheat for the score.
        """
        count = len(self.rows)
        which = self.random.integers(count, size=min(self.disguised, count))
        cuts = self.random.integers(1, self.inputs.shape[1], size=len(which))
        feed = np.concatenate([self.inputs, self.inputs, change_future(self.inputs[which], cuts, self.random)])
        names = np.concatenate([np.arange(count), np.arange(count), count + np.arange(len(which))])
        order = self.random.permutation(len(feed))
        order = np.concatenate([order, order[: -len(order) % self.batch]])  # the last batch is full, too
        seen: dict[int, NDArray[np.float64]] = {}
        kept: dict[int, NDArray[np.float32]] = {}  # whole logits of the rows that have a disguised twin
        watched = set(which.tolist())
        for places, logits in self.answers(feed, order):
            for place, values in zip(places, logits, strict=True):
                name = int(names[place])
                if name >= count or (name in watched and name not in kept):
                    kept[name] = values.copy()
                if name < count:
                    self.sight(name, values, seen)
        for twin, (row, cut) in enumerate(zip(which, cuts, strict=True)):
            self.causal(kept[int(row)], kept[count + twin], int(cut))
        self.total(seen)

    def answers(
        self, feed: Tokens, order: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """(places, logits) batch by batch, with the next request already under way."""
        places = order.reshape(-1, self.batch)
        self.model.ask(feed[places[0]])
        for index, some in enumerate(places):
            if index + 1 < len(places):
                self.model.ask(feed[places[index + 1]])
            yield some, self.model.answer((self.batch, feed.shape[1]))

    def sight(self, name: int, logits: NDArray[np.float32], seen: dict[int, NDArray[np.float64]]) -> None:
        """Take a row's loss at first sight; hold every later sight of it against that."""
        nats = cross_entropy(logits, self.targets[name])
        moved = float(np.abs(nats - seen.setdefault(name, nats)).max())
        self.result.record(
            "second_pass",
            moved,
            2 * self.tolerance,
            f"keeps a memory between calls: the second pass over the same text differs by {moved:.3g} nats",
        )

    def total(self, seen: dict[int, NDArray[np.float64]]) -> None:
        if len(seen) != len(self.rows):
            raise AssertionError(f"{len(seen)} rows scored of {len(self.rows)}")
        sizes = self.lengths[self.targets]
        nats = np.stack([seen[i] for i in range(len(self.rows))])
        self.result.nats = math.fsum(nats[sizes > 0])  # BOS stands for no text: neither its loss nor its bytes count
        self.result.tokens = int((sizes > 0).sum())
        self.result.bytes = int(sizes.sum())


def cross_entropy(logits: NDArray[np.float32], targets: Tokens) -> NDArray[np.float64]:
    """Nats of each target: logits (T, V), targets (T,) -> (T,). The scorer's own softmax, whatever the model claims."""
    top = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - top).sum(axis=1, dtype=np.float64)) + top[:, 0]
    return np.asarray(total - logits[np.arange(len(targets)), targets], dtype=np.float64)
