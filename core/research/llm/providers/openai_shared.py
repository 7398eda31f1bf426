"""Model options, streamed reply and thinking tags, shared by both protocols of OpenAI-compatible servers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from core.research.llm.conversation import ModelAnswer, ToolCall, ToolResult
from core.research.protocol import Stream

MAX_TOKENS = 32_000  # of one answer, reasoning included
MAX_ANSWER_CHARACTERS = 8_000_000  # independent of the server's own limits
OPEN, CLOSE = "<think>", "</think>"


@dataclass(slots=True)
class OpenAIOptions:
    """The model in use, and the request options that it and its server accept."""

    model: str
    dialect: Literal["responses", "chat"]
    max_tokens: int = MAX_TOKENS
    limit_field: str = "max_completion_tokens"  # the field for max_tokens; empty: none is accepted
    tools: bool = True
    usage: bool = True  # whether token counts may be requested in the stream
    summary: bool = True  # of the reasoning
    reasoning: bool = True  # encrypted, to be sent back
    effort: bool = True  # whether the effort `low` is accepted
    echo_thinking: bool = False  # whether thinking must be sent back
    cache_key: bool = True


@dataclass(slots=True)
class OpenAIReply:
    """A streamed answer. Tokens are as billed; `usd` only where the server reports it."""

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
    usage_reported: bool = False
    size: int = 0
    begun: bool = False
    ended: bool = False

    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(ToolCall.parse(call["id"], call["name"], call["json"]) for call in self.calls)

    def answer(self) -> ModelAnswer:
        return ModelAnswer(self.text, self.tool_calls(), self.stop, self.detail)  # type: ignore[arg-type]

    def count(self, text: str) -> str:
        """Add to the size. Beyond MAX_ANSWER_CHARACTERS the answer is cut off."""
        self.size += len(text)
        if self.size > MAX_ANSWER_CHARACTERS:
            self.stop, self.ended = "cut", True
        return text

    def add_thinking(self, text: str, stream: Stream) -> None:
        if text:
            self.reasoning += self.count(text)
            stream.thinking(text)

    def add_text(self, text: str, stream: Stream) -> None:
        if text:
            self.text += self.count(text)
            stream.text(text)


@dataclass(slots=True)
class Exchange:
    """An answer, and the reply to it."""

    reply: OpenAIReply
    results: tuple[ToolResult, ...]
    text: str


class ThinkingTags:
    """Separates thinking that a server leaves in the text, between <think> and </think> at its beginning."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"  # start, thinking, after, text

    def feed(self, piece: str) -> tuple[str, str]:
        """(thinking, text) of one more piece. A tag that is split between two pieces is held back until complete."""
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
                partial = next((n for n in range(len(CLOSE) - 1, 0, -1) if self._held.endswith(CLOSE[:n])), 0)
                cut = len(self._held) - partial
                thinking, self._held = self._held[:cut], self._held[cut:]
                return thinking, ""
            self._state, self._held = "after", rest
        if self._state == "after":  # empty lines between thinking and text belong to neither
            self._held = self._held.lstrip()
            self._state = "text" if self._held else "after"
        text, self._held = self._held, ""
        return thinking, text

    def rest(self) -> tuple[str, str]:
        """(thinking, text) held back when the answer ended."""
        held, self._held = self._held, ""
        return (held, "") if self._state == "thinking" else ("", held)


def without_thinking(text: str) -> str:
    """`text` without thinking that has only a closing tag: the opening one was in the model's template."""
    rest = text.rpartition(CLOSE)[2].lstrip()
    return rest or text


def number(holder: Any, name: str) -> int:
    """A count that a server may omit; 0 then."""
    value = getattr(holder, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
