"""What a researcher hands over: the same shape from every kind (DESIGN §12)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Kind = Literal["architecture", "optimiser", "schedule", "regularisation", "data", "numerics", "simplification", "other"]
KINDS: tuple[str, ...] = get_args(Kind)
MOST_TOKENS, MOST_USD = 10**10, 1e5  # of one exchange: what is more is no count


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

    @classmethod
    def told(cls, input_tokens: int, output_tokens: int, cached_tokens: int, usd: float | None = None) -> Usage:
        """As somebody else's program tells it: counts that cannot be are 0, dollars that cannot be unknown."""
        counts = [n if 0 <= n <= MOST_TOKENS else 0 for n in (input_tokens, output_tokens, cached_tokens)]
        return cls(counts[0], counts[1], counts[2], usd if usd is not None and 0 <= usd <= MOST_USD else None)
