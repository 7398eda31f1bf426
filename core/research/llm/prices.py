"""What tokens cost: a small dated table, which the user's own file overrides.

`prices.toml` in the user's configuration folder (`~/.config/autoresearch-tui/`), dollars per million tokens:

    ["claude-opus-5-5"]
    input = 4.0
    output = 20.0
    cache_read = 0.2      # default: a tenth of input
    cache_write = 5.0     # default: a quarter more than input

A model that is in neither has no known price, and no guess is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import tomli

from core.record.errors import ResearcherMisconfigured

DATED = "2026-11"  # when the table below was last looked up
FILE_NAME = "prices.toml"


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens.

    Above `long_prompt` tokens of prompt every rate is `long_factor` times as high, output `long_output` times.
    """

    input: float
    output: float
    cache_read: float
    cache_write: float
    long_prompt: int | None = None
    long_factor: float = 1.0
    long_output: float | None = None  # None: as all else

    def usd(self, *, fresh: int, output: int, cache_read: int, cache_write: int, cache_hour: int = 0) -> float:
        """Dollars for one answer. `fresh` are input tokens neither read from nor written to the cache; `cache_hour`
        those written to be kept for an hour, which cost twice the input.
        """
        long = self.long_prompt is not None and fresh + cache_read + cache_write + cache_hour > self.long_prompt
        given = fresh * self.input + cache_read * self.cache_read
        given += cache_write * self.cache_write + cache_hour * 2 * self.input
        told = output * self.output
        if long:
            given, told = given * self.long_factor, told * (self.long_output or self.long_factor)
        return (given + told) / 1e6


def _price(input: float, output: float, read: float) -> Price:
    return Price(input, output, read, input * 1.25)


def _gpt(input: float, output: float, read: float) -> Price:
    """A GPT from 5.4 on: writing to the cache costs a quarter more, prompts beyond 272,000 tokens twice."""
    return Price(input, output, read, input * 1.25, long_prompt=272_000, long_factor=2.0, long_output=1.5)


def _plain(input: float, output: float, read: float) -> Price:
    """An older GPT: writing to the cache costs nothing of its own."""
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
    "gpt-5.2": _plain(1.75, 14, 0.175),
    "gpt-5.1": _plain(1.25, 10, 0.125),
    "gpt-5": _plain(1.25, 10, 0.125),
    "gpt-5-mini": _plain(0.25, 2, 0.025),
    "gpt-5-nano": _plain(0.05, 0.4, 0.005),
    "gpt-4.1": _plain(2, 8, 0.5),
    "gpt-4.1-mini": _plain(0.4, 1.6, 0.1),
}


def user_file() -> Path:
    return platformdirs.user_config_path("autoresearch-tui") / FILE_NAME


def load(path: Path | None = None) -> Mapping[str, Price]:
    """The table with the user's own prices over it. Raises ResearcherMisconfigured when that file is not right."""
    path = path or user_file()
    try:
        data = tomli.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _TABLE
    except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise ResearcherMisconfigured(
            f"the prices cannot be read: {error}", where=str(path), hint="correct the file, or remove it"
        ) from None
    return {**_TABLE, **{model: _read(model, entry, path) for model, entry in data.items()}}


def _read(model: str, entry: object, path: Path) -> Price:
    rates = entry if isinstance(entry, Mapping) else {}
    bad = [k for k, v in rates.items() if isinstance(v, bool) or not isinstance(v, (int, float)) or v < 0]
    bad += [k for k in rates if k not in ("input", "output", "cache_read", "cache_write")]
    if bad or "input" not in rates or "output" not in rates:
        what = f"{bad[0]!r} is not right" if bad else "input or output is missing"
        raise ResearcherMisconfigured(
            f"prices of {model!r}: {what}", where=str(path),
            hint='write ["model-id"] and below it input = 4.0, output = 20.0 (dollars per million tokens)',
        )  # fmt: skip
    fresh, output = float(rates["input"]), float(rates["output"])
    read, write = rates.get("cache_read", fresh / 10), rates.get("cache_write", fresh * 1.25)
    return Price(fresh, output, float(read), float(write))


def find(table: Mapping[str, Price], model: str) -> Price | None:
    """The price of `model`; a dated or `-latest` name, and one behind a maker's, counts as its own. None: unknown."""
    return table.get(model) or table.get(_undated(model)) or table.get(_undated(model.rpartition("/")[2]))


def _undated(model: str) -> str:
    return re.sub(r"(?:[-@]20\d{6}|-20\d\d-\d\d-\d\d|-latest|\[1m\])$", "", model)
