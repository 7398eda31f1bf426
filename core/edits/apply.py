"""A proposal's edits, applied to texts in memory, with every refusal worded so that its author can mend it.

Pure: nothing is read or written. Whether a path is a symlink on disk is for whoever writes the result to check.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from core.edits.match import MOST_PLACES, indented, line_number, lines_of, nearest, numbered, places
from core.record.errors import EditError
from core.record.proposal import Edit, Proposal, kind_of

if TYPE_CHECKING:
    from pathspec import Pattern

MAX_BYTES = 2_000_000  # of one edit's text, and of one resulting file
MAX_EDITS = 200
MAX_HYPOTHESIS = 400  # characters
MAX_RATIONALE = 20_000
MAX_IDEAS, MAX_IDEA = 3, 200  # noted beside a proposal for later; characters of each

_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")


# --- which paths ---------------------------------------------------------------------------------


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether `path` (relative, with `/`) is meant by git's glob `patterns`; the last one that matches decides.

    Each pattern means what it means to `git ls-files ':(glob)PATTERN'`: `*` and `?` stay within a folder, `**` crosses
    folders, a name stands for that file or for all that is below that folder, whatever characters it has. Two things
    differ: a character is one character, not a byte, and classes such as `[[:alpha:]]` are not known. A leading `!`
    takes out again. Patterns count from the folder of program.md.
    """
    meant = False
    for pattern in patterns:
        negative = pattern.startswith("!")
        if _means(pattern[1:] if negative else pattern, path):
            meant = not negative
    return meant


# Ends each file's name, and no folder's: a gitignore pattern means what is below a folder that matches too, and a glob
# with `*` does not.
_END = "\x00"


def _means(pattern: str, path: str) -> bool:
    plain = pattern.removeprefix("./").lstrip("/")
    name = plain.rstrip("/")
    if name in ("", "."):
        return True  # the whole project
    if path.startswith(f"{name}/") or path == plain:
        return True
    if not _WILD.search(plain):
        return False
    if "**" not in plain and not plain.endswith("/") and plain.count("/") != path.count("/"):
        return False  # pathspec's [!x] takes a / too
    glob = _glob(plain)
    return glob is not None and glob.match_file(path + _END) is not None


_WILD = re.compile(r"[*?\[]")


@cache
def _glob(plain: str) -> Pattern | None:
    from pathspec import lookup_pattern  # tens of milliseconds, and only what edits or starts a session needs it

    below = plain.endswith("/") or plain.split("/")[-1] == "**"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of re, about [[
            return lookup_pattern("gitignore")(f"/{plain}" if below else f"/{plain}{_END}")
    except re.error:  # a bracket that is no set, such as [z-a], matches nothing but the name itself
        return None


def clean_path(path: str) -> str:
    """`path` without a leading `./`. Raises EditError when it leaves the project or reaches into git's own files."""
    shown = _one_line(path)[:200]
    if not path or path != path.strip() or not path.isprintable():  # what cannot be seen could hide another name
        raise EditError(f"{shown!r} is no path of a file", hint="give the path as shown in the list of files")
    plain = path
    while plain.startswith("./"):
        plain = plain[2:]
    parts = plain.split("/")
    if plain.startswith(("/", "~")) or "\\" in plain or re.match(r"^[A-Za-z]:", plain) or ".." in parts:
        raise EditError(
            f"{shown} is outside the project", hint="give a path relative to the project, without .., ~ or a drive"
        )
    if "" in parts or "." in parts:
        raise EditError(f"{shown!r} is no path of a file", hint="give the path as shown in the list of files")
    if any(part.lower() in (".git", ".gitmodules", ".gitattributes") for part in parts):
        raise EditError(f"{shown} belongs to git and may not be edited")
    return plain


# --- applying ------------------------------------------------------------------------------------


def apply_edits(files: Mapping[str, str], edits: Sequence[Edit], *, may_edit: Callable[[str], bool]) -> dict[str, str]:
    """The new text of each file that changes. `files`: path to text, at least every editable file.

    Edits apply in order, each to the result of those before. Raises EditError in words for the author: a path that is
    unknown, outside the project or not editable; search text that is not there (with the nearest lines) or there more
    than once (with where); no effect; too large; not text; Python that does not parse.
    """
    if not edits:
        raise EditError("the list of edits is empty", hint="give at least one edit")
    if len(edits) > MAX_EDITS:
        raise EditError(f"{len(edits)} edits, more than {MAX_EDITS}", hint='give the whole file as "content"')
    now = dict(files)
    touched: dict[str, None] = {}
    for number, edit in enumerate(edits, 1):
        label = f"edit {number} ({_one_line(edit.path)[:200]})" if len(edits) > 1 else _one_line(edit.path)[:200]
        path = clean_path(edit.path)
        if not may_edit(path):
            allowed = ", ".join(sorted(p for p in files if may_edit(p))[:20]) or "none"
            raise EditError("this file may not be edited", where=label, hint=f"the files that may: {allowed}")
        _check_text(label, *(t for t in (edit.search, edit.replace, edit.content) if t is not None))
        now[path] = _apply_one(now, path, edit, label)
        touched[path] = None
    changed = {path: now[path] for path in touched if now[path] != files.get(path)}
    if not changed:
        raise EditError(
            "the edits have no effect: every file is exactly as before", hint="change something that the run will use"
        )
    for path, text in changed.items():
        _check_result(path, text, files.get(path, ""))
    return changed


def _apply_one(files: Mapping[str, str], path: str, edit: Edit, label: str) -> str:
    if edit.content is not None:
        if edit.search is not None or edit.replace is not None:
            raise EditError("both content and search/replace", where=label, hint="give one or the other")
        return edit.content
    if edit.search is None or edit.replace is None:
        missing = "search" if edit.search is None else "replace"
        raise EditError(f"no {missing}", where=label, hint="give search and replace, or content for the whole file")
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
        shown = f"the nearest lines are\n{near}" if near else "nothing in the file is like it"
        raise EditError(
            f"the search text was not found; {shown}", where=label,
            hint="copy the search text from the file as it is now (line numbers are not part of it)",
        )  # fmt: skip
    if len(found) > 1:
        lines = lines_of(text)
        spots = [line_number(text, p.start) for p in found[:12]]
        many = f"{len(found)} times" if len(found) < MOST_PLACES else f"{len(found)} times or more"
        shown = "\n".join(numbered(lines, n, n) for n in spots[:6]) + ("\n      …" if len(spots) > 6 else "")
        raise EditError(
            f"the search text occurs {many}, at lines {', '.join(map(str, spots))}:\n{shown}",
            where=label, hint="add lines before or after it until it occurs only once",
        )  # fmt: skip
    place = found[0]
    if text[place.start : place.end] != search:
        # Found line by line: the newline after the last line is outside the place.
        lead = len(search) - len(search.lstrip("\r\n"))
        trail = len(search) - len(search.rstrip("\r\n"))
        for _ in range(search[:lead].count("\n")):
            replacement = replacement.removeprefix("\n")
        for _ in range(search[len(search) - trail :].count("\n")):
            replacement = replacement.removesuffix("\n")
        moved = indented(replacement, place)
        if moved is None:
            raise EditError(
                "the search text was found with another indentation, which the replacement cannot follow", where=label,
                hint="copy the search text with the indentation that the file has:\n"
                + numbered(lines_of(text), line_number(text, place.start), line_number(text, place.end)),
            )  # fmt: skip
        replacement = moved
        if not replacement:
            return text[: place.start] + text[place.end :].removeprefix("\r").removeprefix("\n")
    if "\r\n" in text and "\r" not in replacement:
        replacement = replacement.replace("\n", "\r\n")  # the file keeps its own line ends
    return text[: place.start] + replacement + text[place.end :]


def _check_text(label: str, *texts: str) -> None:
    for text in texts:
        if "\x00" in text:
            raise EditError("holds a NUL byte: only text can be edited", where=label)
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
            f"holds the control character {control[0]!r}: only text can be edited", where=where,
            hint="write it as an escape",
        )  # fmt: skip
    if path.endswith((".py", ".pyi")):
        _check_python(path, text)


def _check_python(path: str, text: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a doubtful escape is the author's affair
            ast.parse(text)
    except SyntaxError as error:
        line = error.lineno or 1
        raise EditError(
            f"would not parse: {error.msg}\n{numbered(lines_of(text), line - 2, line + 1)}", where=f"{path}:{line}",
            hint="mend the syntax; the lines shown are of the file with all edits applied",
        ) from None  # fmt: skip
    except (ValueError, RecursionError, MemoryError) as error:
        reason = str(error) or "nested too deeply"
        raise EditError(f"would not parse: {reason}", where=path, hint="write simpler code") from None


def _one_line(text: str) -> str:
    return " ".join(_CONTROL.sub("", text).split())


# --- the plain shape (DESIGN §12) ----------------------------------------------------------------


def proposal_from_plain(plain: object) -> Proposal:
    """A Proposal from the JSON object a researcher hands over. Raises EditError that names the field and the hint.

    `kind` may be any word that `kind_of` knows; an unknown one becomes "other", with the word kept in
    `extra["kind"]`; `ideas` for later stand in `extra["ideas"]`; unknown fields are left out.
    """
    if not isinstance(plain, Mapping):
        raise EditError(f"a proposal is a JSON object, not {_type(plain)}")
    hypothesis = plain.get("hypothesis")
    if not isinstance(hypothesis, str) or not _one_line(hypothesis):
        what = "is missing" if hypothesis is None else "is empty" if isinstance(hypothesis, str) else "is not text"
        raise EditError(
            f'"hypothesis" {what}', hint="say in one sentence what changes, why it should help, and by how much"
        )
    extra: dict[str, Any] = {}
    kind = plain.get("kind")
    if kind is not None:
        named = _one_line(str(kind))[:60]
        kind = kind_of(named)
        if kind is None and named:
            extra["kind"] = named
    ideas = plain.get("ideas")
    if isinstance(ideas, (list, tuple)):  # for later; whatever else stands there costs the ideas, not the proposal
        extra["ideas"] = [_one_line(idea)[:MAX_IDEA] for idea in ideas if isinstance(idea, str)][:MAX_IDEAS]
    edits = plain.get("edits")
    if isinstance(edits, str):  # some models write the list as a string of JSON
        try:
            edits = json.loads(edits)
        except ValueError:
            raise EditError('"edits" is text, not a list', hint="give a list of objects") from None
    if edits is None:
        raise EditError('"edits" is missing', hint='give a list of {"path", "search", "replace"}')
    if not isinstance(edits, (list, tuple)):
        raise EditError(f'"edits" is {_type(edits)}, not a list', hint='give a list of {"path", "search", "replace"}')
    if not edits:
        raise EditError('"edits" is empty', hint="give at least one edit")
    return Proposal(
        hypothesis=_one_line(hypothesis)[:MAX_HYPOTHESIS],
        edits=tuple(_edit_from_plain(edit, n) for n, edit in enumerate(edits, 1)),
        rationale=_text(plain, "rationale")[:MAX_RATIONALE], expected=_number(plain, "expected"), kind=kind or "other",
        extra=extra,
    )  # fmt: skip


def _edit_from_plain(plain: object, number: int) -> Edit:
    if not isinstance(plain, Mapping):
        raise EditError(f'edit {number} is {_type(plain)}, not an object with "path", "search" and "replace"')
    for name in ("path", "search", "replace", "content"):
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
            f'edit {number} has no "{missing}"', where=_one_line(path)[:200],
            hint='give "search" and "replace", or "content" for the whole file',
        )  # fmt: skip
    return Edit(path=path, search=search, replace=replacement, content=content)


def proposal_to_plain(proposal: Proposal) -> dict[str, Any]:
    """The JSON object of DESIGN §12; fields of an edit that are not set are left out."""
    edits = [
        {k: v for k, v in zip(("path", "search", "replace", "content"), _fields(e), strict=True) if v is not None}
        for e in proposal.edits
    ]
    return {
        "hypothesis": proposal.hypothesis, "rationale": proposal.rationale, "expected": proposal.expected,
        "kind": proposal.kind, "edits": edits,
    }  # fmt: skip


def _fields(edit: Edit) -> tuple[str | None, ...]:
    return edit.path, edit.search, edit.replace, edit.content


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
