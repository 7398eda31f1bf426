"""Waiting before another try: growing, capped, jittered, visible and cancellable."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from core.record.budget import format_seconds
from core.research.llm.api_errors import Transient
from core.research.protocol import Stream

T = TypeVar("T")

SLOW = 15.0  # how much longer the longest wait is for what takes hours: a usage cap, a model that only talks


@dataclass(slots=True)
class Backoff:
    """Seconds: `base` doubles with each try up to `cap`, give or take a quarter. `slice` bounds one visible wait.

    What a server asks for (Retry-After) is honoured whole, however long, in waits of at most `slice`.
    """

    base: float = 1.0
    cap: float = 60.0
    slice: float = 300.0
    rng: random.Random = field(default_factory=random.Random)

    def seconds(self, attempt: int, at_least: float = 0.0) -> float:
        """How long to wait after the `attempt`th failure (counted from 1)."""
        wait = min(self.cap, self.base * 2.0 ** min(attempt - 1, 30))
        return max(wait * self.rng.uniform(0.75, 1.25), at_least)

    def slowly(self) -> Backoff:
        """For what will not change soon: the same start, a longest wait SLOW times as long."""
        return replace(self, cap=self.cap * SLOW)

    async def pause(self, stream: Stream, reason: str, attempt: int, at_least: float = 0.0) -> None:
        """Wait through `stream`, so that it is seen and can be cancelled."""
        left = self.seconds(attempt, at_least)
        while left > self.slice:
            await stream.wait(f"{reason}; {format_seconds(left)} left", self.slice, attempt)
            left -= self.slice
        await stream.wait(reason, left, attempt)

    async def patiently(self, stream: Stream, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` returns, asked again for ever while it raises Transient, each wait in sight.

        Each try may cost something, so the budget is looked at before it.
        """
        failures = 0
        while True:
            await stream.before_asking()
            try:
                return await ask()
            except Transient as error:
                failures += 1
                how = self.slowly() if error.slow else self
                await how.pause(stream, error.reason, failures, error.at_least)
