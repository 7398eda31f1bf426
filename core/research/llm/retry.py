"""Backoff between attempts: exponential, capped, with jitter, shown on the screen, cancellable."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from core import invocation
from core.record.budget import format_seconds
from core.record.errors import ProposalFailed
from core.research.llm.api_errors import Transient
from core.research.protocol import Stream
from core.text import plural

T = TypeVar("T")

SLOW_FACTOR = 15.0  # of the cap, for what takes hours to change: a usage cap, a model that makes no proposal


MANY = 4  # failures in a row, after which a wait says what can be done


def another_model() -> str:
    """What to do about a model or an agent that fails again and again."""
    return f"another model may do better: {invocation.call('set', 'model=NAME')}"


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
                reason = error.reason
                if failures > MANY and not (error.slow or error.at_least):
                    reason = f"{reason}; look at the server, and {another_model()}"
                await backoff.pause(stream, reason, failures, error.at_least)


@dataclass(slots=True)
class Failures:
    """Experiments in a row without a proposal that could be used: before each further one there is a longer wait."""

    count: int = 0
    reason: str = ""

    async def pause(self, backoff: Backoff, stream: Stream) -> None:
        if self.count:
            what = f"{plural(self.count, 'experiment')} in a row without a usable proposal ({self.reason})"
            await backoff.slow().pause(stream, f"{what}; {another_model()}", self.count)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Context of one proposal."""
        try:
            yield
            self.count = 0
        except ProposalFailed as error:
            self.count, self.reason = self.count + 1, error.what
            raise
