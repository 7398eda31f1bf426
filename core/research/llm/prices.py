"""Prices of tokens: a built-in table (November 2026), which the user's prices.toml overrides; none is guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.record.errors import ResearcherMisconfigured
from core.research import user_config


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens. For a prompt of more than `long_prompt` tokens every rate is multiplied by
    `long_factor`, output by `long_output`.
    """

    input: float
    output: float
    cache_read: float
    cache_write: float
    long_prompt: int | None = None
    long_factor: float = 1.0
    long_output: float | None = None  # None: long_factor

    def usd(self, *, fresh: int, output: int, cache_read: int, cache_write: int, cache_hour: int = 0) -> float:
        """Dollars for one answer. `fresh`: input tokens neither read from nor written to the cache; `cache_hour`:
        tokens written to the cache for an hour, at twice the price of input.
        """
        long = self.long_prompt is not None and fresh + cache_read + cache_write + cache_hour > self.long_prompt
        sent = fresh * self.input + cache_read * self.cache_read
        sent += cache_write * self.cache_write + cache_hour * 2 * self.input
        received = output * self.output
        if long:
            sent, received = sent * self.long_factor, received * (self.long_output or self.long_factor)
        return (sent + received) / 1e6


def _price(input: float, output: float, read: float) -> Price:
    return Price(input, output, read, input * 1.25)


def _gpt(input: float, output: float, read: float) -> Price:
    """GPT 5.4 and later: writing to the cache costs a quarter more, prompts over 272,000 tokens twice as much."""
    return Price(input, output, read, input * 1.25, long_prompt=272_000, long_factor=2.0, long_output=1.5)


def _old_gpt(input: float, output: float, read: float) -> Price:
    """An older GPT: writing to the cache costs nothing extra."""
    return Price(input, output, read, input)


_TABLE: Mapping[str, Price] = {
    "claude-fable-5-1": _price(10, 50, 0.25),
    "claude-mythos-5-1": _price(10, 50, 0.25),
    "claude-fable-5": _price(10, 50, 1.0),
    "claude-mythos-5": _price(10, 50, 1.0),
    "claude-opus-5-5": _price(4, 20, 0.2),
    "claude-opus-5": _price(5, 25, 0.5),
    "claude-opus-4-8": _price(5, 25, 0.5),
    "claude-opus-4-7": _price(5, 25, 0.5),
    "claude-opus-4-6": _price(5, 25, 0.5),
    "claude-opus-4-5": _price(5, 25, 0.5),
    "claude-sonnet-5-5": _price(2, 10, 0.1),
    "claude-sonnet-5": _price(2, 10, 0.2),
    "claude-sonnet-4-6": _price(3, 15, 0.3),
    "claude-sonnet-4-5": _price(3, 15, 0.3),
    "claude-haiku-5-5": Price(0.1, 0.5, 0.01, 0.125, long_prompt=100_000, long_factor=5.0),
    "claude-haiku-4-5": _price(1, 5, 0.1),
    "gpt-6.2-astra": _gpt(8, 40, 0.4),
    "gpt-6.2-sol": _gpt(2, 10, 0.1),
    "gpt-6.1-sol": _gpt(2, 10, 0.1),
    "gpt-6-astra": _gpt(10, 50, 1.0),
    "gpt-6-sol": _gpt(2, 10, 0.2),
    "gpt-6-luna": _gpt(0.1, 0.5, 0.01),
    "gpt-5.6-terra": _gpt(2, 12, 0.2),
    "gpt-5.6-luna": _gpt(0.2, 1.2, 0.02),
    "gpt-5.5": _gpt(5, 30, 0.5),
    "gpt-5.4": _gpt(2.5, 15, 0.25),
    "gpt-5.4-mini": _gpt(0.75, 4.5, 0.075),
    "gpt-5.4-nano": _gpt(0.2, 1.25, 0.02),
    "gpt-5.2": _old_gpt(1.75, 14, 0.175),
    "gpt-5.1": _old_gpt(1.25, 10, 0.125),
    "gpt-5": _old_gpt(1.25, 10, 0.125),
    "gpt-5-mini": _old_gpt(0.25, 2, 0.025),
    "gpt-5-nano": _old_gpt(0.05, 0.4, 0.005),
    "gpt-4.1": _old_gpt(2, 8, 0.5),
    "gpt-4.1-mini": _old_gpt(0.4, 1.6, 0.1),
}


def user_file() -> Path:
    return user_config.path_of("prices.toml")


def load(path: Path | None = None) -> Mapping[str, Price]:
    """The table with the user's own prices. Raises ResearcherMisconfigured when that file is invalid."""
    path = path or user_file()
    return {**_TABLE, **{model: _read(model, entry, path) for model, entry in user_config.load(path).items()}}


def _read(model: str, entry: object, path: Path) -> Price:
    rates = entry if isinstance(entry, Mapping) else {}
    bad = [k for k, v in rates.items() if isinstance(v, bool) or not isinstance(v, (int, float)) or v < 0]
    bad += [k for k in rates if k not in ("input", "output", "cache_read", "cache_write")]
    if bad or "input" not in rates or "output" not in rates:
        what = f"{bad[0]!r} is not valid" if bad else "input or output is missing"
        hint = 'write ["model-id"] and below it input = 4.0, output = 20.0 (dollars per million tokens)'
        raise ResearcherMisconfigured(f"prices of {model!r}: {what}", where=str(path), hint=hint)
    fresh, output = float(rates["input"]), float(rates["output"])
    read, write = rates.get("cache_read", fresh / 10), rates.get("cache_write", fresh * 1.25)
    return Price(fresh, output, float(read), float(write))


def find(table: Mapping[str, Price], model: str) -> Price | None:
    """The price of `model`, also by its name without a date, `-latest` or a vendor's prefix. None: unknown."""
    return table.get(model) or table.get(_undated(model)) or table.get(_undated(model.rpartition("/")[2]))


def _undated(model: str) -> str:
    return re.sub(r"(?:[-@]20\d{6}|-20\d\d-\d\d-\d\d|-latest|\[1m\])$", "", model)
