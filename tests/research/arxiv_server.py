"""A local server that answers as export.arxiv.org does: `/api/query` in Atom, `/pdf/ID`, and faults.

with ArxivServer([paper("2401.00001v2", "Muon")]) as server:
    …  # Arxiv(cache, address=server.url)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape


def paper(id: str, title: str, abstract: str = "An abstract.", authors: Sequence[str] = ("A. Author",)) -> str:
    """One entry, as arXiv writes it."""
    people = "".join(f"<author><name>{escape(name)}</name></author>" for name in authors)
    return (
        f"<entry><id>http://arxiv.org/abs/{id}</id><updated>2024-01-02T00:00:00Z</updated>"
        f"<published>2024-01-01T00:00:00Z</published><title>{escape(title)}</title>"
        f"<summary>  {escape(abstract)}\n</summary>{people}</entry>"
    )


def feed(entries: Sequence[str]) -> bytes:
    head = (
        "<?xml version='1.0' encoding='UTF-8'?>\n<feed xmlns='http://www.w3.org/2005/Atom'><title>arXiv Query</title>"
    )
    return f"{head}{''.join(entries)}</feed>".encode()


class ArxivServer:
    """`asked` holds (time, path, parameters) of each request. `answer`: what `/api/query` says; `fault` a status."""

    def __init__(self, entries: Sequence[str] = (), pdfs: Mapping[str, bytes] | None = None) -> None:
        self.answer = feed(entries)
        self.empty_for = ""  # a query that holds this finds nothing
        self.pdfs = dict(pdfs or {})
        self.fault = 0
        self.hang = threading.Event()  # set: answers wait until it is closed
        self.asked: list[tuple[float, str, dict[str, list[str]]]] = []
        self.closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.owner = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> ArxivServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        owner: ArxivServer = self.server.owner  # type: ignore[attr-defined]
        parts = urlsplit(self.path)
        parameters = parse_qs(parts.query)
        owner.asked.append((time.monotonic(), parts.path, parameters))
        if owner.hang.is_set():
            owner.closing.wait(30)
            return
        if owner.fault:
            return self._send(owner.fault, b"no", "text/plain")
        if parts.path.startswith("/pdf/"):
            body = owner.pdfs.get(parts.path.removeprefix("/pdf/"))
            return self._send(404, b"", "text/plain") if body is None else self._send(200, body, "application/pdf")
        query = parameters.get("search_query", [""])[0]
        self._send(
            200, feed([]) if owner.empty_for and owner.empty_for in query else owner.answer, "application/atom+xml"
        )

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
