"""The chat-completions protocol, as OpenAI-compatible servers speak it (Ollama, vLLM, llama.cpp, OpenRouter …).

Each has its own ways: thinking comes as `reasoning_content`, as `reasoning`, or within the text; tool calls come in
pieces or whole, with or without an index of their own.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.research.llm.api_errors import Server, Transient, by_kind, stream_only, streaming
from core.research.llm.providers.openai_stream import Thoughts, Turn, number, without_thinking
from core.research.protocol import Stream
from core.text import one_line

_STOPS = {"length": "cut", "content_filter": "declined"}


async def ask(client: Any, server: Server, request: Mapping[str, Any], stream: Stream, turn: Turn) -> None:
    """Send `request` and fill `turn` as the answer streams in; thinking and text are handed on at once.

    Raises Transient, BadRequest or ResearcherMisconfigured. `turn` then holds what came before the failure.
    """
    thoughts = Thoughts()
    with streaming(server, turn):
        async with await client.chat.completions.create(**request, stream=True) as chunks:
            kind = chunks.response.headers.get("content-type", "")
            if kind.startswith("application/json"):
                _take(_at_once(await chunks.response.aread(), server), turn, thoughts, stream)
            else:
                stream_only(kind)
                turn.begun = True
            async for chunk in chunks:
                _take(chunk, turn, thoughts, stream)
                if turn.size and turn.ended and turn.stop == "cut" and turn.counted:
                    break
    thinking, text = thoughts.rest()
    turn.think(thinking, stream)
    turn.say(text, stream)
    turn.text = without_thinking(turn.text)


def _at_once(body: bytes, server: Server) -> Any:
    """The answer of a server that does not stream, as one piece. Raises what an error in its place means."""
    from openai.types.chat import ChatCompletionChunk

    said = json.loads(body)
    error = said.get("error")
    if error:
        words = error if isinstance(error, Mapping) else {"message": str(error)}
        kind = str(words.get("code") or words.get("type") or "")
        raise by_kind(kind, one_line(str(words.get("message")), 300), server)
    choices = [{**choice, "delta": choice["message"]} for choice in said["choices"]]
    return ChatCompletionChunk.construct(**{**said, "choices": choices})


def _take(chunk: Any, turn: Turn, thoughts: Thoughts, stream: Stream) -> None:
    usage = getattr(chunk, "usage", None)
    if usage is not None:
        _count(turn, usage)
    choices = getattr(chunk, "choices", None) or []
    if usage is not None and not choices and (turn.size or turn.calls):
        turn.ended = True  # the tokens come last, also from a server that names no reason to end
    for choice in choices[:1]:
        delta = choice.delta
        if delta is not None:
            for name in ("reasoning_content", "reasoning", "thinking"):
                thought = getattr(delta, name, None)
                if isinstance(thought, str) and thought:
                    turn.think(thought, stream)
                    break
            for thought, words in _parts(delta.content):
                thinking, text = (words, "") if thought else thoughts.feed(words)
                turn.think(thinking, stream)
                turn.say(text, stream)
            if getattr(delta, "refusal", None):
                turn.stop, turn.detail = "declined", turn.detail + delta.refusal
            for call in delta.tool_calls or []:
                _call(turn, call)
        if choice.finish_reason == "error":
            raise Transient("the stream ended with an error")
        if choice.finish_reason:
            turn.ended = True
            turn.stop = _STOPS.get(choice.finish_reason, turn.stop)


def _parts(content: Any) -> Iterator[tuple[bool, str]]:
    """(whether it is thinking, text) of what a delta holds: a text, or a list of parts, as Mistral sends it."""
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            yield False, part
        elif isinstance(part, Mapping) and part.get("thinking"):
            yield from ((True, words) for _, words in _parts(part["thinking"]))
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            yield False, part["text"]


def _call(turn: Turn, piece: Any) -> None:
    """A piece of a tool call, or a whole one. Another id means another call, whatever the index says."""
    function, calls = piece.function, turn.calls
    name = (function.name if function else None) or ""
    given = (function.arguments if function else None) or ""
    given = given if isinstance(given, str) else json.dumps(given)  # some send the object itself
    place = piece.index if isinstance(piece.index, int) else len(calls) - (not name)
    found = next((c for c in reversed(calls) if c["place"] == str(place)), None)
    if (
        found is None
        or (piece.id and found["id"] and piece.id != found["id"])
        or (name and found["name"] and found["json"])
    ):
        found = {"id": piece.id or f"call_{uuid.uuid4().hex[:12]}", "name": "", "json": "", "place": str(place)}
        calls.append(found)
    found["name"] += name
    found["json"] += turn.grow(given)


def _count(turn: Turn, usage: Any) -> None:
    turn.counted = True
    turn.prompt, turn.output = number(usage, "prompt_tokens"), number(usage, "completion_tokens")
    details = getattr(usage, "prompt_tokens_details", None)
    turn.cached = number(details, "cached_tokens") or number(usage, "prompt_cache_hit_tokens")
    turn.written = number(details, "cache_write_tokens")
    cost = getattr(usage, "cost", None)  # OpenRouter's, in dollars
    if isinstance(cost, (int, float)) and not isinstance(cost, bool):
        turn.usd = float(cost)


# --- the request ---------------------------------------------------------------------------------


def tools(known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "function": {"name": t["name"], "description": t["description"], "parameters": t["input_schema"]},
        }
        for t in known
    ]


def assistant(turn: Turn, echo: bool) -> dict[str, Any]:
    """The answer as it is sent back. `echo`: with its thinking, which some servers demand between tool calls."""
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
    if echo and turn.reasoning:
        message["reasoning_content"] = turn.reasoning
    if turn.calls:
        readable = [(call, use) for call, use in zip(turn.calls, turn.uses(), strict=True)]
        message["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": "{}" if use.fault else call["json"] or "{}"},
            }
            for call, use in readable
        ]
    return message


def result(id: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": text}
