"""Proposal of a researcher: hypothesis, edits, kind of change, and its usage of tokens"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Kind = Literal["architecture", "optimizer", "schedule", "regularization", "data", "numerics", "simplification", "other"]
KINDS: tuple[str, ...] = get_args(Kind)
# Aliases of each kind, in the form that `_forms` produces.
_ALIASES = {
    "architecture": "arch, architectural, model, model architecture, model size, network, layer, attention, "
    "activation, embedding, normalization, initialization, init, width, depth",
    "optimizer": "opt, optim, optimize, optimization, learning rate, lr, momentum, batch, batch size, "
    "gradient clipping, hyperparameter, hyper parameter, hyperparam, hparam, hp",
    "schedule": "scheduler, scheduling, lr schedule, lr scheduler, learning rate schedule, learning rate scheduler, "
    "lr decay, learning rate decay, warmup, warm up, warmdown, warm down, cooldown, cool down, annealing",
    "regularization": "regularizer, regularize, regularizing, reg, weight decay, wd, dropout, label smoothing",
    "data": "dataset, data set, dataloader, data loader, data loading, data pipeline, preprocessing, augmentation, "
    "data augmentation, curriculum, tokenizer, tokenization",
    "numerics": "numeric, numerical, numerical stability, stability, precision, mixed precision, dtype, quantization",
    "simplification": "simplify, simplifying, simplicity, cleanup, clean up, refactor, refactoring",
    "other": "misc, miscellaneous",
}
_KIND_OF = {word: kind for kind in KINDS for word in (kind, *_ALIASES[kind].split(", "))}
MAX_TOKENS, MAX_USD = 10**10, 1e5  # of one exchange; larger reports are invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One change of one file.

    Either `search` (which must occur exactly once) and `replace`, or `content`, the whole file. An empty
    `search` on a path that does not exist creates the file from `replace`.
    """

    path: str
    search: str | None = None
    replace: str | None = None
    content: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One proposed experiment. `expected`: signed change of the metric; `extra`: data of the researcher's own."""

    hypothesis: str
    edits: tuple[Edit, ...]
    rationale: str = ""
    expected: float | None = None
    kind: str = "other"
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens and dollars of one exchange with a language model. `usd` None: unknown price."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    usd: float | None = None

    @classmethod
    def reported(cls, input_tokens: int, output_tokens: int, cached_tokens: int, usd: float | None = None) -> Usage:
        """Usage as another program reports it: invalid counts are 0, invalid dollars unknown."""
        fresh, output, cached = (n if 0 <= n <= MAX_TOKENS else 0 for n in (input_tokens, output_tokens, cached_tokens))
        dollars = usd if usd is not None and 0 <= usd <= MAX_USD else None
        return cls(input_tokens=fresh, output_tokens=output, cached_tokens=cached, usd=dollars)


def kind_of(words: str) -> str | None:
    """Kind of change named by `words` in either spelling, any case, plural, or by an alias; None: unknown.

    Of several ("Optimiser / LR schedule") the first known one counts.
    """
    parts = [words, *re.split(r"[/,;:&+|()]|\band\b", words)]
    known = (_KIND_OF.get(word) for part in parts for word in _forms(part))
    return next((kind for kind in known if kind), None)


def american(words: str) -> str:
    """`words` in lower case and American spelling (`optimiser` → `optimizer`), complete or half typed."""
    return re.sub(r"(?<=[a-z]{4})is(?=(e|er|ed|ing|ation|ations|ers|es)?\b)", "iz", words.lower())


def _forms(part: str) -> tuple[str, ...]:
    plain = " ".join(re.findall(r"[a-z0-9]+", american(part)))
    plain = re.sub(r" (changes?|tuning|tweaks?)$", "", plain)
    return plain, plain.removesuffix("s")
