"""Reading and searching the files that a researcher may read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from itertools import islice

from core.edits.apply import clean_path
from core.record.errors import EditError
from core.research.reading import regex_worker, worker
from core.text import clean, one_line, plural

MAX_LINES = 400  # of a file in one answer
MAX_LINE_CHARACTERS = 500
MAX_MATCHES = 60  # of one search
MAX_PATTERN_CHARACTERS = 500
SEARCH_SECONDS = 5.0  # time limit of a search by regular expression, with the start of its process

Files = Mapping[str, str]  # path -> text


def read_lines(files: Files, path: str, first: int, last: int | None) -> tuple[str, str, str]:
    """(path, numbered lines, which part of the file that is). Raises EditError for a file that may not be read."""
    path = clean_path(path)
    if path not in files:
        raise EditError(f"{one_line(path, 200)} cannot be read here", hint=f"the files: {_names(files)}")
    lines = files[path].split("\n")
    if lines and not lines[-1]:
        lines.pop()
    if first > max(1, len(lines)):
        raise EditError(f"{path} has only {plural(len(lines), 'line')}", hint="ask for lines within it")
    end = min(len(lines), first + MAX_LINES - 1, last if last is not None else len(lines))
    if end < first <= len(lines):
        raise EditError(f"line {last} comes before line {first}", hint="give the first line, then the last")
    shown = "\n".join(f"{n:5d} | {clean(lines[n - 1], code=True)[:MAX_LINE_CHARACTERS]}" for n in range(first, end + 1))
    return path, shown, f"lines {first}-{end} of {len(lines):,}"


async def search(
    files: Files, text: str, *, regex: bool = False, path: str = "", seconds: float = SEARCH_SECONDS
) -> tuple[list[tuple[str, int, str]], bool]:
    """(path, line number, line) of each match, and whether there are more. Raises EditError: bad or slow pattern."""
    if not text.strip() or len(text) > MAX_PATTERN_CHARACTERS:
        what = f"a search text has 1 to {MAX_PATTERN_CHARACTERS} characters"
        raise EditError(what, hint="search for a name or a short phrase")
    folder = path.rstrip("/") + "/"
    chosen = {name: body for name, body in files.items() if not path or name == path or name.startswith(folder)}
    if path and not chosen:
        raise EditError(f"there is no readable file {one_line(path, 200)}", hint=f"the files: {_names(files)}")
    if regex:
        matches = await _by_expression(chosen, text, seconds)
    else:
        contains = regex_worker.containing(text)
        matches = await asyncio.to_thread(lambda: list(islice(regex_worker.find(chosen, contains), MAX_MATCHES + 1)))
    return matches[:MAX_MATCHES], len(matches) > MAX_MATCHES


def _names(files: Files) -> str:
    return ", ".join(sorted(files)) or "none"


async def _by_expression(files: Files, pattern: str, seconds: float) -> list[tuple[str, int, str]]:
    request = json.dumps({"files": dict(files), "pattern": pattern, "limit": MAX_MATCHES + 1}).encode()
    try:
        answer = await worker.ask(regex_worker.__file__, stdin=request, seconds=seconds)
    except TimeoutError:
        hint = "use a simpler expression (no nested repeats), or search for plain text"
        raise EditError(f"the search took longer than {seconds:g} s and was ended", hint=hint) from None
    except worker.WorkerFailed as error:
        raise EditError(f"the search failed: it {error}", hint="use a simpler expression, or plain text") from None
    if "error" in answer:
        raise EditError(f"not a regular expression: {answer['error']}", hint="correct it, or search for plain text")
    return [(str(path), int(number), str(line)) for path, number, line in answer["matches"]]
