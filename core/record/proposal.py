"""What a researcher hands over: the same shape from every kind (DESIGN §12)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Kind = Literal["architecture", "optimiser", "schedule", "regularisation", "data", "numerics", "simplification", "other"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of one file.

    Either `search` (which must occur exactly once) and `replace`, or `content`, the whole file. An empty
    `search` on a path that does not exist creates the file from `replace`.
    """

    path: str
    search: str | None = None
    replace: str | None = None
    content: str | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """One experiment as proposed. `expected` is the signed change of the metric; `extra` is the researcher's own."""

    hypothesis: str
    edits: tuple[Edit, ...]
    rationale: str = ""
    expected: float | None = None
    kind: str = "other"
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and dollars of one exchange with a language model. `usd` is None when the price is unknown."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    usd: float | None = None
