"""Edits of a proposal: read from JSON, checked, and applied to texts in memory

Every refusal is an EditError in words for the author of the edits. Nothing is read or written: the caller that writes
the result checks for symlinks.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core.edits.hidden_text import refuse_hidden
from core.edits.match import MAX_PLACES, indented, line_number, lines_of, nearest, numbered, places
from core.edits.python_syntax import ENDINGS, MARK, parsed, parses
from core.record.errors import EditError
from core.record.proposal import Edit, Proposal, kind_of
from core.text import one_line

MAX_BYTES = 2_000_000  # of one edit's text, and of one resulting file
MAX_EDITS = 200
MAX_HYPOTHESIS = 400  # characters
MAX_RATIONALE = 20_000  # characters
MAX_IDEAS, MAX_IDEA_CHARACTERS = 3, 200  # for later experiments
MAX_PATH_CHARACTERS = 200  # in a message

_EDIT_FIELDS = ("path", "search", "replace", "content")
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")


def is_path(path: str) -> bool:
    """Whether an edit can name the file: invisible characters could hide another name, and other bytes are no text."""
    return bool(path) and path == path.strip() and path.isprintable()


def clean_path(path: str) -> str:
    """`path` without a leading `./`. Raises EditError for a path outside the project or of git's own files."""
    shown = _shown(path)
    if not is_path(path):
        raise EditError(f"{shown!r} is not a path of a file", hint="give the path as shown in the list of files")
    plain = path
    while plain.startswith("./"):
        plain = plain[2:]
    parts = plain.split("/")
    if plain.startswith(("/", "~")) or "\\" in plain or re.match(r"^[A-Za-z]:", plain) or ".." in parts:
        raise EditError(
            f"{shown} is outside the project", hint="give a path relative to the project, without .., ~ or a drive"
        )
    if "" in parts or "." in parts:
        raise EditError(f"{shown!r} is not a path of a file", hint="give the path as shown in the list of files")
    if any(part.lower() in (".git", ".gitmodules", ".gitattributes") for part in parts):
        raise EditError(f"{shown} belongs to git and may not be edited")
    return plain


# --- applying ------------------------------------------------------------------------------------


def apply_edits(files: Mapping[str, str], edits: Sequence[Edit], *, may_edit: Callable[[str], bool]) -> dict[str, str]:
    """The new text of each file that changes. `files`: path to text, at least every editable file.

    Edits apply in order, each to the result of the one before. Raises EditError: a path that is unknown, outside the
    project or not editable; search text that does not occur (with the nearest lines) or occurs more than once (with the
    lines); no effect; too large; not text; Python that does not parse.
    """
    if not edits:
        raise EditError("the list of edits is empty", hint="give at least one edit")
    if len(edits) > MAX_EDITS:
        raise EditError(f"{len(edits)} edits, more than {MAX_EDITS}", hint='give the whole file as "content"')
    now = dict(files)
    touched: dict[str, None] = {}
    for number, edit in enumerate(edits, 1):
        shown = _shown(edit.path)
        label = f"edit {number} ({shown})" if len(edits) > 1 else shown
        path = clean_path(edit.path)
        if not may_edit(path):
            allowed = ", ".join(sorted(p for p in files if may_edit(p))[:20]) or "none"
            raise EditError("this file may not be edited", where=label, hint=f"the files that may: {allowed}")
        _check_text(label, *(t for t in (edit.search, edit.replace, edit.content) if t is not None))
        now[path] = _apply_one(now, path, edit, label)
        touched[path] = None
    changed = {path: now[path] for path in touched if now[path] != files.get(path)}
    if not changed:
        raise EditError("the edits have no effect: every file is as before", hint="change something that the run uses")
    for path, text in changed.items():
        _check_result(path, text, files.get(path, ""))
    return changed


def _apply_one(files: Mapping[str, str], path: str, edit: Edit, label: str) -> str:
    if edit.content is not None:
        if edit.search is not None or edit.replace is not None:
            raise EditError("content and search/replace are both given", where=label, hint="give one or the other")
        marked = files.get(path, "").startswith(MARK) and not edit.content.startswith(MARK)
        return MARK + edit.content if marked else edit.content
    if edit.search is None or edit.replace is None:
        missing = "search" if edit.search is None else "replace"
        hint = "give search and replace, or content for the whole file"
        raise EditError(f"{missing} is missing", where=label, hint=hint)
    if path not in files:
        if edit.search == "":
            return edit.replace
        known = ", ".join(sorted(files)[:20]) or "none"
        raise EditError(
            "there is no such file", where=label, hint=f"the files: {known}. An empty search creates a new file"
        )
    if edit.search == "":
        raise EditError(
            "an empty search creates a file, and this one exists already", where=label,
            hint='give the text to be replaced as "search", or the whole file as "content"',
        )  # fmt: skip
    return _replace_once(files[path], edit.search, edit.replace, label)


def _replace_once(text: str, search: str, replacement: str, label: str) -> str:
    found = places(text, search)
    if not found:
        near = nearest(text, search)
        shown = f"the nearest lines are\n{near}" if near else "no line of the file is similar"
        raise EditError(
            f"the search text was not found; {shown}", where=label,
            hint="copy the search text from the current file, without line numbers",
        )  # fmt: skip
    if len(found) > 1:
        lines = lines_of(text)
        spots = [line_number(text, p.start) for p in found[:12]]
        many = f"{len(found)} times" if len(found) < MAX_PLACES else f"{len(found)} times or more"
        shown = "\n".join(numbered(lines, n, n) for n in spots[:6]) + ("\n      …" if len(spots) > 6 else "")
        raise EditError(
            f"the search text occurs {many}, at lines {', '.join(map(str, spots))}:\n{shown}",
            where=label, hint="add lines before or after it until it occurs only once",
        )  # fmt: skip
    place = found[0]
    if text[place.start : place.end] != search:
        # Found line by line: the newline after the last line is not part of the place.
        lead = len(search) - len(search.lstrip("\r\n"))
        trail = len(search) - len(search.rstrip("\r\n"))
        for _ in range(search[:lead].count("\n")):
            replacement = replacement.removeprefix("\n")
        for _ in range(search[len(search) - trail :].count("\n")):
            replacement = replacement.removesuffix("\n")
        moved = indented(replacement, place)
        if moved is None:
            raise EditError(
                "the search text was found with another indentation, which does not fit the replacement", where=label,
                hint="copy the search text with the indentation that the file has:\n"
                + numbered(lines_of(text), line_number(text, place.start), line_number(text, place.end)),
            )  # fmt: skip
        replacement = moved
        if not replacement:
            return text[: place.start] + text[place.end :].removeprefix("\r").removeprefix("\n")
    if "\r\n" in text and "\r" not in replacement:
        replacement = replacement.replace("\n", "\r\n")  # the file keeps its line ends
    return text[: place.start] + replacement + text[place.end :]


def _check_text(label: str, *texts: str) -> None:
    for text in texts:
        if "\x00" in text:
            raise EditError("contains a NUL byte: only text can be edited", where=label)
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise EditError("is not valid Unicode (a lone surrogate): only text can be edited", where=label) from None
        if size > MAX_BYTES:
            raise EditError(f"is {size:,} bytes, more than {MAX_BYTES:,}", where=label, hint="make a smaller change")


def _check_result(path: str, text: str, before: str) -> None:
    if len(text.encode()) > MAX_BYTES:
        raise EditError(f"would be more than {MAX_BYTES:,} bytes", where=path, hint="make a smaller change")
    control = _CONTROL.search(text)
    if control and control[0] not in before:
        where = f"{path}:{line_number(text, control.start())}"
        raise EditError(
            f"contains the control character {control[0]!r}: only text can be edited", where=where,
            hint="write it as an escape",
        )  # fmt: skip
    refuse_hidden(path, text, before)
    if path.endswith(ENDINGS) and parses(before):  # else it is of another Python version, which only a run can check
        _check_python(path, text)


def _check_python(path: str, text: str) -> None:
    try:
        parsed(text)
    except SyntaxError as error:
        line = error.lineno
        if line is None:
            raise EditError(f"would not parse: {error.msg}", where=path, hint="write simpler code") from None
        raise EditError(
            f"would not parse: {error.msg}\n{numbered(lines_of(text), line - 2, line + 1)}", where=f"{path}:{line}",
            hint="correct the syntax; the lines shown are of the file with all edits applied",
        ) from None  # fmt: skip


def _shown(path: str) -> str:
    return _one_line(path)[:MAX_PATH_CHARACTERS]


def _one_line(text: str) -> str:
    return " ".join(_CONTROL.sub("", text).split())


# --- proposals as JSON ---------------------------------------------------------------------------


def proposal_from_plain(plain: object) -> Proposal:
    """A Proposal from a researcher's JSON object. Raises EditError that names the field.

    `kind` may be any word that `kind_of` knows; an unknown one becomes "other" and is kept in `extra["kind"]`. `ideas`
    are kept in `extra["ideas"]`; unknown fields are ignored.
    """
    if not isinstance(plain, Mapping):
        raise EditError(f"a proposal is a JSON object, not {_type(plain)}")
    hypothesis = plain.get("hypothesis")
    if not isinstance(hypothesis, str) or not one_line(hypothesis):
        what = "is missing" if hypothesis is None else "is empty" if isinstance(hypothesis, str) else "is not text"
        raise EditError(
            f'"hypothesis" {what}', hint="state in one sentence what changes, why it should help, and by how much"
        )
    extra: dict[str, Any] = {}
    kind = plain.get("kind")
    if kind is not None:
        named = _one_line(str(kind))[:60]
        kind = kind_of(named)
        if kind is None and named:
            extra["kind"] = named
    ideas = plain.get("ideas")
    if isinstance(ideas, (list, tuple)):  # anything else is ignored
        extra["ideas"] = [_one_line(idea)[:MAX_IDEA_CHARACTERS] for idea in ideas if isinstance(idea, str)][:MAX_IDEAS]
    edits = plain.get("edits")
    if isinstance(edits, str):  # some models write the list as a JSON string
        try:
            edits = json.loads(edits)
        except (ValueError, RecursionError):
            raise EditError('"edits" is text, not a list', hint="give a list of objects") from None
    if edits is None:
        raise EditError('"edits" is missing', hint='give a list of {"path", "search", "replace"}')
    if not isinstance(edits, (list, tuple)):
        raise EditError(f'"edits" is {_type(edits)}, not a list', hint='give a list of {"path", "search", "replace"}')
    if not edits:
        raise EditError('"edits" is empty', hint="give at least one edit")
    return Proposal(
        hypothesis=one_line(hypothesis)[:MAX_HYPOTHESIS],
        edits=tuple(_edit_from_plain(edit, n) for n, edit in enumerate(edits, 1)),
        rationale=_text(plain, "rationale")[:MAX_RATIONALE], expected=_number(plain, "expected"), kind=kind or "other",
        extra=extra,
    )  # fmt: skip


def _edit_from_plain(plain: object, number: int) -> Edit:
    if not isinstance(plain, Mapping):
        raise EditError(f'edit {number} is {_type(plain)}, not an object with "path", "search" and "replace"')
    for name in _EDIT_FIELDS:
        value = plain.get(name)
        if value is not None and not isinstance(value, str):
            raise EditError(f'edit {number}: "{name}" is {_type(value)}, not text')
    path = plain.get("path")
    if not path:
        raise EditError(f'edit {number} has no "path"')
    search, replacement, content = plain.get("search"), plain.get("replace"), plain.get("content")
    if content is not None and not search and not replacement:
        return Edit(path=path, content=content)
    if content is None and (search is None or replacement is None):
        missing = "search" if search is None else "replace"
        raise EditError(
            f'edit {number} has no "{missing}"', where=_shown(path),
            hint='give "search" and "replace", or "content" for the whole file',
        )  # fmt: skip
    return Edit(path=path, search=search, replace=replacement, content=content)


def proposal_to_plain(proposal: Proposal) -> dict[str, Any]:
    """The JSON object that `proposal_from_plain` reads; unset fields of an edit are left out."""
    edits = [
        {name: value for name in _EDIT_FIELDS if (value := getattr(edit, name)) is not None} for edit in proposal.edits
    ]
    return {
        "hypothesis": proposal.hypothesis, "rationale": proposal.rationale, "expected": proposal.expected,
        "kind": proposal.kind, "edits": edits,
    }  # fmt: skip


def _text(plain: Mapping[str, Any], name: str) -> str:
    value = plain.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise EditError(f'"{name}" is {_type(value)}, not text')
    return _CONTROL.sub("", value)


def _number(plain: Mapping[str, Any], name: str) -> float | None:
    value = plain.get(name)
    if isinstance(value, str):
        try:
            value = float(value.strip().replace("−", "-"))
        except ValueError:
            raise EditError(f'"{name}" is text, not a number', hint="give a signed number or leave it out") from None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise EditError(f'"{name}" is {_type(value)}, not a number', hint="give a signed number or leave it out")
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _type(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
