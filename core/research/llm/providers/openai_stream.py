"""One answer of an OpenAI-compatible server, whichever of the two protocols it came by: what was said, and what for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from core.research.llm.conversation import Answer, Use
from core.research.protocol import Stream

LONGEST = 8_000_000  # characters of one answer, whatever the server says of its limits
OPEN, CLOSE = "<think>", "</think>"


@dataclass(slots=True)
class Turn:
    """What came of one request. Tokens are as billed; `usd` only where the server says it."""

    text: str = ""
    reasoning: str = ""
    calls: list[dict[str, str]] = field(default_factory=list)  # {"id", "name", "json"}
    items: list[dict[str, Any]] = field(default_factory=list)  # the answer as the Responses protocol takes it back
    stop: str = "end"
    detail: str = ""
    prompt: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    usd: float | None = None
    counted: bool = False  # whether the server said what was used
    size: int = 0
    begun: bool = False
    ended: bool = False

    def uses(self) -> tuple[Use, ...]:
        return tuple(Use.of(call["id"], call["name"], call["json"]) for call in self.calls)

    def answer(self) -> Answer:
        return Answer(self.text, self.uses(), self.stop, self.detail)  # type: ignore[arg-type]

    def grow(self, text: str) -> str:
        """Count what came. Past all measure the answer counts as cut off."""
        self.size += len(text)
        if self.size > LONGEST:
            self.stop, self.ended = "cut", True
        return text

    def think(self, text: str, stream: Stream) -> None:
        if text:
            self.reasoning += self.grow(text)
            stream.thinking(text)

    def say(self, text: str, stream: Stream) -> None:
        if text:
            self.text += self.grow(text)
            stream.text(text)


class Thoughts:
    """Splits off thinking that a server leaves in the text, between <think> and </think> at its very beginning."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"  # start, thinking, after, text

    def feed(self, piece: str) -> tuple[str, str]:
        """(thinking, text) of one more piece. A tag that is split between two pieces is held back until it is whole."""
        self._held += piece
        thinking = ""
        if self._state == "start":
            begun = self._held.lstrip()
            if OPEN.startswith(begun[: len(OPEN)]) and len(begun) < len(OPEN):
                return "", ""
            self._state = "thinking" if begun.startswith(OPEN) else "text"
            self._held = begun[len(OPEN) :] if self._state == "thinking" else self._held
        if self._state == "thinking":
            thinking, closed, rest = self._held.partition(CLOSE)
            if not closed:
                kept = next((n for n in range(len(CLOSE) - 1, 0, -1) if self._held.endswith(CLOSE[:n])), 0)
                thinking, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
                return thinking, ""
            self._state, self._held = "after", rest
        if self._state == "after":  # the empty lines between thinking and text belong to neither
            self._held = self._held.lstrip()
            self._state = "text" if self._held else "after"
        text, self._held = self._held, ""
        return thinking, text

    def rest(self) -> tuple[str, str]:
        """What was held back when the answer ended."""
        held, self._held = self._held, ""
        return (held, "") if self._state == "thinking" else ("", held)


def without_thinking(text: str) -> str:
    """`text` without thinking that only has an end: its beginning stood in the prompt's own template."""
    rest = text.rpartition(CLOSE)[2].lstrip()
    return rest or text


def number(holder: Any, name: str) -> int:
    """A count that a server may leave out; 0 then."""
    value = getattr(holder, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
