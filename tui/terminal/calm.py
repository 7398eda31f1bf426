"""Calm: whether a key stands alone in what the terminal sends, as the answer to a question must"""

from __future__ import annotations

CALM_SECONDS = 1.0  # without another key before an answer
AGAIN_SECONDS = 0.25  # before the same key, once it has been asked for again
SETTLE_SECONDS = 0.1  # after an answer, in which nothing may follow: pasted text goes on


class Calm:
    """Remembers when the last input came. Pasted text and replies of the terminal are input too, clicks are not."""

    def __init__(self) -> None:
        self.count = 0  # inputs so far
        self._key = ""
        self._at = self._before = self._other = -CALM_SECONDS  # the last input, the one before, the last of another key

    def heard(self, key: str, at: float) -> None:
        """An input came at this time, in the order in which they came."""
        if key != self._key:
            self._other = self._at
        self._before, self._key, self._at = self._at, key, at
        self.count += 1

    def alone(self, *, again: bool) -> bool:
        """Whether nothing came shortly before the last input; `again`: it has been asked for a second time."""
        if again:
            return self._at - self._before >= AGAIN_SECONDS
        return self._at - self._other >= CALM_SECONDS and self._at - self._before >= AGAIN_SECONDS
