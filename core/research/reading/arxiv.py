"""arXiv by its public API: search, abstracts, and papers as PDF; kept on disk, politely slow, and clear when offline.

https://info.arxiv.org/help/api/: one request every three seconds, answers in Atom XML. The address can be replaced
with AUTORESEARCH_ARXIV_URL (a server that has `/api/query` and `/pdf/ID`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.parsers import expat

from core.record.errors import EditError
from core.research.reading import pdf_worker, worker
from core.text import one_line

ADDRESS = "https://export.arxiv.org"
DELAY = 3.0  # seconds between two requests, as arXiv asks for
TIMEOUT = 20.0  # seconds of one request
FRESH = 7 * 86400.0  # seconds for which an answer on disk is taken without asking again
OFFLINE = 60.0  # seconds for which a failure is remembered, so that the next question is answered at once
ANSWER_BYTES, PDF_BYTES = 5_000_000, 50_000_000
KEPT = 400  # files on disk
WORDS, LETTERS = 10, 40  # of a query, and of each of its words

_ATOM = "{http://www.w3.org/2005/Atom}"
_ID = re.compile(r"^(?:arxiv:)?((?:\d{4}\.\d{4,5}|[a-z-]+(?:\.[A-Z]{2})?/\d{7})(?:v\d{1,3})?)$", re.IGNORECASE)
_FIELD = re.compile(r"^(ti|au|abs|cat|all):([\w.-]+)$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One paper as arXiv describes it. `published` is a date, YYYY-MM-DD."""

    id: str
    title: str
    authors: tuple[str, ...]
    published: str
    abstract: str


def paper_id(name: str) -> str | None:
    """The arXiv identifier in `name` ("arxiv:2401.00001v2", "2401.00001", "cs/0112017"), None when it is none."""
    found = _ID.match(name.strip())
    return found[1] if found else None


class Arxiv:
    """`cache` holds answers and PDFs. Methods raise EditError, worded for a researcher, when arXiv cannot answer.

    `delay`, `timeout`: seconds between two requests, and of one.
    """

    def __init__(
        self, cache: Path, *, address: str | None = None, delay: float = DELAY, timeout: float = TIMEOUT
    ) -> None:
        given = address or os.environ.get("AUTORESEARCH_ARXIV_URL", "").strip() or ADDRESS
        self._address = given.rstrip("/").removesuffix("/api/query")
        self._cache = cache
        self._delay = delay
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._last = -delay
        self._offline = ("", -OFFLINE)  # why, and when that was seen

    async def search(self, query: str, limit: int) -> tuple[list[Entry], str]:
        """Papers for a query in words (fields such as `ti:` or `au:` are taken), and how old the answer is, in words.

        At most WORDS short words are sent.
        """
        words = [w[:LETTERS] for w in re.findall(r"(?:(?:ti|au|abs|cat|all):)?[\w.-]*\w", query, re.ASCII)[:WORDS]]
        if not words:
            raise EditError("the query holds no word that arXiv could look for", hint="use a few technical keywords")
        terms = [word if _FIELD.match(word) else f"all:{word}" for word in words]
        found: list[Entry] = []
        for glue in (" AND ", " OR ") if len(terms) > 1 else (" AND ",):
            found, age = await self._ask({"search_query": glue.join(terms), "max_results": str(limit)})
            if found:
                break
        return found, age

    async def entry(self, id: str) -> Entry:
        """What arXiv says of one paper."""
        found, _ = await self._ask({"id_list": id})
        if not found:
            raise EditError(f"arXiv has no paper {id}", hint="look for it with search_papers")
        return found[0]

    async def pdf(self, id: str) -> Path:
        """The paper itself, fetched once."""
        target = self._cache / f"{id.replace('/', '_')}.pdf"
        if not await asyncio.to_thread(target.is_file):
            new = target.with_suffix(".part")
            await self._fetch(f"{self._address}/pdf/{id}", new, PDF_BYTES)
            if not await asyncio.to_thread(_is_pdf, new):
                raise _unreachable("sends something that is no PDF")
            await asyncio.to_thread(new.replace, target)
        return target

    async def _ask(self, parameters: Mapping[str, str]) -> tuple[list[Entry], str]:
        address = f"{self._address}/api/query?{urlencode(parameters)}"
        target = self._cache / f"{hashlib.sha256(address.encode()).hexdigest()[:32]}.json"
        kept, age = await asyncio.to_thread(_kept, target)
        if kept is not None and age < FRESH:
            return kept, ""
        raw = target.with_suffix(".xml")
        try:
            await self._fetch(address, raw, ANSWER_BYTES)
            entries = await asyncio.to_thread(_read, raw)
        except EditError:
            if kept is None:
                raise
            return kept, f"arXiv cannot be reached; this is its answer of {age / 86400:.0f} days ago"
        finally:
            await asyncio.to_thread(raw.unlink, missing_ok=True)
        await asyncio.to_thread(_keep, target, entries)
        return entries, ""

    async def _fetch(self, address: str, target: Path, most: int) -> None:
        """One request, `delay` after the last one. Raises EditError; at once while arXiv is known to be offline."""
        if not self._address.startswith(("http://", "https://")):
            raise EditError(f"arXiv cannot be asked: {self._address!r} is no address", hint="work without it")
        async with self._turn:
            why, when = self._offline
            if time.monotonic() - when < OFFLINE:
                raise _unreachable(why)
            await asyncio.sleep(max(0.0, self._last + self._delay - time.monotonic()))
            try:
                await asyncio.to_thread(_make_room, target.parent)
                words = ("fetch", address, str(target), str(most), str(self._timeout))
                answer = await worker.ask(pdf_worker.__file__, *words, seconds=self._timeout + 10)
            except TimeoutError:
                answer = {"wrong": f"has not answered within {self._timeout:g} s"}
            except (worker.ChildFailed, OSError) as error:
                answer = {"wrong": f"cannot be asked ({error})"}
            finally:
                self._last = time.monotonic()
            if "wrong" not in answer:
                return
            why = one_line(str(answer["wrong"]), 200)
            if answer.get("status") in (400, 404):
                raise EditError(f"arXiv does not find that: {why}", hint="look for it with search_papers")
            self._offline = (why, time.monotonic())
            raise _unreachable(why)


def _is_pdf(path: Path) -> bool:
    with path.open("rb") as file:
        return b"%PDF-" in file.read(1024)


def _unreachable(why: str) -> EditError:
    return EditError(
        f"arXiv is offline for us: it {why}", hint="search the local papers (where: local), or go on without; try later"
    )


def _read(path: Path) -> list[Entry]:
    """The entries of an Atom feed. Raises EditError for what is none, or declares entities (which could be bombs)."""
    raw = path.read_bytes()
    try:
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.Parse(raw, True)
        feed = ET.fromstring(raw)
    except (expat.ExpatError, ET.ParseError, ValueError) as error:
        raise _unreachable(f"answers with something that is no list of papers ({one_line(str(error), 120)})") from None
    if feed.tag != f"{_ATOM}feed":
        raise _unreachable("answers with something that is no list of papers")
    entries = []
    for item in feed.iter(f"{_ATOM}entry"):
        name = _said(item, "id")
        if "/api/errors" in name:
            raise EditError(f"arXiv does not take the query: {_said(item, 'summary')[:200]}", hint="use plain keywords")
        id = paper_id(name.partition("/abs/")[2])
        if id:
            authors = tuple(one_line(_said(author, "name"), 80) for author in item.findall(f"{_ATOM}author"))
            title, abstract = one_line(_said(item, "title"), 300), one_line(_said(item, "summary"), 4000)
            entries.append(Entry(id, title, authors[:20], one_line(_said(item, "published"))[:10], abstract))
    return entries


def _refuse_doctype(*_: Any) -> None:
    raise ValueError("it declares a document type")


def _said(item: ET.Element, name: str) -> str:
    return (item.findtext(f"{_ATOM}{name}") or "").strip()


def _kept(path: Path) -> tuple[list[Entry] | None, float]:
    """An answer on disk and its age in seconds; None when there is none that reads."""
    try:
        age = time.time() - path.stat().st_mtime
        return [Entry(**{**entry, "authors": tuple(entry["authors"])}) for entry in json.loads(path.read_text())], age
    except (OSError, ValueError, TypeError, KeyError):
        return None, 0.0


def _keep(path: Path, entries: list[Entry]) -> None:
    with contextlib.suppress(OSError):  # a full disk costs the cache, not the answer
        path.write_text(json.dumps([asdict(entry) for entry in entries]))


def _make_room(folder: Path) -> None:
    """Make the cache's folder, and leave no more than KEPT files in it, the newest."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[KEPT - 1 :]:
        file.unlink(missing_ok=True)
