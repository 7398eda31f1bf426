"""The Responses protocol, which OpenAI's own models want for tools together with reasoning.

Nothing is kept on the server (`store` is false): the reasoning between tool calls comes encrypted and is sent back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.research.llm.api_errors import Server, by_kind, stream_only, streaming
from core.research.llm.providers.openai_stream import Turn, number
from core.research.protocol import Stream
from core.text import one_line

_THINKING = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")


async def ask(client: Any, server: Server, request: Mapping[str, Any], stream: Stream, turn: Turn) -> None:
    """As `openai_chat.ask`, by the other protocol."""
    with streaming(server, turn):
        async with await client.responses.create(**request, stream=True) as events:
            stream_only(events.response.headers.get("content-type", ""))
            turn.begun = True
            async for event in events:
                _take(event, turn, stream, server)
                if turn.ended:
                    break


def _take(event: Any, turn: Turn, stream: Stream, server: Server) -> None:
    kind = event.type
    if kind in _THINKING:
        turn.think(event.delta, stream)
    elif kind == "response.reasoning_summary_part.added" and turn.reasoning:
        turn.think("\n\n", stream)
    elif kind == "response.output_text.delta":
        turn.say(event.delta, stream)
    elif kind == "response.function_call_arguments.delta":
        turn.grow(event.delta)
    elif kind == "response.refusal.delta":
        turn.stop, turn.detail = "declined", turn.detail + event.delta
    elif kind == "response.output_item.done":
        _item(event.item, turn)
    elif kind in ("response.completed", "response.incomplete"):
        _count(turn, event.response.usage)
        why = getattr(event.response.incomplete_details, "reason", None) if kind == "response.incomplete" else None
        if why:
            turn.stop = "declined" if why == "content_filter" else "cut"
        turn.ended = True
    elif kind == "response.failed":
        _count(turn, event.response.usage)
        error = event.response.error
        raise by_kind(
            str(getattr(error, "code", "")), one_line(str(getattr(error, "message", "it failed")), 300), server
        )
    elif kind == "error":
        raise by_kind(str(event.code or ""), one_line(str(event.message), 300), server)


def _item(item: Any, turn: Turn) -> None:
    """A finished part of the answer: kept as it is, to be sent back as it is."""
    if item.type == "function_call":
        turn.calls.append({"id": item.call_id, "name": item.name, "json": item.arguments or ""})
    if item.type in ("reasoning", "message", "function_call"):
        turn.items.append(item.model_dump(exclude_none=True, by_alias=True, mode="json"))


def _count(turn: Turn, usage: Any) -> None:
    if usage is None:
        return
    turn.counted = True
    turn.prompt, turn.output = number(usage, "input_tokens"), number(usage, "output_tokens")
    details = getattr(usage, "input_tokens_details", None)
    turn.cached, turn.written = number(details, "cached_tokens"), number(details, "cache_write_tokens")


# --- the request ---------------------------------------------------------------------------------


def tools(known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "type": "function", "name": t["name"], "description": t["description"], "parameters": t["input_schema"],
            "strict": False,
        }
        for t in known
    ]  # fmt: skip


def assistant(turn: Turn, reasoning: bool) -> list[dict[str, Any]]:
    """The answer as it is sent back; its reasoning only where that came encrypted."""
    items = []
    broken = {use.id for use in turn.uses() if use.fault}
    for item in turn.items:
        if item["type"] == "reasoning" and not (reasoning and item.get("encrypted_content")):
            continue
        plain = {key: value for key, value in item.items() if key not in ("status", "id")}
        items.append({**plain, "arguments": "{}"} if item.get("call_id") in broken else plain)
    return items


def result(id: str, text: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id, "output": text}
