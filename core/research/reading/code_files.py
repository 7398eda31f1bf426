"""What a researcher may look at in the code: the editable and the read-only files, by lines or by search."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from itertools import islice

from core.edits.apply import clean_path
from core.record.errors import EditError
from core.research.protocol import Brief
from core.research.reading import regex_worker, worker
from core.text import clean, one_line, plural

LINES = 400  # of a file, shown at once
WIDTH = 500  # characters of a line
PLACES = 60  # of one search, shown at once
PATTERN = 500  # characters
SEARCH_SECONDS = 5.0  # that a search by expression may take, the start of its process included


def readable(brief: Brief) -> dict[str, str]:
    """Every file that may be read, path -> text: the editable ones as they stand in the parent, and the read-only."""
    return {**brief.read_files, **brief.files}


def read_lines(brief: Brief, path: str, first: int, last: int | None) -> tuple[str, str, str]:
    """(path, lines with their numbers, a word on what part that is). Raises EditError for what may not be read."""
    files = readable(brief)
    path = clean_path(path)
    if path not in files:
        raise EditError(
            f"{one_line(path, 200)} cannot be read here", hint=f"what may be read: {', '.join(sorted(files)) or 'none'}"
        )
    lines = files[path].split("\n")
    if lines and not lines[-1]:
        lines.pop()
    if first > max(1, len(lines)):
        raise EditError(f"{path} has only {plural(len(lines), 'line')}", hint="ask for lines that it has")
    end = min(len(lines), first + LINES - 1, last if last is not None else len(lines))
    if end < first <= len(lines):
        raise EditError(f"line {last} comes before line {first}", hint="give the first line, then the last")
    shown = "\n".join(f"{n:5d} | {clean(lines[n - 1])[:WIDTH]}" for n in range(first, end + 1))
    return path, shown, f"lines {first}-{end} of {len(lines):,}"


async def search(
    brief: Brief, text: str, *, regex: bool = False, path: str = "", seconds: float = SEARCH_SECONDS
) -> tuple[list[tuple[str, int, str]], bool]:
    """(path, line number, line) of each place, and whether there are more. Raises EditError: bad or slow pattern."""
    if not text.strip() or len(text) > PATTERN:
        raise EditError(f"a search is 1 to {PATTERN} characters long", hint="search for a name or a short phrase")
    files = readable(brief)
    if path:
        folder = path.rstrip("/") + "/"
        files = {name: body for name, body in files.items() if name == path or name.startswith(folder)}
        if not files:
            known = ", ".join(sorted(readable(brief))) or "none"
            raise EditError(f"nothing that may be read is called {one_line(path, 200)}", hint=f"the files: {known}")
    if regex:
        places = await _by_expression(files, text, seconds)
    else:
        matches = regex_worker.containing(text)
        places = await asyncio.to_thread(lambda: list(islice(regex_worker.found(files, matches), PLACES + 1)))
    return places[:PLACES], len(places) > PLACES


async def _by_expression(files: Mapping[str, str], pattern: str, seconds: float) -> list[tuple[str, int, str]]:
    asked = json.dumps({"files": dict(files), "pattern": pattern, "limit": PLACES + 1}).encode()
    try:
        answer = await worker.ask(regex_worker.__file__, stdin=asked, seconds=seconds)
    except TimeoutError:
        raise EditError(
            f"the search took longer than {seconds:g} s and was ended",
            hint="use a simpler expression (no nested repeats), or search for plain text",
        ) from None
    except worker.ChildFailed as error:
        raise EditError(f"the search failed: it {error}", hint="use a simpler expression, or plain text") from None
    if "wrong" in answer:
        raise EditError(f"no regular expression: {answer['wrong']}", hint="mend it, or search for plain text")
    return [(str(path), int(number), str(line)) for path, number, line in answer["places"]]
