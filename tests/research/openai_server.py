"""A local server that speaks OpenAI's two streaming protocols, with scripted turns and faults.

In a test:

    with Server([{"thinking": "…", "tool": {…}}, {"fault": "status", "status": 503}]) as server:
        …  # OPENAI_BASE_URL=server.url, OPENAI_API_KEY=server.key

As a program, for tests that start other programs (one turn a line of FILE; the port is written when it listens):

    python tests/research/openai_server.py --script FILE.jsonl --port-file PORT [--key KEY] [--repeat]

A turn, all fields optional: `thinking`, `text`, `tool` (the input of the tool `propose`), `tool_name`, `raw_json` (sent
in place of the tool's input), `tools` (calls that come before it: a list of [name, input]), `finish`, `usage`,
`pieces`, `delay` (seconds between events). A fault: `{"fault": "status", "status", "code", "message", "retry_after"}`,
`{"fault": "cut", "after": EVENTS}` (the connection is closed), `{"fault": "end", "after"}` (the body ends properly, too
early), `{"fault": "error", "after", "code"}`, `{"fault": "html"}`, `{"fault": "garbage", "after"}`,
`{"fault": "hang", "after", "seconds"}`. A fault with `after` may carry the fields of a turn, which is then cut short.

`Manners` say which kind of server it is: how thinking is sent, and what is refused.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HTML = b"<!doctype html><title>Sign in</title><p>Welcome to the wireless network"


@dataclass
class Manners:
    """What kind of server it is."""

    thinking: str = "reasoning_content"  # the field it comes in: reasoning_content, reasoning, or tags in the text
    whole_calls: bool = False  # tool calls in one piece, all with index 0, as Ollama sends them
    tools: str = ""  # the complaint about tools, where they are not taken
    refused: dict[str, str] = field(default_factory=dict)  # field of a request -> the complaint about it
    responses: bool = True  # whether the Responses protocol is there
    chat_tools: bool = True  # False: tools only by the Responses protocol, as GPT 5.6 and later have it
    usage: bool = True


class Server:
    """Serves on a free port of 127.0.0.1 while entered. `requests` holds the bodies received, in order."""

    def __init__(
        self, turns: Sequence[Any], *, key: str = "", models: Sequence[str] = ("tiny-coder",), repeat: bool = False,
        manners: Manners | None = None,
    ) -> None:  # fmt: skip
        self.turns = list(turns)
        self.key = key
        self.models = list(models)
        self.repeat = repeat
        self.manners = manners or Manners()
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
        return f"http://127.0.0.1:{self.port}/v1"

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
        if not self._allowed():
            return
        if self.path.partition("?")[0] != "/v1/models":
            return self._refuse(404, "not_found", self.path)
        made = [
            {"id": id, "object": "model", "created": 1000 - n, "owned_by": "us"} for n, id in enumerate(self._models)
        ]
        self._json(200, {"object": "list", "data": made})

    @property
    def _models(self) -> list[str]:
        return self.server.owner.models

    def do_POST(self) -> None:
        owner = self.server.owner
        request = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        if not self._allowed():
            return
        responses = self.path == "/v1/responses"
        if (responses and not owner.manners.responses) or self.path not in ("/v1/responses", "/v1/chat/completions"):
            return self._refuse(404, "not_found", f"Invalid URL (POST {self.path})")
        if request.get("model") not in owner.models:
            return self._refuse(404, "model_not_found", f"The model {request.get('model')!r} does not exist")
        wrong = self._complaint(request, responses)
        if wrong:
            owner.requests.append({**request, "refused": wrong})
            return self._refuse(400, "invalid_request_error", wrong)
        turn = owner.next_turn({**request, "path": self.path})
        if turn.get("fault") == "status":
            headers = {"retry-after": str(turn["retry_after"])} if "retry_after" in turn else {}
            return self._refuse(
                turn["status"], turn.get("code", "server_error"), turn.get("message", "as scripted"), headers
            )
        if turn.get("fault") == "html":
            return self._send(200, "text/html", HTML)
        self._stream(turn, request, responses)

    def _complaint(self, request: Any, responses: bool) -> str:
        manners = self.server.owner.manners
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
        given = (self.headers.get("authorization") or "").removeprefix("Bearer ")
        if not self.server.owner.key or given == self.server.owner.key:
            return True
        self._refuse(401, "invalid_api_key", "Incorrect API key provided")
        return False

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        self._json(status, {"error": error}, headers)

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(value).encode(), headers)

    def _send(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, turn: Any, request: Any, responses: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        manners = self.server.owner.manners
        usage = manners.usage and bool((request.get("stream_options") or {}).get("include_usage"))
        made = responses_events(turn) if responses else chat_events(turn, manners, usage)
        fault, after = turn.get("fault"), turn.get("after", 0)
        for n, data in enumerate(made):
            if fault and n >= after:
                return self._break(turn, fault, responses)
            self._event(data, responses)
            if turn.get("delay"):
                self.server.owner.closing.wait(turn["delay"])
        if not responses:
            self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, data: Any, responses: bool) -> None:
        name = f"event: {data['type']}\n" if responses else ""
        self._chunk(f"{name}data: {json.dumps(data)}\n\n".encode())

    def _break(self, turn: Any, fault: str, responses: bool) -> None:
        if fault == "error":
            code = turn.get("code", "server_error")
            said = {"code": code, "message": "as scripted", "param": None}
            self._event({"type": "error", "sequence_number": 99, **said} if responses else {"error": said}, responses)
            self._chunk(b"")
        elif fault == "garbage":
            self._chunk(b'data: {"id": "chatcmpl-1", "choi\n\n')
            self._chunk(b"")
        elif fault == "end":
            self._chunk(b"")
        else:
            if fault == "hang":
                self.server.owner.closing.wait(turn.get("seconds", 60.0))
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


# --- what a turn looks like ----------------------------------------------------------------------


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


def chat_events(turn: Any, manners: Manners, usage: bool = True) -> Iterator[Any]:
    """The whole of a turn as chat-completion chunks."""
    pieces = max(1, turn.get("pieces", 3))
    calls = calls_of(turn)

    def chunk(delta: Any, finish: str | None = None, **more: Any) -> Any:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return {**head, "choices": [choice], **more}

    yield chunk({"role": "assistant", "content": ""})
    text = turn.get("text", "")
    if manners.thinking == "tags" and "thinking" in turn:
        text = f"<think>\n{turn['thinking']}</think>\n\n{text}"
    else:
        for piece in _cut(turn.get("thinking", ""), pieces):
            yield chunk({manners.thinking: piece})
    for piece in _cut(text, pieces):
        yield chunk({"content": piece})
    for number, (name, raw) in enumerate(calls):
        function = {"name": name, "arguments": raw if manners.whole_calls else ""}
        index = 0 if manners.whole_calls else number
        yield chunk(
            {"tool_calls": [{"index": index, "id": f"call_{number}", "type": "function", "function": function}]}
        )
        if not manners.whole_calls:
            for piece in _cut(raw, pieces):
                yield chunk({"tool_calls": [{"index": number, "function": {"arguments": piece}}]})
    yield chunk({}, turn.get("finish") or ("tool_calls" if calls else "stop"))
    if usage:
        told = {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200, **turn.get("usage", {})}
        yield {**chunk({}), "choices": [], "usage": told}


def responses_events(turn: Any) -> Iterator[Any]:
    """The whole of a turn as events of the Responses protocol."""
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
        for piece in _cut(turn["thinking"], pieces):
            yield event("reasoning_summary_text.delta", delta=piece, **place)
        summary = [{"type": "summary_text", "text": turn["thinking"]}]
        items.append({"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "c2VjcmV0"})
        yield event("output_item.done", item=items[-1], output_index=0)
    if "text" in turn:
        for piece in _cut(turn["text"], pieces):
            yield event("output_text.delta", delta=piece, logprobs=[], **place)
        content = [{"type": "output_text", "text": turn["text"], "annotations": []}]
        items.append({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content})
        yield event("output_item.done", item=items[-1], output_index=1)
    for n, (name, raw) in enumerate(calls_of(turn)):
        for piece in _cut(raw, pieces):
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


# --- what the real service would not take --------------------------------------------------------


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


def main() -> None:
    parser = argparse.ArgumentParser(description="A local server that speaks OpenAI's streaming protocols.")
    parser.add_argument("--script", type=Path, required=True, help="one turn a line, as JSON")
    parser.add_argument("--port-file", type=Path, required=True, help="where the port is written once it listens")
    parser.add_argument("--key", default="")
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
