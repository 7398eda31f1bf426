"""Protocol chat completions: requests to OpenAI-compatible servers, and their streams.

Servers differ: thinking comes as `reasoning_content`, as `reasoning`, or within the text; tool calls come in pieces or
whole, with or without an index.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from core.research.llm import tools
from core.research.llm.api_errors import ServerInfo, Transient, from_stream_error, require_event_stream, streaming
from core.research.llm.providers.openai_shared import (
    OpenAIOptions,
    OpenAIReply,
    Question,
    StreamedCall,
    ThinkingTags,
    number,
    without_thinking,
)
from core.research.llm.tool_calls import is_object, joined
from core.research.protocol import Stream
from core.text import one_line

_STOPS = {
    "length": "cut", "max_tokens": "cut", "model_length": "cut", "content_filter": "declined", "safety": "declined",
    "refusal": "declined",
}  # fmt: skip


def build_request(options: OpenAIOptions, question: Question) -> dict[str, Any]:
    """The request for the next answer."""
    alone: list[dict[str, Any]] = [{"role": "system", "content": question.system}] if options.system else []
    first = question.first if alone else f"{question.system}\n\n{question.first}"
    messages = [*alone, {"role": "user", "content": first}]
    for exchange in question.exchanges:
        messages.append(_assistant(exchange.reply, options.echo_thinking))
        messages += [{"role": "tool", "tool_call_id": r.call.id, "content": r.text} for r in exchange.results]
        messages += [{"role": "user", "content": exchange.text}] if exchange.text else []
    request: dict[str, Any] = {"model": options.model, "messages": messages}
    if options.limit_field:
        request[options.limit_field] = options.max_tokens
    if question.tools:
        request["tools"] = [
            {"type": "function",
             "function": {"name": t["name"], "description": t["description"], "parameters": t["input_schema"]}}
            for t in tools.TOOLS
        ]  # fmt: skip
    if options.usage:
        request["stream_options"] = {"include_usage": True}
    if question.low_effort:
        request["reasoning_effort"] = "low"
    return request


def _assistant(reply: OpenAIReply, echo_thinking: bool) -> dict[str, Any]:
    """The answer as it is sent back. `echo_thinking`: some servers require thinking between tool calls."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if echo_thinking and reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function",
             "function": {"name": call.name, "arguments": json.dumps(call.input)}}
            for call in reply.tool_calls()
        ]  # fmt: skip
    return message


async def receive(
    client: Any, server: ServerInfo, request: Mapping[str, Any], stream: Stream, reply: OpenAIReply
) -> None:
    """Send `request` and fill `reply`; thinking and text go to `stream` at once. Raises Transient, BadRequest or
    ResearcherMisconfigured; `reply` keeps what came before the failure.
    """
    tags = ThinkingTags()
    with streaming(server, reply):
        async with await client.chat.completions.create(**request, stream=True) as chunks:
            kind = chunks.response.headers.get("content-type", "")
            if kind.startswith("application/json"):
                _take(_whole_answer(await chunks.response.aread(), server), reply, tags, stream)
            else:
                require_event_stream(kind)
                reply.begun = True
            async for chunk in chunks:
                if getattr(chunk, "object", "") == "error":  # vLLM's, which the SDK takes for a chunk
                    kind, message = str(getattr(chunk, "code", "")), str(getattr(chunk, "message", "it failed"))
                    raise from_stream_error(kind, one_line(message, 300), server)
                _take(chunk, reply, tags, stream)
                if reply.size and reply.ended and reply.stop == "cut" and reply.usage_reported:
                    break
        # Not every server says why an answer ends: one of complete calls is an answer.
        reply.ended = reply.ended or (bool(reply.calls) and all(is_object(joined(c.pieces)) for c in reply.calls))
    thinking, text = tags.rest()
    reply.add_thinking(thinking, stream)
    reply.add_text(text, stream)
    reply.text = without_thinking(reply.text)


def _whole_answer(body: bytes, server: ServerInfo) -> Any:
    """The answer of a server that does not stream, as one chunk. Raises the error that the body reports."""
    from openai.types.chat import ChatCompletionChunk

    plain = json.loads(body)
    if error := plain.get("error"):
        fields = error if isinstance(error, Mapping) else {"message": str(error)}
        kind = str(fields.get("code") or fields.get("type") or "")
        raise from_stream_error(kind, one_line(str(fields.get("message")), 300), server)
    choices = [{**choice, "delta": choice["message"]} for choice in plain["choices"]]
    return ChatCompletionChunk.construct(**{**plain, "choices": choices})


def _take(chunk: Any, reply: OpenAIReply, tags: ThinkingTags, stream: Stream) -> None:
    usage = getattr(chunk, "usage", None)
    if usage is not None:
        _count(reply, usage)
    reply.fingerprint = str(getattr(chunk, "system_fingerprint", None) or reply.fingerprint)
    choices = getattr(chunk, "choices", None) or []
    if usage is not None and not choices and (reply.size or reply.calls):
        reply.ended = True  # the token counts come last, also when a server reports no finish reason
    for choice in choices[:1]:
        if choice.delta is not None:
            _take_delta(choice.delta, reply, tags, stream)
        if choice.finish_reason == "error":
            raise Transient("the stream ended with an error")
        if choice.finish_reason:
            reply.ended = True
            reply.stop = _STOPS.get(str(choice.finish_reason).lower(), reply.stop)


def _take_delta(delta: Any, reply: OpenAIReply, tags: ThinkingTags, stream: Stream) -> None:
    for name in ("reasoning_content", "reasoning", "thinking"):
        thought = getattr(delta, name, None)
        if isinstance(thought, str) and thought:
            reply.add_thinking(thought, stream)
            break
    for is_thinking, piece in _parts(delta.content):
        thinking, text = (piece, "") if is_thinking else tags.feed(piece)
        reply.add_thinking(thinking, stream)
        reply.add_text(text, stream)
    if getattr(delta, "refusal", None):
        reply.stop, reply.detail = "declined", reply.detail + delta.refusal
    for call in delta.tool_calls or []:
        _take_call(reply, call)
    if (function := getattr(delta, "function_call", None)) is not None:  # of servers older than tool_calls
        _take_call(reply, SimpleNamespace(function=function))


def _parts(content: Any) -> Iterator[tuple[bool, str]]:
    """(whether it is thinking, text) of a delta's content: a text, or a list of parts, as Mistral sends it."""
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            yield False, part
        elif isinstance(part, Mapping) and part.get("thinking"):
            yield from ((True, words) for _, words in _parts(part["thinking"]))
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            yield False, part["text"]


def _take_call(reply: OpenAIReply, piece: Any) -> None:
    """A piece of a tool call, a whole one, or what is known of it so far."""
    name = getattr(piece.function, "name", None) or ""
    given = getattr(piece.function, "arguments", None) or ""
    given = given if isinstance(given, str) else json.dumps(given)  # some servers send the object itself
    id, place = getattr(piece, "id", None) or "", getattr(piece, "index", None)
    call = _continued(reply.calls, id, place, name, given)
    if call is None:
        new = id if id and not any(c.id == id for c in reply.calls) else f"call_{uuid.uuid4().hex[:12]}"
        call = StreamedCall(new, place=place)
        reply.calls.append(call)
    if name.startswith(call.name):  # the first, or cumulative
        call.name = name
    elif tools.name_of(call.name) not in tools.NAMES:
        call.name += name
    if given:
        call.pieces.append(reply.count(given))


def _continued(calls: Sequence[StreamedCall], id: str, place: object, name: str, given: str) -> StreamedCall | None:
    """The call that a piece belongs to; None for a new one. The same id is the same call, then the same index, unless
    the piece names another tool, or brings other input where the call is complete.
    """
    if not calls:
        return None
    same = next((c for c in reversed(calls) if c.place == place), None) if isinstance(place, int) else calls[-1]
    last = next((c for c in calls if id and c.id == id), same)
    if not name:
        return last or calls[-1]  # some servers count the pieces, or give each an id of its own
    if last is None or tools.name_of(last.name) not in tools.NAMES:
        return last
    if tools.name_of(name) != tools.name_of(last.name):
        return None
    sent = joined(last.pieces)
    complete = is_object(sent) and sent != "{}"
    repeated = not given or (given.startswith(sent) and id in ("", last.id))
    return last if repeated or not complete else None


def _count(reply: OpenAIReply, usage: Any) -> None:
    reply.usage_reported = True
    reply.prompt, reply.output = number(usage, "prompt_tokens"), number(usage, "completion_tokens")
    details = getattr(usage, "prompt_tokens_details", None)
    reply.cached = number(details, "cached_tokens") or number(usage, "prompt_cache_hit_tokens")
    reply.written = number(details, "cache_write_tokens")
    cost = getattr(usage, "cost", None)  # OpenRouter's, in dollars
    if isinstance(cost, (int, float)) and not isinstance(cost, bool):
        reply.usd = float(cost)
