"""Full-text search in the project's `papers/` folder, and reading of its papers and arXiv's.

PDF, Markdown, text and TeX files are read into an SQLite index (FTS5, ranked by BM25) beside the session's log. A file
is read again when its time or size changes, each PDF in a worker process with limits on time, memory and pages; a file
that cannot be read is listed with the reason. The text of papers is data, never an instruction.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from core.record.errors import EditError
from core.research.reading import pdf_worker, worker
from core.research.reading.arxiv import Arxiv, ArxivEntry, paper_id
from core.text import clean, one_line

PDF, TEXT = (".pdf",), (".md", ".markdown", ".txt", ".rst", ".tex")
MAX_FILES = 1_000
MAX_DEPTH = 5  # of folders
MAX_FILE_BYTES = 100_000_000  # of a PDF; a text file is read up to MAX_CHARACTERS
MAX_CHARACTERS = 3_000_000  # of one paper
MAX_PAGES = 400  # of one PDF
PAGE_CHARACTERS = 4_000  # of a "page" of a text file
PDF_SECONDS = 60.0  # time limit for one PDF
REFRESH_SECONDS = 90.0  # for new files in one search; the rest is read by the next one
MAX_HITS = 8  # of a search, from each source

_SCHEMA = """
CREATE TABLE IF NOT EXISTS papers(
    name TEXT PRIMARY KEY, stamp TEXT, title TEXT, total INTEGER, read INTEGER, wrong TEXT);
CREATE VIRTUAL TABLE IF NOT EXISTS pages USING fts5(text, name UNINDEXED, page UNINDEXED, tokenize='porter unicode61');
"""


@dataclass(frozen=True, slots=True)
class PaperHit:
    """A match in a paper: the file's name below `papers/`, the page from 1, and the text around the match."""

    name: str
    title: str
    page: int
    excerpt: str


@dataclass(frozen=True, slots=True)
class PaperPage:
    name: str
    title: str
    number: int
    total: int
    text: str
    unread: int = 0  # pages at the end, beyond the limit


@dataclass(slots=True, eq=False)
class Library:
    """The papers of one session. `index`: file of the full-text index. `pages`, `seconds`: limits of one PDF."""

    folder: Path
    index: Path
    arxiv: Arxiv
    pages: int = MAX_PAGES
    seconds: float = PDF_SECONDS
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def search(self, query: str, limit: int = MAX_HITS) -> tuple[list[PaperHit], list[str]]:
        """Matches in the local papers, best first, and remarks (files that cannot be read)."""
        words = re.findall(r"\w+", query)[:20]
        if not words:
            raise EditError("the query has no word", hint="use a few technical keywords")
        remarks = await self._refresh()
        return await asyncio.to_thread(self._find, words, limit), remarks

    async def page(self, name: str, number: int) -> PaperPage:
        """One page of a local paper, or of one on arXiv ("arxiv:2401.00001"), which is downloaded."""
        if (id := paper_id(name)) is not None:
            name = f"arxiv:{id}"
            if name not in await asyncio.to_thread(self._stamps):
                path = await self.arxiv.pdf(id)
                async with self._lock:
                    await self._index_file(name, path, "fetched")
        else:
            await self._refresh()
        return await asyncio.to_thread(self._page, name.removeprefix("papers/"), number)

    async def abstract(self, name: str) -> ArxivEntry:
        """arXiv's description of a paper. Raises EditError."""
        if (id := paper_id(name)) is None:
            raise EditError(f"{one_line(name, 100)!r} is not an arXiv identifier", hint="such as arxiv:2401.00001")
        return await self.arxiv.entry(id)

    # --- the index ---

    async def _refresh(self) -> list[str]:
        """Index new and changed files, drop removed ones. Returns the files that cannot be read, with reasons."""
        async with self._lock:
            there = await asyncio.to_thread(_files, self.folder)
            if not there and not await asyncio.to_thread(self.folder.is_dir):
                return ["the project has no folder papers/"]
            known = await asyncio.to_thread(self._stamps)
            gone = [name for name in known if name not in there and not name.startswith("arxiv:")]
            await asyncio.to_thread(self._remove, gone)
            deadline = time.monotonic() + REFRESH_SECONDS
            new = [name for name, stamp in there.items() if known.get(name) != stamp]
            for done, name in enumerate(new):
                if time.monotonic() > deadline:
                    return [f"{len(new) - done} papers are not indexed yet: search again for them"]
                await self._index_file(name, self.folder / name, there[name])
            return await asyncio.to_thread(self._unreadable)

    async def _index_file(self, name: str, path: Path, stamp: str) -> None:
        """Read one file into the index, in place of its old text."""
        if path.suffix.lower() in PDF:
            arguments = ("pdf", str(path), str(self.pages), str(MAX_CHARACTERS))
            try:
                answer = await worker.ask(pdf_worker.__file__, *arguments, seconds=self.seconds)
            except TimeoutError:
                answer = {"error": f"reading it takes longer than {self.seconds:g} s"}
            except (worker.WorkerFailed, OSError) as error:
                answer = {"error": f"the worker process {error}"}
        else:
            answer = await asyncio.to_thread(_plain, path)
        await asyncio.to_thread(self._store, name, stamp, answer)

    def _store(self, name: str, stamp: str, answer: dict[str, object]) -> None:
        found = answer.get("pages")
        pages = [clean(str(text)) for text in found] if isinstance(found, list) else []
        total, error = answer.get("total", 0), one_line(str(answer.get("error") or ""), 200)
        title = one_line(str(answer.get("title") or ""), 200)
        if not error and not any(page.strip() for page in pages):
            error = "it has no text (a scan?)"
        with self._open() as db:
            db.execute("DELETE FROM pages WHERE name = ?", (name,))
            db.executemany("INSERT INTO pages VALUES (?,?,?)", [(text, name, n) for n, text in enumerate(pages, 1)])
            row = (name, stamp, title or Path(name).stem, total, len(pages), error)
            db.execute("INSERT OR REPLACE INTO papers VALUES (?,?,?,?,?,?)", row)

    def _stamps(self) -> dict[str, str]:
        with self._open() as db:
            return dict(db.execute("SELECT name, stamp FROM papers"))

    def _remove(self, names: list[str]) -> None:
        with self._open() as db:
            for table in ("pages", "papers"):
                db.executemany(f"DELETE FROM {table} WHERE name = ?", [(name,) for name in names])

    def _unreadable(self) -> list[str]:
        with self._open() as db:
            rows = db.execute("SELECT name, wrong FROM papers WHERE wrong != '' ORDER BY name LIMIT 8")
            return [f"{name} cannot be read: {wrong}" for name, wrong in rows]

    def _find(self, words: list[str], limit: int) -> list[PaperHit]:
        """Pages that contain all the words, else any of them."""
        select = "SELECT name, page, snippet(pages, 0, '', '', ' … ', 48) FROM pages WHERE pages MATCH ? "
        with self._open() as db:
            titles = dict(db.execute("SELECT name, title FROM papers"))
            for glue in (" ", " OR "):
                match = glue.join(f'"{word}"' for word in words)
                rows = db.execute(f"{select} ORDER BY rank LIMIT ?", (match, limit)).fetchall()
                if rows:
                    break
        return [PaperHit(name, titles.get(name, ""), page, one_line(text, 600)) for name, page, text in rows]

    def _page(self, name: str, number: int) -> PaperPage:
        with self._open() as db:
            row = db.execute("SELECT title, total, read, wrong FROM papers WHERE name = ?", (name,)).fetchone()
            if row is None:
                known = ", ".join(n for (n,) in db.execute("SELECT name FROM papers ORDER BY name LIMIT 40")) or "none"
                raise EditError(f"there is no paper {one_line(name, 100)!r}", hint=f"the papers: {known}")
            title, total, read, error = row
            if error:
                raise EditError(f"{name} cannot be read: {error}", hint="read another one")
            found = db.execute("SELECT text FROM pages WHERE name = ? AND page = ?", (name, number)).fetchone()
        if found is None:
            limit = f" (of {total}; the others are beyond the limit)" if total > read else ""
            raise EditError(f"{name} has {read} readable pages{limit}", hint="ask for one of them")
        return PaperPage(name, title, number, read, found[0], max(0, total - read))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The index, created again when it is damaged: all of its data comes from the papers."""
        self.index.parent.mkdir(parents=True, exist_ok=True)
        for attempt in (1, 2):
            db = sqlite3.connect(self.index, timeout=10)
            try:
                db.executescript(_SCHEMA)
                break
            except sqlite3.DatabaseError as error:
                db.close()
                if attempt == 2 or isinstance(error, sqlite3.OperationalError):
                    raise _broken_index(error) from error
                self.index.unlink(missing_ok=True)
        try:
            with db:
                yield db
        except sqlite3.Error as error:
            raise _broken_index(error) from error
        finally:
            db.close()


def _broken_index(error: Exception) -> EditError:
    return EditError(f"the index of papers cannot be used ({error})", hint="continue without papers")


def _files(folder: Path) -> dict[str, str]:
    """Papers below `folder`: name -> a stamp that changes with the file. Links are not followed."""
    found: dict[str, str] = {}
    for place, folders, files in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if depth < MAX_DEPTH else []
        for file in sorted(files):
            path = Path(place, file)
            if path.suffix.lower() not in (*PDF, *TEXT) or len(found) >= MAX_FILES:
                continue
            with contextlib.suppress(OSError):
                info = path.lstat()
                if stat.S_ISREG(info.st_mode) and info.st_size <= MAX_FILE_BYTES:
                    found[path.relative_to(folder).as_posix()] = f"{info.st_mtime_ns} {info.st_size}"
    return found


def _plain(path: Path) -> dict[str, object]:
    """A text file as pages of about PAGE_CHARACTERS, split between paragraphs where possible."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CHARACTERS).decode("utf-8", "replace")
    except OSError as error:
        return {"error": f"it cannot be opened ({error.strerror})"}
    if "\0" in text:
        return {"error": "it is not text"}
    pages, at = [], 0
    while at < len(text):
        end = at + PAGE_CHARACTERS
        gap = text.rfind("\n\n", at + PAGE_CHARACTERS // 2, end) if end < len(text) else -1
        end = gap if gap > 0 else end
        pages.append(text[at:end])
        at = end
    heading = re.search(r"^#?\s*(\S.*)$", text, re.MULTILINE)
    return {"pages": pages, "total": len(pages), "title": heading[1] if heading else ""}
