"""A real HTTP server in place of the hub: redirects, checksums, ranges, and faults on demand."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """Files by name, and faults, of which each content request uses one."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: list[str] = []  # of the next content requests: cut, 503, 404, corrupt, ignore-range, wrong-range
        self.checksums = True
        self.requests: list[tuple[str, str | None]] = []  # (path, Range)
        self.sent: Counter[str] = Counter()  # bytes of content by file
        self.url = ""


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_GET(self) -> None:
        """/datasets/… redirects to /content/… as the hub does, with the checksum on the redirect."""
        name = self.path.rsplit("/", 1)[1]
        if name not in self.hub.files:
            return self.empty(404)
        if self.path.startswith("/datasets/"):
            digest = hashlib.sha256(self.hub.files[name]).hexdigest()
            extra = {"X-Linked-Etag": f'"{digest}"'} if self.hub.checksums else {}
            return self.empty(302, Location=f"{self.hub.url}/content/{name}", **extra)
        self.hub.requests.append((name, self.headers.get("Range")))
        self.content(name, self.hub.faults.pop(0) if self.hub.faults else "")

    def content(self, name: str, fault: str) -> None:
        data = self.hub.files[name]
        if fault.isdigit():
            return self.empty(int(fault))
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and fault != "ignore-range" else 0
        if start >= len(data):
            return self.empty(416, **{"Content-Range": f"bytes */{len(data)}"})
        body = data[start:]
        self.send_response(206 if start else 200)
        if start:
            first = start + 7 if fault == "wrong-range" else start
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "corrupt":
            body = bytes(len(body))
        if fault == "cut":
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)
        self.hub.sent[name] += len(body)

    def empty(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub on a free local port."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
