"""Client of arXiv's public API: search, abstracts and PDFs, cached on disk and limited in rate.

https://info.arxiv.org/help/api/: one request every three seconds, answers in Atom XML. AUTORESEARCH_ARXIV_URL
names another server (with `/api/query` and `/pdf/ID`).
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
DELAY_SECONDS = 3.0  # between two requests, as arXiv asks for
TIMEOUT_SECONDS = 20.0  # of one request
CACHE_SECONDS = 7 * 86400.0  # for which a cached answer is used without a request
OFFLINE_SECONDS = 60.0  # after a failure, during which requests fail at once
MAX_ANSWER_BYTES, MAX_PDF_BYTES = 5_000_000, 50_000_000
MAX_CACHED_FILES = 400
MAX_WORDS, MAX_WORD_CHARACTERS = 10, 40  # of a query

_ATOM = "{http://www.w3.org/2005/Atom}"
_ID = re.compile(r"^(?:arxiv:)?((?:\d{4}\.\d{4,5}|[a-z-]+(?:\.[A-Z]{2})?/\d{7})(?:v\d{1,3})?)$", re.IGNORECASE)
_FIELD = re.compile(r"^(ti|au|abs|cat|all):([\w.-]+)$")


@dataclass(frozen=True, slots=True)
class ArxivEntry:
    """arXiv's description of one paper. `published` is a date, YYYY-MM-DD."""

    id: str
    title: str
    authors: tuple[str, ...]
    published: str
    abstract: str


def paper_id(name: str) -> str | None:
    """The arXiv identifier in `name` ("arxiv:2401.00001v2", "2401.00001", "cs/0112017"), None when there is none."""
    found = _ID.match(name.strip())
    return found[1] if found else None


class Arxiv:
    """Client with the folder `cache`. Methods raise EditError when arXiv cannot answer. `delay`, `timeout`: seconds
    between two requests, and of one.
    """

    def __init__(
        self, cache: Path, *, address: str | None = None, delay: float = DELAY_SECONDS, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        given = address or os.environ.get("AUTORESEARCH_ARXIV_URL", "").strip() or ADDRESS
        self._address = given.rstrip("/").removesuffix("/api/query")
        self._cache = cache
        self._delay = delay
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._last = -delay
        self._offline = ("", -OFFLINE_SECONDS)  # reason, and time of the failure

    async def search(self, query: str, limit: int) -> tuple[list[ArxivEntry], str]:
        """Papers for MAX_WORDS words (with fields such as `ti:` or `au:`), and a note on the age of an old answer."""
        words = re.findall(r"(?:(?:ti|au|abs|cat|all):)?[\w.-]*\w", query, re.ASCII)[:MAX_WORDS]
        if not words:
            raise EditError("the query has no word that arXiv can search for", hint="use a few technical keywords")
        words = [word[:MAX_WORD_CHARACTERS] for word in words]
        terms = [word if _FIELD.match(word) else f"all:{word}" for word in words]
        found: list[ArxivEntry] = []
        for glue in (" AND ", " OR ") if len(terms) > 1 else (" AND ",):
            found, age = await self._ask({"search_query": glue.join(terms), "max_results": str(limit)})
            if found:
                break
        return found, age

    async def entry(self, id: str) -> ArxivEntry:
        """arXiv's description of one paper."""
        if found := (await self._ask({"id_list": id}))[0]:
            return found[0]
        raise EditError(f"arXiv has no paper {id}", hint="look for it with search_papers")

    async def pdf(self, id: str) -> Path:
        """The PDF of a paper, downloaded once."""
        target = self._cache / f"{id.replace('/', '_')}.pdf"
        if not await asyncio.to_thread(target.is_file):
            new = target.with_suffix(".part")
            await self._fetch(f"{self._address}/pdf/{id}", new, MAX_PDF_BYTES)
            if not await asyncio.to_thread(_is_pdf, new):
                raise _unreachable("sends a file that is not a PDF")
            await asyncio.to_thread(new.replace, target)
        return target

    async def _ask(self, parameters: Mapping[str, str]) -> tuple[list[ArxivEntry], str]:
        address = f"{self._address}/api/query?{urlencode(parameters)}"
        target = self._cache / f"{hashlib.sha256(address.encode()).hexdigest()[:32]}.json"
        cached, age = await asyncio.to_thread(_cached, target)
        if cached is not None and age < CACHE_SECONDS:
            return cached, ""
        raw = target.with_suffix(".xml")
        try:
            await self._fetch(address, raw, MAX_ANSWER_BYTES)
            entries = await asyncio.to_thread(_read, raw)
        except EditError:
            if cached is None:
                raise
            return cached, f"arXiv cannot be reached; this is its answer of {age / 86400:.0f} days ago"
        finally:
            await asyncio.to_thread(raw.unlink, missing_ok=True)
        await asyncio.to_thread(_store, target, entries)
        return entries, ""

    async def _fetch(self, address: str, target: Path, most: int) -> None:
        """One request, `delay` after the last one. Raises EditError, at once within OFFLINE_SECONDS of a failure."""
        if not self._address.startswith(("http://", "https://")):
            raise EditError(f"arXiv cannot be asked: {self._address!r} is not an address", hint="continue without it")
        async with self._lock:
            why, when = self._offline
            if time.monotonic() - when < OFFLINE_SECONDS:
                raise _unreachable(why)
            await asyncio.sleep(max(0.0, self._last + self._delay - time.monotonic()))
            try:
                await asyncio.to_thread(_make_room, target.parent)
                arguments = ("fetch", address, str(target), str(most), str(self._timeout))
                answer = await worker.ask(pdf_worker.__file__, *arguments, seconds=self._timeout + 10)
            except TimeoutError:
                answer = {"error": f"has not answered within {self._timeout:g} s"}
            except (worker.WorkerFailed, OSError) as error:
                answer = {"error": f"cannot be asked ({error})"}
            finally:
                self._last = time.monotonic()
            if "error" not in answer:
                return
            why = one_line(str(answer["error"]), 200)
            if answer.get("status") in (400, 404):
                raise EditError(f"arXiv finds nothing: {why}", hint="look for it with search_papers")
            self._offline = (why, time.monotonic())
            raise _unreachable(why)


def _is_pdf(path: Path) -> bool:
    with path.open("rb") as file:
        return b"%PDF-" in file.read(1024)


def _unreachable(why: str) -> EditError:
    hint = "search the local papers (where: local), continue without, or try later"
    return EditError(f"arXiv is not available: {why}", hint=hint)


def _read(path: Path) -> list[ArxivEntry]:
    """The entries of an Atom feed. Raises EditError for other data, and for a document type (entity expansion)."""
    raw = path.read_bytes()
    try:
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.Parse(raw, True)
        feed = ET.fromstring(raw)
    except (expat.ExpatError, ET.ParseError, ValueError) as error:
        raise _unreachable(f"answers with data that is not a list of papers ({one_line(str(error), 120)})") from None
    if feed.tag != f"{_ATOM}feed":
        raise _unreachable("answers with data that is not a list of papers")
    entries = []
    for item in feed.iter(f"{_ATOM}entry"):
        name = _child_text(item, "id")
        if "/api/errors" in name:
            raise EditError(f"arXiv rejects the query: {_child_text(item, 'summary')[:200]}", hint="use plain keywords")
        if id := paper_id(name.partition("/abs/")[2]):
            authors = tuple(one_line(_child_text(author, "name"), 80) for author in item.findall(f"{_ATOM}author"))
            title, abstract = one_line(_child_text(item, "title"), 300), one_line(_child_text(item, "summary"), 4000)
            entries.append(ArxivEntry(id, title, authors[:20], one_line(_child_text(item, "published"))[:10], abstract))
    return entries


def _refuse_doctype(*_: Any) -> None:
    raise ValueError("it declares a document type")


def _child_text(item: ET.Element, name: str) -> str:
    return (item.findtext(f"{_ATOM}{name}") or "").strip()


def _cached(path: Path) -> tuple[list[ArxivEntry] | None, float]:
    """A cached answer and its age in seconds; None when there is none that can be read."""
    try:
        age = time.time() - path.stat().st_mtime
        known = json.loads(path.read_text())
        return [ArxivEntry(**{**entry, "authors": tuple(entry["authors"])}) for entry in known], age
    except (OSError, ValueError, TypeError, KeyError):
        return None, 0.0


def _store(path: Path, entries: list[ArxivEntry]) -> None:
    with contextlib.suppress(OSError):  # on a full disk the answer is not cached
        path.write_text(json.dumps([asdict(entry) for entry in entries]))


def _make_room(folder: Path) -> None:
    """Create the cache's folder, and keep only its newest MAX_CACHED_FILES files."""
    folder.mkdir(parents=True, exist_ok=True)
    changed = {}
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another thought makes room too
            changed[file] = file.stat().st_mtime
    for file in sorted(changed, key=changed.__getitem__, reverse=True)[MAX_CACHED_FILES - 1 :]:
        file.unlink(missing_ok=True)
