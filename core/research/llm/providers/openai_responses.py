"""Protocol Responses: requests to OpenAI's own models, and their streams.

They need it for tools together with reasoning. Nothing is stored on the server (`store` is false): the
reasoning between tool calls comes encrypted and is sent back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core.research.llm.api_errors import ServerInfo, from_stream_error, require_event_stream, streaming
from core.research.llm.providers.openai_shared import OpenAIOptions, OpenAIReply, Question, StreamedCall, number
from core.research.llm.tools import TOOLS
from core.research.protocol import Stream
from core.text import one_line

_THINKING = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")


def build_request(options: OpenAIOptions, question: Question) -> dict[str, Any]:
    """As `openai_chat.build_request`, for the other protocol."""
    items: list[dict[str, Any]] = [{"role": "user", "content": question.first}]
    for exchange in question.exchanges:
        items += _assistant(exchange.reply, options.reasoning)
        items += [{"type": "function_call_output", "call_id": r.call.id, "output": r.text} for r in exchange.results]
        items += [{"role": "user", "content": exchange.text}] if exchange.text else []
    request: dict[str, Any] = {
        "model": options.model, "instructions": question.system, "input": items, "store": False,
    }  # fmt: skip
    if options.limit_field:
        request["max_output_tokens"] = options.max_tokens
    if question.tools:
        request["tools"] = [
            {"type": "function", "name": t["name"], "description": t["description"], "parameters": t["input_schema"],
             "strict": False}
            for t in TOOLS
        ]  # fmt: skip
    reasoning = {"summary": "auto"} if options.summary else {}
    if question.low_effort:
        reasoning["effort"] = "low"
    if reasoning:
        request["reasoning"] = reasoning
    if options.reasoning:
        request["include"] = ["reasoning.encrypted_content"]
    return request


def _assistant(reply: OpenAIReply, reasoning: bool) -> Iterator[dict[str, Any]]:
    """The answer as it is sent back; its reasoning only when it came encrypted."""
    calls = {call.id: call for call in reply.tool_calls()}
    for item in reply.items:
        if item["type"] == "reasoning" and not (reasoning and item.get("encrypted_content")):
            continue
        plain = {key: value for key, value in item.items() if key not in ("status", "id")}
        if (call := calls.get(item.get("call_id", ""))) is not None:
            plain = {**plain, "name": call.name, **({"arguments": "{}"} if call.error else {})}
        yield plain


async def receive(
    client: Any, server: ServerInfo, request: Mapping[str, Any], stream: Stream, reply: OpenAIReply
) -> None:
    """As `openai_chat.receive`, for the other protocol."""
    with streaming(server, reply):
        async with await client.responses.create(**request, stream=True) as events:
            require_event_stream(events.response.headers.get("content-type", ""))
            reply.begun = True
            async for event in events:
                _take(event, reply, stream, server)
                if reply.ended:
                    break


def _take(event: Any, reply: OpenAIReply, stream: Stream, server: ServerInfo) -> None:
    kind = event.type
    if kind in _THINKING:
        reply.add_thinking(event.delta, stream)
    elif kind == "response.reasoning_summary_part.added" and reply.reasoning:
        reply.add_thinking("\n\n", stream)
    elif kind == "response.output_text.delta":
        reply.add_text(event.delta, stream)
    elif kind == "response.function_call_arguments.delta":
        reply.count(event.delta)
    elif kind == "response.refusal.delta":
        reply.stop, reply.detail = "declined", reply.detail + event.delta
    elif kind == "response.output_item.done":
        _add_item(event.item, reply)
    elif kind in ("response.completed", "response.incomplete"):
        _count(reply, event.response.usage)
        why = getattr(event.response.incomplete_details, "reason", None) if kind == "response.incomplete" else None
        if why:
            reply.stop = "declined" if why == "content_filter" else "cut"
        reply.ended = True
    elif kind == "response.failed":
        _count(reply, event.response.usage)
        error = event.response.error
        message = one_line(str(getattr(error, "message", "it failed")), 300)
        raise from_stream_error(str(getattr(error, "code", "")), message, server)
    elif kind == "error":
        raise from_stream_error(str(event.code or ""), one_line(str(event.message), 300), server)


def _add_item(item: Any, reply: OpenAIReply) -> None:
    """A complete part of the answer, kept unchanged to be sent back."""
    if item.type == "function_call":
        reply.calls.append(StreamedCall(item.call_id, item.name, [item.arguments or ""]))
    if item.type in ("reasoning", "message", "function_call"):
        reply.items.append(item.model_dump(exclude_none=True, by_alias=True, mode="json"))


def _count(reply: OpenAIReply, usage: Any) -> None:
    if usage is None:
        return
    reply.usage_reported = True
    reply.prompt, reply.output = number(usage, "input_tokens"), number(usage, "output_tokens")
    details = getattr(usage, "input_tokens_details", None)
    reply.cached, reply.written = number(details, "cached_tokens"), number(details, "cache_write_tokens")
