"""A local server that speaks OpenAI's two streaming protocols, with scripted turns and faults.

In a test:

    with Server([{"thinking": "…", "tool": {…}}, {"fault": "status", "status": 503}]) as server:
        …  # OPENAI_BASE_URL=server.url, OPENAI_API_KEY=server.key

As a program, for tests that start other programs (one turn a line of FILE; the port is written when it listens):

    python -m tests.research.openai_server --script FILE.jsonl --port-file PORT [--key KEY] [--repeat]

Turns and faults are those of `local_server`; a turn may have `finish` besides, or `deltas`, sent as they are, or
`events`: whole events, each an object or, for what is none, its text.
`Manners` describe the kind of server: how thinking is sent, and what is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.research.local_server import ModelHandler, ModelServer, calls_of, cut, serve


@dataclass
class Manners:
    """The kind of a server."""

    thinking: str = "reasoning_content"  # the field of the thinking; or `tags`, or `parts` of a list, in the text
    whole_calls: bool = False  # tool calls in one piece, all with index 0, as Ollama sends them
    objects: bool = False  # their arguments as objects, not as text
    streams: bool = True  # False: the answer is never streamed
    finishes: bool = True  # whether it sends the reason why an answer ends
    tools: str = ""  # the error about tools, where they are refused
    refused: dict[str, str] = field(default_factory=dict)  # field of a request -> the error about it
    responses: bool = True  # whether the Responses protocol exists
    chat_tools: bool = True  # False: tools only by the Responses protocol, as GPT 5.6 and later have it
    usage: bool = True
    window: int = 0  # tokens that it reads of a prompt, dropping the rest; 0: as many as `usage` of a turn says


class Server(ModelServer):
    """A server of both protocols with these `manners`. `models`: the names that it lists."""

    def __init__(
        self, turns: Sequence[Any], *, key: str = "", models: Sequence[str] = ("tiny-coder",), repeat: bool = False,
        manners: Manners | None = None,
    ) -> None:  # fmt: skip
        super().__init__(_Handler, turns, key=key, models=models, repeat=repeat)
        self.manners = manners or Manners()

    @property
    def url(self) -> str:
        return f"{super().url}/v1"


class _Handler(ModelHandler):
    owner: Server

    def do_GET(self) -> None:
        if not self._allowed():
            return
        if self.path == "/api/ps" and self.owner.manners.window:
            loaded = [{"name": id, "context_length": self.owner.manners.window} for id in self.owner.models]
            return self.answer(200, {"models": loaded})
        if self.path.partition("?")[0] != "/v1/models":
            return self.refuse(404, "not_found", self.path)
        made = [
            {"id": id, "object": "model", "created": 1000 - n, "owned_by": "us"}
            for n, id in enumerate(self.owner.models)
        ]
        self.answer(200, {"object": "list", "data": made})

    def do_POST(self) -> None:
        owner, request = self.owner, self.body()
        if not self._allowed():
            return
        responses = self.path == "/v1/responses"
        if (responses and not owner.manners.responses) or self.path not in ("/v1/responses", "/v1/chat/completions"):
            return self.refuse(404, "not_found", f"Invalid URL (POST {self.path})")
        if request.get("model") not in owner.models:
            return self.refuse(404, "model_not_found", f"The model {request.get('model')!r} does not exist")
        wrong = self._complaint(request, responses)
        if wrong:
            owner.requests.append({**request, "refused": wrong})
            return self.refuse(400, "invalid_request_error", wrong)
        turn = owner.next_turn({**request, "path": self.path})
        if not self.failed(turn, "server_error"):
            self._play(turn, request, responses)

    def _complaint(self, request: Any, responses: bool) -> str:
        manners = self.owner.manners
        if request.get("tools") and manners.tools:
            return manners.tools
        if request.get("tools") and not responses and not manners.chat_tools:
            return (
                "Function tools with reasoning_effort are not supported for this model in /v1/chat/completions. "
                "To use function tools, use /v1/responses or set reasoning_effort to 'none'."
            )
        for name, complaint in manners.refused.items():
            if name in request:
                return complaint
        return responses_complaint(request) if responses else chat_complaint(request)

    def _allowed(self) -> bool:
        if not self.owner.key or self.bearer() == self.owner.key:
            return True
        self.refuse(401, "invalid_api_key", "Incorrect API key provided")
        return False

    def refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        self.answer(status, {"error": error}, headers)

    def _play(self, turn: Any, request: Any, responses: bool) -> None:
        manners = self.owner.manners
        if "events" in turn:
            whole = (e if isinstance(e, str) else f"data: {json.dumps(e)}" for e in turn["events"])
            return self.stream({}, (f"{event}\n\n".encode() for event in whole), error=b"", garbage=b"")
        if manners.window:
            read = min(manners.window, sum(len(str(m.get("content") or "")) for m in request["messages"]) // 4)
            turn = {**turn, "usage": {"prompt_tokens": read, **turn.get("usage", {})}}
        usage = manners.usage and bool((request.get("stream_options") or {}).get("include_usage"))
        if not manners.streams:
            return self.answer(200, at_once(chat_events(turn, manners)))
        made = responses_events(turn) if responses else chat_events(turn, manners, usage)
        said = {"code": turn.get("code", "server_error"), "message": "as scripted", "param": None}
        error = {"type": "error", "sequence_number": 99, **said} if responses else {"error": said}
        self.stream(
            turn, (_sent(data, responses) for data in made), error=_sent(error, responses),
            garbage=b'data: {"id": "chatcmpl-1", "choi\n\n', last=b"" if responses else b"data: [DONE]\n\n",
        )  # fmt: skip


def _sent(data: Any, responses: bool) -> bytes:
    name = f"event: {data['type']}\n" if responses else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


# --- the events of a turn ------------------------------------------------------------------------


def chat_events(turn: Any, manners: Manners, usage: bool = True) -> Iterator[Any]:
    """All chat-completion chunks of a turn."""
    pieces = max(1, turn.get("pieces", 3))
    calls = calls_of(turn)

    def chunk(delta: Any, finish: str | None = None, **more: Any) -> Any:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return {**head, "choices": [choice], **more}

    yield chunk({"role": "assistant", "content": ""})
    if "deltas" in turn:
        yield from (chunk(delta) for delta in turn["deltas"])
        yield chunk({}, turn.get("finish") or "stop")
    text = turn.get("text", "")
    if manners.thinking == "tags" and "thinking" in turn:
        text = f"<think>\n{turn['thinking']}</think>\n\n{text}"
    else:
        for piece in cut(turn.get("thinking", ""), pieces):
            parts = {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": piece}]}]}
            yield chunk(parts if manners.thinking == "parts" else {manners.thinking: piece})
    for piece in cut(text, pieces):
        yield chunk({"content": piece})
    for number, (name, raw) in enumerate(calls):
        whole = json.loads(raw) if manners.objects else raw
        function = {"name": name, "arguments": whole if manners.whole_calls else ""}
        index = 0 if manners.whole_calls else number
        yield chunk(
            {"tool_calls": [{"index": index, "id": f"call_{number}", "type": "function", "function": function}]}
        )
        if not manners.whole_calls:
            for piece in cut(raw, pieces):
                yield chunk({"tool_calls": [{"index": number, "function": {"arguments": piece}}]})
    if manners.finishes:
        yield chunk({}, turn.get("finish") or ("tool_calls" if calls else "stop"))
    if usage:
        told = {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200, **turn.get("usage", {})}
        yield {**chunk({}), "choices": [], "usage": told}


def at_once(chunks: Iterator[Any]) -> Any:
    """The same turn as one chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": []}
    answer: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
    for made in chunks:
        answer.update({"usage": made["usage"]} if "usage" in made else {})
        for choice in made["choices"]:
            delta = choice["delta"]
            message["tool_calls"] += [{k: v for k, v in c.items() if k != "index"} for c in delta.pop("tool_calls", [])]
            message.update({k: message.get(k, "") + v for k, v in delta.items() if k != "role"})
    return {**answer, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def responses_events(turn: Any) -> Iterator[Any]:
    """All events of a turn in the Responses protocol."""
    pieces = max(1, turn.get("pieces", 3))
    items: list[Any] = []
    shell: dict[str, Any] = {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "in_progress", "output": [],
        "tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "error": None, "incomplete_details": None,
    }  # fmt: skip
    number = 0

    def event(kind: str, **more: Any) -> Any:
        nonlocal number
        number += 1
        return {"type": f"response.{kind}", "sequence_number": number, **more}

    yield event("created", response=shell)
    place = {"item_id": "i", "output_index": 0, "content_index": 0, "summary_index": 0}
    if "thinking" in turn:
        for piece in cut(turn["thinking"], pieces):
            yield event("reasoning_summary_text.delta", delta=piece, **place)
        summary = [{"type": "summary_text", "text": turn["thinking"]}]
        items.append({"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "c2VjcmV0"})
        yield event("output_item.done", item=items[-1], output_index=0)
    if "text" in turn:
        for piece in cut(turn["text"], pieces):
            yield event("output_text.delta", delta=piece, logprobs=[], **place)
        content = [{"type": "output_text", "text": turn["text"], "annotations": []}]
        items.append({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content})
        yield event("output_item.done", item=items[-1], output_index=1)
    for n, (name, raw) in enumerate(calls_of(turn)):
        for piece in cut(raw, pieces):
            yield event("function_call_arguments.delta", delta=piece, **place)
        call = {"type": "function_call", "id": f"fc_{n}", "call_id": f"call_{n}", "name": name, "arguments": raw}
        items.append({**call, "status": "completed"})
        yield event("output_item.done", item=items[-1], output_index=2 + n)
    usage = {
        "input_tokens": 1000, "output_tokens": 200, "total_tokens": 1200,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 100}, **turn.get("usage", {}),
    }  # fmt: skip
    why = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(turn.get("finish", ""))
    status = "incomplete" if why else "completed"
    details = {"reason": why} if why else None
    done = {**shell, "status": status, "output": items, "usage": usage, "incomplete_details": details}
    yield event(status, response=done)


# --- requests that the real service refuses ------------------------------------------------------


def chat_complaint(request: Any) -> str:
    if not request.get("stream"):
        return "stream is required here"
    waiting: list[str] = []
    for n, message in enumerate(request["messages"]):
        role, where = message["role"], f"messages.{n}"
        if role == "tool":
            if message.get("tool_call_id") not in waiting:
                return f"{where}: no tool call has this id"
            waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            return f"{where}: tool calls without an answer: {waiting}"
        if role == "assistant":
            if not message.get("content") and not message.get("tool_calls"):
                return f"{where}: content is empty"
            for call in message.get("tool_calls") or []:
                json.loads(call["function"]["arguments"])
                waiting.append(call["id"])
        elif not message.get("content"):
            return f"{where}: content is empty"
    return f"tool calls without an answer: {waiting}" if waiting else ""


def responses_complaint(request: Any) -> str:
    if not request.get("stream") or request.get("store") is not False:
        return "stream, and store false, are required here"
    waiting: list[str] = []
    for n, item in enumerate(request["input"]):
        kind = item.get("type", "message")
        if kind == "function_call":
            json.loads(item["arguments"])
            waiting.append(item["call_id"])
        elif kind == "function_call_output":
            if item["call_id"] not in waiting:
                return f"input.{n}: no function call has this id"
            waiting.remove(item["call_id"])
        elif kind == "reasoning" and not item.get("encrypted_content"):
            return f"input.{n}: reasoning without its encrypted content"
        elif waiting and item.get("role") == "user":
            return f"input.{n}: no tool output found for function call {waiting[0]}"
    return f"no tool output found for function call {waiting[0]}" if waiting else ""


if __name__ == "__main__":
    serve(Server, "A local server that speaks OpenAI's streaming protocols.", key="")
