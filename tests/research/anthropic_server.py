"""A local server that speaks the Anthropic streaming protocol, with scripted turns and faults.

In a test:

    with Server([{"thinking": "…", "tool": {…}}, {"fault": "status", "status": 529}]) as server:
        …  # ANTHROPIC_BASE_URL=server.url, ANTHROPIC_API_KEY=server.key

As a program, for tests that start other programs (one turn a line of FILE; the port is written when it listens):

    python -m tests.research.anthropic_server --script FILE.jsonl --port-file PORT [--key KEY] [--repeat]

Turns and faults are those of `local_server`; a turn may have `stop_reason`, `stop_details` and `pings` besides.
Requests are checked as the real service checks them (cache marks, tool results, thinking kinds); a wrong one gets 400.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from tests.research.local_server import ModelHandler, ModelServer, calls_of, cut, serve

MODEL = "claude-opus-5-5"
THINKING_KINDS = ("adaptive", "enabled", "disabled")


def model(id: str, line: str | None, created: str, *, thinking: Sequence[str] = ("adaptive",), **more: Any) -> Any:
    """One entry of the list of models, in the service's shape."""
    kinds = {kind: {"supported": kind in thinking} for kind in (*THINKING_KINDS, "between_tools")}
    capabilities = {"thinking": {"supported": bool(thinking), "types": kinds}}
    return {
        "type": "model", "id": id, "display_name": id, "line": line, "created_at": created, "lifecycle": "active",
        "max_tokens": 128_000, "capabilities": capabilities, **more,
    }  # fmt: skip


MODELS: tuple[Any, ...] = (
    model("claude-haiku-5-5", "haiku", "2026-10-01T00:00:00Z"),
    model(MODEL, "opus", "2026-09-01T00:00:00Z"),
    model("claude-sonnet-5-5", "sonnet", "2026-08-01T00:00:00Z", thinking=("adaptive", "disabled")),
    model("claude-opus-4-5", "opus", "2025-11-01T00:00:00Z", thinking=("enabled", "disabled")),
)


class Server(ModelServer):
    """`models` as the service lists them. A request in which `refuses` stands is refused without saying why, that for
    the list with `list_status`.
    """

    list_status = 200

    def __init__(
        self,
        turns: Sequence[Any],
        *,
        key: str = "sk-test",
        models: Sequence[Any] = MODELS,
        repeat: bool = False,
        refuses: str = "",
    ) -> None:
        super().__init__(_Handler, turns, key=key, models=models, repeat=repeat)
        self.refuses = refuses


class _Handler(ModelHandler):
    owner: Server

    def do_GET(self) -> None:
        if not self._allowed():
            return
        path = self.path.partition("?")[0]
        if self.owner.list_status != 200:
            self.refuse(self.owner.list_status, "permission_error", "not for you")
        elif path == "/v1/models":
            models = self.owner.models
            ids = [m["id"] for m in models] or [None]
            self.answer(200, {"data": models, "has_more": False, "first_id": ids[0], "last_id": ids[-1]})
        else:
            self.refuse(404, "not_found_error", path)

    def do_POST(self) -> None:
        owner, request = self.owner, self.body()
        if not self._allowed():
            return
        known = {m["id"]: m for m in owner.models}
        if request.get("model") not in known:
            return self.refuse(404, "not_found_error", f"model: {request.get('model')}")
        wrong = complaint(request, known[request["model"]])
        if owner.refuses and f'"{owner.refuses}"' in json.dumps(request):
            wrong = "invalid params"
        if wrong:
            owner.requests.append({**request, "refused": wrong})
            return self.refuse(400, "invalid_request_error", wrong)
        turn = owner.next_turn(request)
        if not self.failed(turn, "api_error"):
            named = [(e["type"], e) for e in turn["events"]] if "events" in turn else events(turn, request["model"])
            made = (_sent(name, json.dumps(data)) for name, data in named)
            error = {"type": "error", "error": {"type": turn.get("code", "overloaded_error"), "message": "as scripted"}}
            garbage = _sent("content_block_delta", '{"type": "content_block_del')
            self.stream(turn, made, error=_sent("error", json.dumps(error)), garbage=garbage)

    def _allowed(self) -> bool:
        if (self.headers.get("x-api-key") or self.bearer()) == self.owner.key:
            return True
        self.refuse(401, "authentication_error", "invalid x-api-key")
        return False

    def refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self.answer(status, {"type": "error", "error": {"type": code, "message": message}}, headers)


def _sent(name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\n\n".encode()


def events(turn: Any, model_id: str = MODEL) -> Iterator[tuple[str, Any]]:
    """All events of a turn as (event name, data)."""
    usage = {
        "input_tokens": 1000, "output_tokens": 200, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0,
        **turn.get("usage", {}),
    }  # fmt: skip
    message: dict[str, Any] = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": model_id, "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {**usage, "output_tokens": 1},
    }  # fmt: skip
    yield "message_start", {"type": "message_start", "message": message}
    if turn.get("pings"):
        yield "ping", {"type": "ping"}
    if turn.get("interleaved"):
        yield from _interleaved(list(_blocks(turn)))
    for index, (block, deltas) in enumerate(() if turn.get("interleaved") else _blocks(turn)):
        yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": block}
        for delta in deltas:
            yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
            if turn.get("pings"):
                yield "ping", {"type": "ping"}
        yield "content_block_stop", {"type": "content_block_stop", "index": index}
    called = any(name in turn for name in ("tool", "raw_json", "tools"))
    stop = turn.get("stop_reason") or ("tool_use" if called else "end_turn")
    delta = {"stop_reason": stop, "stop_sequence": None, "stop_details": turn.get("stop_details")}
    yield "message_delta", {"type": "message_delta", "delta": delta, "usage": usage}
    yield "message_stop", {"type": "message_stop"}


def _interleaved(blocks: list[tuple[Any, list[Any]]]) -> Iterator[tuple[str, Any]]:
    """All blocks at once, their deltas in turn, as some gateways send them."""
    for index, (block, _) in enumerate(blocks):
        yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": block}
    for deltas in zip_longest(*(deltas for _, deltas in blocks)):
        for index, delta in enumerate(deltas):
            if delta is not None:
                yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
    for index in range(len(blocks)):
        yield "content_block_stop", {"type": "content_block_stop", "index": index}


def _blocks(turn: Any) -> Iterator[tuple[Any, list[Any]]]:
    pieces = max(1, turn.get("pieces", 3))
    if "thinking" in turn:
        deltas = [{"type": "thinking_delta", "thinking": p} for p in cut(turn["thinking"], pieces)]
        deltas.append({"type": "signature_delta", "signature": "c2lnbmVk"})
        yield {"type": "thinking", "thinking": "", "signature": ""}, deltas
    if "text" in turn:
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": p} for p in cut(turn["text"], pieces)]
    for number, (name, raw) in enumerate(calls_of(turn), 1):
        deltas = [{"type": "input_json_delta", "partial_json": p} for p in ["", *cut(raw, pieces)]]
        yield {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {}}, deltas


def complaint(request: Any, known: Any) -> str:
    """Why the real service would refuse a request; empty for a valid one."""
    if not request.get("stream") or not isinstance(request.get("max_tokens"), int):
        return "stream and max_tokens are required here"
    kind = (request.get("thinking") or {}).get("type")
    if kind and not known["capabilities"]["thinking"]["types"].get(kind, {}).get("supported"):
        return f"thinking.type: {kind} is not supported by this model"
    if kind == "enabled" and not 1024 <= request["thinking"].get("budget_tokens", 0) < request["max_tokens"]:
        return "thinking.budget_tokens must be at least 1024 and less than max_tokens"
    if json.dumps(request).count('"cache_control"') > 4:
        return "a maximum of 4 blocks with cache_control may be provided"
    return _messages_complaint(request["messages"])


def _messages_complaint(messages: Sequence[Any]) -> str:
    if not messages or messages[0]["role"] != "user" or messages[-1]["role"] != "user":
        return "messages: the first and the last are the user's"
    open_uses: set[str] = set()
    for n, message in enumerate(messages):
        if message["role"] != ("user", "assistant")[n % 2]:
            return "messages: roles must alternate"
        blocks = message["content"] if isinstance(message["content"], list) else []
        if isinstance(message["content"], list) and not blocks:
            return f"messages.{n}: content is empty"
        if blocks and blocks[-1]["type"].endswith("thinking"):
            return f"messages.{n}: the final block in an assistant message cannot be `thinking`"
        if any(b["type"] == "text" and not b["text"].strip() for b in blocks):
            return f"messages.{n}: text content blocks must be non-empty"
        if any(b["type"] == "thinking" and not b.get("signature") for b in blocks):
            return f"messages.{n}: thinking without its signature"
        results = {b["tool_use_id"] for b in blocks if b["type"] == "tool_result"}
        if message["role"] == "user" and results != open_uses:
            return f"messages.{n}: tool_use ids were found without tool_result blocks: {open_uses - results}"
        open_uses = {b["id"] for b in blocks if b["type"] == "tool_use"}
    return ""


if __name__ == "__main__":
    serve(Server, "A local server that speaks the Anthropic streaming protocol.", key="sk-test")
