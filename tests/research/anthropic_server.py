"""A local server that speaks the Anthropic streaming protocol, with scripted turns and faults.

In a test:

    with Server([{"thinking": "…", "tool": {…}}, {"fault": "status", "status": 529}]) as server:
        …  # ANTHROPIC_BASE_URL=server.url, ANTHROPIC_API_KEY=server.key

As a program, for tests that start other programs (one turn a line of FILE; the port is written when it listens):

    python tests/research/anthropic_server.py --script FILE.jsonl --port-file PORT [--key KEY] [--repeat]

A turn, all fields optional: `thinking`, `text`, `tool` (the input of the tool `propose`), `tool_name`, `raw_json` (sent
in place of the tool's input), `tools` (calls that come before it: a list of [name, input]), `stop_reason`,
`stop_details`, `usage`, `pieces` (deltas a block), `delay` (seconds between events), `pings`.
A fault: `{"fault": "status", "status", "error_type", "message", "retry_after"}`,
`{"fault": "cut", "after": EVENTS}` (the connection is closed), `{"fault": "end", "after"}` (the body ends properly, too
early), `{"fault": "error", "after", "error_type"}`, `{"fault": "html"}`, `{"fault": "garbage", "after"}`,
`{"fault": "hang", "after", "seconds"}`. A fault with `after` may carry the fields of a turn, which is then cut short.

Requests are checked as the real service checks them (cache marks, tool results, thinking kinds); a wrong one gets 400.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MODEL = "claude-opus-5-5"
HTML = b"<!doctype html><title>Sign in</title><p>Welcome to the wireless network"
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


class Server:
    """Serves on a free port of 127.0.0.1 while entered. `requests` holds the bodies received, in order."""

    def __init__(
        self, turns: Sequence[Any], *, key: str = "sk-test", models: Sequence[Any] = MODELS, repeat: bool = False
    ) -> None:
        self.turns = list(turns)
        self.key = key
        self.models = list(models)
        self.repeat = repeat
        self.requests: list[Any] = []
        self._served = 0
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def next_turn(self, request: Any) -> Any:
        with self._lock:
            self.requests.append(request)
            n = self._served
            self._served += 1
            if n < len(self.turns):
                return self.turns[n]
            if self.repeat and self.turns:
                return self.turns[-1]
            return {"fault": "status", "status": 500, "message": f"the script has only {len(self.turns)} turns"}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, a: type[BaseException] | None, b: BaseException | None, c: TracebackType | None) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    owner: Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        owner = self.server.owner
        if not self._allowed():
            return
        path = self.path.partition("?")[0]
        if path == "/v1/models":
            ids = [m["id"] for m in owner.models]
            page = {"data": owner.models, "has_more": False, "first_id": ids[:1], "last_id": ids[-1:]}
            self._json(200, {**page, "first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None})
        else:
            self._refuse(404, "not_found_error", path)

    def do_POST(self) -> None:
        owner = self.server.owner
        request = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        if not self._allowed():
            return
        known = {m["id"]: m for m in owner.models}
        if request.get("model") not in known:
            return self._refuse(404, "not_found_error", f"model: {request.get('model')}")
        wrong = complaint(request, known[request["model"]])
        if wrong:
            owner.requests.append({**request, "refused": wrong})
            return self._refuse(400, "invalid_request_error", wrong)
        turn = owner.next_turn(request)
        if turn.get("fault") == "status":
            kind, message = turn.get("error_type", "api_error"), turn.get("message", "as scripted")
            headers = {"retry-after": str(turn["retry_after"])} if "retry_after" in turn else {}
            return self._refuse(turn["status"], kind, message, headers)
        if turn.get("fault") == "html":
            return self._send(200, "text/html", HTML)
        self._stream(turn, request["model"])

    def _allowed(self) -> bool:
        given = self.headers.get("x-api-key") or (self.headers.get("authorization") or "").removeprefix("Bearer ")
        if given == self.server.owner.key:
            return True
        self._refuse(401, "authentication_error", "invalid x-api-key")
        return False

    def _refuse(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> None:
        self._json(status, {"type": "error", "error": {"type": kind, "message": message}}, headers)

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(value).encode(), headers)

    def _send(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, turn: Any, model_id: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        fault, after = turn.get("fault"), turn.get("after", 0)
        for n, (name, data) in enumerate(events(turn, model_id)):
            if fault and n >= after:
                return self._break(turn, fault)
            self._event(name, json.dumps(data))
            if turn.get("delay"):
                self.server.owner.closing.wait(turn["delay"])
        self._chunk(b"")

    def _break(self, turn: Any, fault: str) -> None:
        if fault == "error":
            kind = turn.get("error_type", "overloaded_error")
            self._event("error", json.dumps({"type": "error", "error": {"type": kind, "message": "as scripted"}}))
            self._chunk(b"")
        elif fault == "garbage":
            self._event("content_block_delta", '{"type": "content_block_del')
            self._chunk(b"")
        elif fault == "end":
            self._chunk(b"")
        else:
            if fault == "hang":
                self.server.owner.closing.wait(turn.get("seconds", 60.0))
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _event(self, name: str, data: str) -> None:
        self._chunk(f"event: {name}\ndata: {data}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


def events(turn: Any, model_id: str = MODEL) -> Iterator[tuple[str, Any]]:
    """The whole of a turn as (event name, data)."""
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
    for index, (block, deltas) in enumerate(_blocks(turn)):
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


def _blocks(turn: Any) -> Iterator[tuple[Any, list[Any]]]:
    pieces = max(1, turn.get("pieces", 3))
    if "thinking" in turn:
        deltas = [{"type": "thinking_delta", "thinking": p} for p in _cut(turn["thinking"], pieces)]
        deltas.append({"type": "signature_delta", "signature": "c2lnbmVk"})
        yield {"type": "thinking", "thinking": "", "signature": ""}, deltas
    if "text" in turn:
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": p} for p in _cut(turn["text"], pieces)]
    for number, (name, raw) in enumerate(calls_of(turn), 1):
        deltas = [{"type": "input_json_delta", "partial_json": p} for p in ["", *_cut(raw, pieces)]]
        yield {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {}}, deltas


def calls_of(turn: Any) -> list[tuple[str, str]]:
    """The turn's tool calls: (name, input as JSON)."""
    calls = [(name, json.dumps(input)) for name, input in turn.get("tools", [])]
    if "tool" in turn or "raw_json" in turn:
        raw = turn["raw_json"] if "raw_json" in turn else json.dumps(turn["tool"])
        calls.append((turn.get("tool_name", "propose"), raw))
    return calls


def _cut(text: str, pieces: int) -> list[str]:
    step = max(1, -(-len(text) // pieces))
    return [text[i : i + step] for i in range(0, len(text), step)]


def complaint(request: Any, known: Any) -> str:
    """What the real service would not take about a request; empty when it is right."""
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
        if any(b["type"] == "text" and not b["text"].strip() for b in blocks):
            return f"messages.{n}: text content blocks must be non-empty"
        if any(b["type"] == "thinking" and not b.get("signature") for b in blocks):
            return f"messages.{n}: thinking without its signature"
        results = {b["tool_use_id"] for b in blocks if b["type"] == "tool_result"}
        if message["role"] == "user" and results != open_uses:
            return f"messages.{n}: tool_use ids were found without tool_result blocks: {open_uses - results}"
        open_uses = {b["id"] for b in blocks if b["type"] == "tool_use"}
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description="A local server that speaks the Anthropic streaming protocol.")
    parser.add_argument("--script", type=Path, required=True, help="one turn a line, as JSON")
    parser.add_argument("--port-file", type=Path, required=True, help="where the port is written once it listens")
    parser.add_argument("--key", default="sk-test")
    parser.add_argument("--repeat", action="store_true", help="play the last turn again and again")
    options = parser.parse_args()
    turns = [json.loads(line) for line in options.script.read_text().splitlines() if line.strip()]
    with Server(turns, key=options.key, repeat=options.repeat) as server:
        part = options.port_file.with_suffix(".part")
        part.write_text(str(server.port))
        part.replace(options.port_file)  # whoever waits for the file finds it whole
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
