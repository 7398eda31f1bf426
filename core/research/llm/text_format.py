"""Parser of proposals in plain text, for models that call no tools.

Accepted, in this order: a call of `propose` as JSON (bare, in a fence or between <tool_call> tags), SEARCH/REPLACE
blocks, a unified diff in a fence, and a whole editable file in a fence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from core.edits.match import lines_of
from core.record.errors import EditError
from core.text import one_line

RULES = """\
How to answer here: in plain text, without any tool, exactly in this form.

HYPOTHESIS: one sentence: what changes, why it should help, and by how much
EXPECTED: the signed change of the metric you expect, such as -0.01
KIND: architecture, optimizer, schedule, regularization, data, numerics, simplification or other
RATIONALE: the reasoning, in a few sentences

then each change of a file: its path on a line of its own, and below it

<<<<<<< SEARCH
lines copied exactly from the file, which occur in it only once
=======
the lines that replace them
>>>>>>> REPLACE

Keep each block short: only the lines that change and what makes them unique. If you cannot do that, write the file's \
path on a line of its own and below it the whole new file between ``` fences."""
NO_PROPOSAL = (
    "That was no proposal. Answer with the line HYPOTHESIS: and at least one SEARCH/REPLACE block in the form "
    "described, with your best idea, and nothing else."
)

MIN_WHOLE_LINES = 10  # of a fence without a path that is taken as the only editable file

_SEARCH = re.compile(r"^\s*<{5,9} ?(?:SEARCH|ORIGINAL|HEAD)\b.*$", re.I)
_MIDDLE = re.compile(r"^\s*={5,9}\s*$")
_REPLACE = re.compile(r"^\s*>{5,9} ?(?:REPLACE|UPDATED|\w+)?.*$", re.I)
_FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*([^`\n]*)$")
_FIELD = re.compile(r"^[\s*#>_-]*(hypothesis|expected|kind|rationale)[\s*_]*:[\s*_]*(.*)$", re.I)
_NUMBER = re.compile(r"[-+−]?\d*\.?\d+(?:e[-+]?\d+)?", re.I)
_HUNK = re.compile(r"^@@.*@@")


def read(text: str, files: Iterable[str]) -> Mapping[str, Any] | None:
    """The proposal in `text` as a plain mapping, or None. `files`: the paths that may be edited. Raises EditError for a
    change without a hypothesis or without a path.
    """
    known = list(files)
    if (called := _called(text)) is not None:
        return called
    edits = list(_blocks(text, known)) or list(_diffs(text, known)) or list(_whole(text, known))
    if not edits:
        return None
    fields = _fields(text)
    hypothesis = fields.get("hypothesis") or _first_sentence(text)
    if not hypothesis:
        raise EditError("there is a change, but no hypothesis", hint="write a line HYPOTHESIS: what changes and why")
    named = {"hypothesis": hypothesis, "expected": number_in(fields.get("expected", "")), "edits": edits}
    return {"rationale": "", **fields, "kind": fields.get("kind") or None, **named}


def number_in(text: str) -> str | None:
    """The first number in `text`, with an ASCII minus sign; None when there is none."""
    found = _NUMBER.search(text)
    return found[0].replace("−", "-") if found else None


# --- a tool call as text -------------------------------------------------------------------------


def _called(text: str) -> Mapping[str, Any] | None:
    """The input of `propose`, when a model writes the call into its text instead of making it."""
    for candidate in _objects(text):
        inner: Any = candidate
        for name in ("arguments", "parameters", "input"):
            if candidate.get("name", "propose") == "propose" and isinstance(candidate.get(name), (dict, str)):
                inner = candidate[name]
        if isinstance(inner, str):
            try:
                inner = json.loads(inner)
            except ValueError:
                continue
        if isinstance(inner, dict) and "hypothesis" in inner and "edits" in inner:
            return inner
    return None


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Every JSON object in the text that may contain a hypothesis."""
    decoder, at, last = json.JSONDecoder(), 0, text.rfind("hypothesis")
    while 0 <= (at := text.find("{", at)) < last:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        if isinstance(value, dict):
            yield value
        at = end


# --- search/replace ------------------------------------------------------------------------------


def _blocks(text: str, known: list[str]) -> Iterator[dict[str, str]]:
    lines, at, path = lines_of(text), 0, ""
    while at < len(lines):
        if not _SEARCH.match(lines[at]):
            at += 1
            continue
        path = _path_above(lines, at, known) or path or _only(known)
        middle = _next(lines, at + 1, _MIDDLE)
        end = _next(lines, (middle or at) + 1, _REPLACE)
        if middle is None or end is None:
            raise EditError("a SEARCH block is not closed", hint="end it with ======= and >>>>>>> REPLACE")
        if not path:
            raise EditError("a SEARCH block has no path", hint="write the file's path on the line above it")
        search, replace = lines[at + 1 : middle], lines[middle + 1 : end]
        yield {"path": path, "search": _joined(search), "replace": _joined(replace)}
        at = end + 1


def _joined(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _next(lines: list[str], start: int, wanted: re.Pattern[str]) -> int | None:
    return next((n for n in range(start, len(lines)) if wanted.match(lines[n])), None)


def _only(known: list[str]) -> str:
    return known[0] if len(known) == 1 else ""


def _path_above(lines: list[str], at: int, known: list[str]) -> str:
    """The file named in the two non-empty lines above `at`, or in the opening of the fence around it."""
    seen = 0
    for line in reversed(lines[max(0, at - 4) : at]):
        fence = _FENCE.match(line)
        words = fence[2] if fence else line
        if path := _path_in(words, known):
            return path
        seen += bool(words.strip()) and not fence
        if seen >= 2:
            break
    return ""


def _path_in(words: str, known: list[str]) -> str:
    """A known path among the words, or the whole line when it looks like the path of a new file."""
    for word in re.split(r"[\s:]+", words):
        if (bare := word.strip("`*\"'():,#[]{}").removeprefix("./")) in known:
            return bare
    line = words.strip().strip("`*\"':# ")
    return line.removeprefix("./") if re.fullmatch(r"[\w./-]+\.\w{1,8}", line) else ""


# --- diffs and whole files -----------------------------------------------------------------------


def _fences(text: str) -> Iterator[tuple[int, str, list[str], list[str]]]:
    """(line, info words, body, all lines) of each fenced block."""
    lines, at = lines_of(text), 0
    while at < len(lines):
        opened = _FENCE.match(lines[at])
        if not opened:
            at += 1
            continue
        closed = next((n for n in range(at + 1, len(lines)) if lines[n].strip() == opened[1]), len(lines))
        yield at, opened[2].strip(), lines[at + 1 : closed], lines
        at = closed + 1


def _diffs(text: str, known: list[str]) -> Iterator[dict[str, str]]:
    for _, info, body, _ in _fences(text):
        if info.split()[:1] in (["diff"], ["patch"]) or any(_HUNK.match(line) for line in body):
            yield from _hunks(body, known)


def _hunks(body: list[str], known: list[str]) -> Iterator[dict[str, str]]:
    """Each hunk as a search and its replacement: models often get line numbers wrong, but seldom the lines."""
    path, old, new = _only(known), list[str](), list[str]()

    def hunk() -> Iterator[dict[str, str]]:
        if old != new:
            yield {"path": path, "search": _joined(old), "replace": _joined(new)}
        old.clear()
        new.clear()

    for line in body:
        if line.startswith(("--- ", "+++ ")):
            yield from hunk()
            path = _path_in(re.sub(r"^(?:---|\+\+\+) (?:[ab]/)?", "", line).partition("\t")[0], known) or path
        elif _HUNK.match(line):
            yield from hunk()
        elif line.startswith("-"):
            old.append(line[1:])
        elif line.startswith("+"):
            new.append(line[1:])
        elif not line.startswith(("diff ", "index ", "\\")):
            old.append(line[1:])
            new.append(line[1:])
    yield from hunk()


def _whole(text: str, known: list[str]) -> Iterator[dict[str, str]]:
    """Fences with a path above them or in their opening; without a path the only file, if the fence is long enough."""
    fences = list(_fences(text))
    for at, info, body, lines in fences:
        path = _path_in(info, known) or _path_above(lines, at, known)
        if not path and len(fences) == 1 and len(body) >= MIN_WHOLE_LINES:
            path = _only(known)
        if path in known and body:
            yield {"path": path, "content": _joined(body)}


# --- labelled fields -----------------------------------------------------------------------------


def _fields(text: str) -> dict[str, str]:
    """The labelled lines, each with the lines below it up to the next label, block or blank line."""
    fields: dict[str, str] = {}
    name = ""
    for line in lines_of(text):
        if labelled := _FIELD.match(line):
            name = labelled[1].lower()
            fields.setdefault(name, labelled[2].strip(" *_"))
        elif not line.strip() or _SEARCH.match(line) or _FENCE.match(line):
            name = ""
        elif name:
            fields[name] = f"{fields[name]} {line.strip()}".strip()
    return fields


def _first_sentence(text: str) -> str:
    """The first line of at least four words before any block, for a model that omits the label."""
    for line in lines_of(text):
        if _SEARCH.match(line) or _FENCE.match(line):
            return ""
        words = one_line(line).strip("#* ")
        if len(words.split()) >= 4:
            return words
    return ""
