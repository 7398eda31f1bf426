"""Model options, streamed reply and thinking tags, shared by both protocols of OpenAI-compatible servers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from core.research.llm.conversation import ModelAnswer, ToolCall, ToolResult
from core.research.llm.tool_calls import joined
from core.research.protocol import Stream

MAX_TOKENS = 32_000  # of one answer, reasoning included
MAX_ANSWER_CHARACTERS = 8_000_000  # independent of the server's own limits
CLOSE = "</think>"
_TAGS = {
    "<think>": CLOSE, "<thinking>": "</thinking>", "[THINK]": "[/THINK]", "<seed:think>": "</seed:think>",
    "<|channel>thought": "<channel|>",
}  # fmt: skip
_CHANNELS = ("<|channel|>", "<|start|>")  # what an answer in channels begins with
_MAX_MARK = 200  # characters of one marker
_MARK = re.compile(
    r"(?:<\|start\|>[^<]*)?<\|channel\|>\s*(\w+)(?:[^<]*?to=(?:functions\.)?(\w+))?[^<]*(?:<\|constrain\|>[^<]*)?"
    r"<\|message\|>|<\|(?:end|return|call)\|>"
)


@dataclass(slots=True)
class OpenAIOptions:
    """The model in use, and the request options that it and its server accept."""

    model: str
    dialect: Literal["responses", "chat"]
    max_tokens: int = MAX_TOKENS
    limit_field: str = "max_completion_tokens"  # the field for max_tokens; empty: none is accepted
    tools: bool = True
    system: bool = True  # whether the instructions may have a role of their own
    usage: bool = True  # whether token counts may be requested in the stream
    summary: bool = True  # of the reasoning
    reasoning: bool = True  # encrypted, to be sent back
    effort: bool = True  # whether the effort `low` is accepted
    echo_thinking: bool = False  # whether thinking must be sent back
    cache_key: bool = True


@dataclass(slots=True)
class StreamedCall:
    """A tool call that is still arriving: `place` is the server's index of it, `pieces` those of its input."""

    id: str
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    place: int | None = None


@dataclass(slots=True)
class OpenAIReply:
    """A streamed answer. Tokens are as billed; `usd` only where the server reports it."""

    text: str = ""
    reasoning: str = ""
    calls: list[StreamedCall] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)  # the answer as the Responses protocol takes it back
    stop: str = "end"
    detail: str = ""
    prompt: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    usd: float | None = None
    usage_reported: bool = False
    fingerprint: str = ""  # of the server's program
    size: int = 0
    begun: bool = False
    ended: bool = False

    @property
    def read(self) -> int:
        """Tokens of the whole prompt, also where a gateway counts those from the cache apart."""
        return self.prompt + (self.cached if self.cached > self.prompt else 0)

    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(ToolCall.parse(call.id, call.name, joined(call.pieces)) for call in self.calls)

    def answer(self) -> ModelAnswer:
        return ModelAnswer(self.text, self.tool_calls(), self.stop, self.detail, self.reasoning)  # type: ignore[arg-type]

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


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, independent of the protocol: the instructions, the `first` message and the `exchanges` since."""

    system: str
    first: str
    exchanges: Sequence[Exchange]
    tools: bool
    low_effort: bool


class ThinkingTags:
    """Separates thinking that a server leaves in the text: between tags at its beginning, or in channels.

    A marker that is split between two pieces is held back until it is complete.
    """

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"  # start, thinking, after, text, channels
        self._close = CLOSE
        self._channel = ""

    def feed(self, piece: str) -> tuple[str, str]:
        """(thinking, text) of one more piece."""
        self._held += piece
        thinking = ""
        if self._state == "start":
            begun = self._held.lstrip()
            if any(mark.startswith(begun) and mark != begun for mark in (*_TAGS, *_CHANNELS)):
                return "", ""
            opened = next((tag for tag in _TAGS if begun.startswith(tag)), "")
            self._state = "thinking" if opened else "channels" if begun.startswith(_CHANNELS) else "text"
            self._close, self._held = _TAGS.get(opened, CLOSE), begun[len(opened) :] if opened else self._held
        if self._state == "channels":
            return self._from_channels()
        if self._state == "thinking":
            thinking, closed, rest = self._held.partition(self._close)
            if not closed:
                partial = next((n for n in range(len(self._close) - 1, 0, -1) if thinking.endswith(self._close[:n])), 0)
                cut = len(thinking) - partial
                thinking, self._held = thinking[:cut], thinking[cut:]
                return thinking, ""
            self._state, self._held = "after", rest
        if self._state == "after":  # empty lines between thinking and text belong to neither
            self._held = self._held.lstrip()
            self._state = "text" if self._held else "after"
        text, self._held = self._held, ""
        return thinking, text

    def _from_channels(self) -> tuple[str, str]:
        """What is complete: `analysis` is thinking, what goes to a tool is told with the tool's name before it."""
        said = {True: "", False: ""}
        while found := _MARK.search(self._held):
            said[self._channel == "analysis"] += self._held[: found.start()]
            self._held, self._channel = self._held[found.end() :], found[1] or self._channel
            if found[2]:
                said[False] += f"<tool_call>{found[2]}\n"
        cut = self._held.find("<")
        cut = len(self._held) if cut < 0 or len(self._held) - cut > _MAX_MARK else cut
        said[self._channel == "analysis"] += self._held[:cut]
        self._held = self._held[cut:]
        return said[True], said[False]

    def rest(self) -> tuple[str, str]:
        """(thinking, text) held back when the answer ended."""
        held, self._held = self._held, ""
        thinking = self._state == "thinking" or (self._state == "channels" and self._channel == "analysis")
        return (held, "") if thinking else ("", held)


def without_thinking(text: str) -> str:
    """`text` without thinking that has only a closing tag: the opening one was in the model's template."""
    rest = text.rpartition(CLOSE)[2].lstrip()
    return rest or text


def number(holder: Any, name: str) -> int:
    """A count that a server may omit; 0 then."""
    value = getattr(holder, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
