"""One request to the Anthropic API, streamed: its blocks and its usage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.research.llm.api_errors import Server, stream_only, streaming
from core.research.llm.conversation import Answer, Use
from core.research.protocol import Stream
from core.text import one_line

LONGEST = 8_000_000  # characters of one answer, whatever the server says of its limits


@dataclass(slots=True)
class Turn:
    """What came of one request. `blocks` can be sent back as the assistant's turn. Tokens are as billed."""

    blocks: list[dict[str, Any]] = field(default_factory=list)
    stop: str | None = None
    stop_detail: str = ""
    fresh: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0  # for five minutes
    cache_hour: int = 0  # written to be kept for an hour
    size: int = 0
    begun: bool = False
    ended: bool = False

    def answer(self) -> Answer:
        """The turn for the conversation. A tool's input that cannot be read is emptied, so that it can be sent back."""
        uses = []
        for block in self.blocks:
            if block["type"] == "tool_use":
                use = Use.of(block["id"], str(block["name"]), block["json"], block["input"])
                block["input"] = use.input
                uses.append(use)
        text = "".join(block["text"] for block in self.blocks if block["type"] == "text")
        cut = self.stop in ("max_tokens", "model_context_window_exceeded")
        stop = "declined" if self.stop == "refusal" else "cut" if cut else "end"
        return Answer(text, tuple(uses), stop, self.stop_detail)  # type: ignore[arg-type]


async def ask(client: Any, server: Server, request: Mapping[str, Any], stream: Stream, turn: Turn) -> None:
    """Send `request` and fill `turn` as the answer streams in; thinking and text are handed on at once.

    Raises Transient, BadRequest or ResearcherMisconfigured. `turn` then holds what came before the failure.
    """
    with streaming(server, turn):
        async with await client.messages.create(**request, stream=True) as events:
            stream_only(events.response.headers.get("content-type", ""))
            async for event in events:
                _take(event, turn, stream)
                if turn.size > LONGEST:
                    turn.stop, turn.ended = "max_tokens", True
                if turn.ended:
                    break


def _take(event: Any, turn: Turn, stream: Stream) -> None:
    match event.type:
        case "message_start":
            turn.begun = True
            _count(turn, event.message.usage)
        case "content_block_start":
            turn.blocks.append(_open(event.content_block))
        case "content_block_delta" if turn.blocks:
            turn.size += _grow(turn.blocks[-1], event.delta, stream)
        case "message_delta":
            turn.stop = event.delta.stop_reason or turn.stop
            details = getattr(event.delta, "stop_details", None)
            turn.stop_detail = one_line(str(getattr(details, "explanation", None) or ""), 300)
            _count(turn, event.usage)
        case "message_stop":
            turn.ended = True


def _open(block: Any) -> dict[str, Any]:
    match block.type:
        case "thinking":
            return {"type": "thinking", "thinking": block.thinking or "", "signature": block.signature or ""}
        case "redacted_thinking":
            return {"type": "redacted_thinking", "data": block.data}
        case "text":
            return {"type": "text", "text": block.text or ""}
        case "tool_use":
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": block.input or {}, "json": ""}
    return {"type": "unknown"}


def _grow(block: dict[str, Any], delta: Any, stream: Stream) -> int:
    """Add a piece to its block; the number of its characters."""
    match delta.type:
        case "thinking_delta" if block["type"] == "thinking":
            block["thinking"] += delta.thinking
            stream.thinking(delta.thinking)
            return len(delta.thinking)
        case "signature_delta" if block["type"] == "thinking":
            block["signature"] += delta.signature
        case "text_delta" if block["type"] == "text":
            block["text"] += delta.text
            stream.text(delta.text)
            return len(delta.text)
        case "input_json_delta" if block["type"] == "tool_use":
            block["json"] += delta.partial_json
            return len(delta.partial_json)
    return 0


def _count(turn: Turn, usage: Any) -> None:
    """Usage is cumulative: a later figure replaces an earlier one."""
    turn.fresh = _int(usage, "input_tokens", turn.fresh)
    turn.output = _int(usage, "output_tokens", turn.output)
    turn.cache_read = _int(usage, "cache_read_input_tokens", turn.cache_read)
    written = _int(usage, "cache_creation_input_tokens", turn.cache_write + turn.cache_hour)
    turn.cache_hour = _int(getattr(usage, "cache_creation", None), "ephemeral_1h_input_tokens", turn.cache_hour)
    turn.cache_write = max(0, written - turn.cache_hour)


def _int(usage: Any, name: str, default: int) -> int:
    value = getattr(usage, name, None)
    return value if isinstance(value, int) else default


def sendable(turn: Turn) -> list[dict[str, Any]]:
    """The turn's blocks as an assistant message takes them: thinking with its signature and not at the end, no empty
    text.
    """
    out = []
    for block in turn.blocks:
        empty = (block["type"] == "text" and not block["text"].strip()) or (
            block["type"] == "thinking" and not block["signature"]
        )
        if block["type"] != "unknown" and not empty:
            out.append({k: v for k, v in block.items() if k != "json"})
    while out and out[-1]["type"].endswith("thinking"):
        out.pop()
    return out
