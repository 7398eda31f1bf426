"""Backoff between attempts: exponential, capped, with jitter, shown on the screen, cancellable."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from core.record.budget import format_seconds
from core.research.llm.api_errors import Transient
from core.research.protocol import Stream

T = TypeVar("T")

SLOW_FACTOR = 15.0  # of the cap, for what takes hours to change: a usage cap, a model that makes no proposal


@dataclass(slots=True)
class Backoff:
    """Seconds: `base` doubles with each attempt up to `cap`, with 25% jitter. A longer wait that a server asks for is
    kept in full, in visible waits of at most `slice`.
    """

    base: float = 1.0
    cap: float = 60.0
    slice: float = 300.0
    rng: random.Random = field(default_factory=random.Random)

    def seconds(self, attempt: int, at_least: float = 0.0) -> float:
        """Wait after the `attempt`th failure (from 1)."""
        wait = min(self.cap, self.base * 2.0 ** min(attempt - 1, 30))
        return max(wait * self.rng.uniform(0.75, 1.25), at_least)

    def slow(self) -> Backoff:
        """The same backoff with a cap SLOW_FACTOR times as high."""
        return replace(self, cap=self.cap * SLOW_FACTOR)

    async def pause(self, stream: Stream, reason: str, attempt: int, at_least: float = 0.0) -> None:
        """Wait through `stream`, which shows the reason."""
        left = self.seconds(attempt, at_least)
        while left > self.slice:
            await stream.wait(f"{reason}; {format_seconds(left)} left", self.slice, attempt)
            left -= self.slice
        await stream.wait(reason, left, attempt)

    async def retry_forever(self, stream: Stream, ask: Callable[[], Awaitable[T]]) -> T:
        """Result of `ask`, called again as long as it raises Transient. The budget is checked before each attempt."""
        failures = 0
        while True:
            await stream.before_asking()
            try:
                return await ask()
            except Transient as error:
                failures += 1
                backoff = self.slow() if error.slow else self
                await backoff.pause(stream, error.reason, failures, error.at_least)
