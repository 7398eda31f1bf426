"""Base of the local servers of these tests: a free port, and scripted turns and faults of a model.

A turn, all fields optional: `thinking`, `text`, `tool` (the input of the tool `propose`), `tool_name`, `raw_json` (sent
in place of the tool's input), `tools` (calls that come before it: a list of [name, input]), `usage`, `pieces` (deltas a
block), `delay` (seconds between events). A fault: `{"fault": "status", "status", "code", "message", "retry_after"}`,
`{"fault": "raw", "status", "raw"}` (that body),
`{"fault": "cut", "after": EVENTS}` (the connection is closed), `{"fault": "end", "after"}` (the body ends properly, too
early), `{"fault": "error", "after", "code"}`, `{"fault": "html"}`, `{"fault": "garbage", "after"}`,
`{"fault": "hang", "after", "seconds"}`. A fault with `after` may carry the fields of a turn, which is then cut short.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HTML = b"<!doctype html><title>Sign in</title><p>Welcome to the wireless network"


class LocalServer:
    """Serves on a free port of 127.0.0.1 while entered. `closing` is set at the end and interrupts waits."""

    def __init__(self, handler: type[Handler]) -> None:
        self.closing = threading.Event()
        self._http = _Http(("127.0.0.1", 0), handler)
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

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
    owner: LocalServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a closed connection."""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection. `owner` is the LocalServer, of whichever kind."""

    server: _Http
    owner: Any

    def setup(self) -> None:
        super().setup()
        self.owner = self.server.owner

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def send(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class ModelServer(LocalServer):
    """Plays `turns` in order; with `repeat` the last one for ever. `requests` holds the bodies received, in order."""

    def __init__(
        self, handler: type[ModelHandler], turns: Sequence[Any], *, key: str, models: Sequence[Any], repeat: bool
    ) -> None:
        super().__init__(handler)
        self.turns = list(turns)
        self.key = key
        self.models = list(models)
        self.repeat = repeat
        self.requests: list[Any] = []
        self._served = 0
        self._lock = threading.Lock()

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


class ModelHandler(Handler, ABC):
    """Refuses, streams and fails; each protocol defines its messages."""

    protocol_version = "HTTP/1.1"

    @abstractmethod
    def refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        """An error in the service's form."""

    def body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")

    def bearer(self) -> str:
        return (self.headers.get("authorization") or "").removeprefix("Bearer ")

    def answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self.send(status, "application/json", json.dumps(value).encode(), headers)

    def failed(self, turn: Any, code: str) -> bool:
        """Whether the turn is a fault in place of a stream, which is then played; `code`: where it names none."""
        if turn.get("fault") == "status":
            headers = {"retry-after": str(turn["retry_after"])} if "retry_after" in turn else {}
            self.refuse(turn["status"], turn.get("code", code), turn.get("message", "as scripted"), headers)
            return True
        if turn.get("fault") == "raw":
            raw = turn["raw"]
            text, kind = (raw, "text/html") if isinstance(raw, str) else (json.dumps(raw), "application/json")
            self.send(turn["status"], kind, text.encode())
            return True
        if turn.get("fault") == "html":
            self.send(200, "text/html", HTML)
            return True
        return False

    def stream(self, turn: Any, made: Iterable[bytes], *, error: bytes, garbage: bytes, last: bytes = b"") -> None:
        """The events `made` and then `last`, or until the turn's fault; `error`, `garbage`: what such a fault sends."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        fault, after = turn.get("fault"), turn.get("after", 0)
        for n, event in enumerate(made):
            if fault and n >= after:
                if fault in ("cut", "hang"):
                    return self._drop(turn.get("seconds", 60.0) if fault == "hang" else 0.0)
                last = {"error": error, "garbage": garbage, "end": b""}[fault]
                break
            self._chunk(event)
            if turn.get("delay"):
                self.owner.closing.wait(turn["delay"])
        if last:
            self._chunk(last)
        self._chunk(b"")

    def _drop(self, seconds: float) -> None:
        """Close the connection after `seconds` of silence."""
        self.owner.closing.wait(seconds)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


def calls_of(turn: Any) -> list[tuple[str, str]]:
    """The turn's tool calls: (name, input as JSON)."""
    calls = [(name, json.dumps(input)) for name, input in turn.get("tools", [])]
    if "tool" in turn or "raw_json" in turn:
        raw = turn["raw_json"] if "raw_json" in turn else json.dumps(turn["tool"])
        calls.append((turn.get("tool_name", "propose"), raw))
    return calls


def cut(text: str, pieces: int) -> list[str]:
    step = max(1, -(-len(text) // pieces))
    return [text[i : i + step] for i in range(0, len(text), step)]


def serve(make: Callable[..., ModelServer], description: str, key: str) -> None:
    """The server as a program: one turn a line of the script; the port is written when it listens."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--script", type=Path, required=True, help="one turn a line, as JSON")
    parser.add_argument("--port-file", type=Path, required=True, help="where the port is written once it listens")
    parser.add_argument("--key", default=key)
    parser.add_argument("--repeat", action="store_true", help="play the last turn again and again")
    options = parser.parse_args()
    turns = [json.loads(line) for line in options.script.read_text().splitlines() if line.strip()]
    with make(turns, key=options.key, repeat=options.repeat) as server:
        part = options.port_file.with_suffix(".part")
        part.write_text(str(server.port))
        part.replace(options.port_file)  # a reader that waits for the file finds it complete
        while True:
            time.sleep(3600)
