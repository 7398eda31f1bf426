"""A local server that answers as export.arxiv.org does: `/api/query` in Atom, `/pdf/ID`, and faults.

with ArxivServer([paper("2401.00001v2", "Muon")]) as server:
    …  # Arxiv(cache, address=server.url)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from tests.research.local_server import Handler, LocalServer


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


class ArxivServer(LocalServer):
    """`asked` holds (time, path, parameters) of each request. `answer`: what `/api/query` says; `fault` a status."""

    def __init__(self, entries: Sequence[str] = (), pdfs: Mapping[str, bytes] | None = None) -> None:
        super().__init__(_Handler)
        self.answer = feed(entries)
        self.empty_for = ""  # a query that holds this finds nothing
        self.pdfs = dict(pdfs or {})
        self.fault = 0
        self.hang = threading.Event()  # set: answers wait until it is closed
        self.asked: list[tuple[float, str, dict[str, list[str]]]] = []


class _Handler(Handler):
    owner: ArxivServer

    def do_GET(self) -> None:
        owner, parts = self.owner, urlsplit(self.path)
        parameters = parse_qs(parts.query)
        owner.asked.append((time.monotonic(), parts.path, parameters))
        if owner.hang.is_set():
            owner.closing.wait(30)
            return
        if owner.fault:
            return self.send(owner.fault, "text/plain", b"no")
        if parts.path.startswith("/pdf/"):
            body = owner.pdfs.get(parts.path.removeprefix("/pdf/"))
            return self.send(404, "text/plain", b"") if body is None else self.send(200, "application/pdf", body)
        query = parameters.get("search_query", [""])[0]
        nothing = owner.empty_for and owner.empty_for in query
        self.send(200, "application/atom+xml", feed([]) if nothing else owner.answer)
