"""Patches (unified diffs of git or diff -u) as edits of files"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.record.errors import EditError
from core.record.proposal import Edit

MAX_CHARACTERS = 2_000_000  # of a patch
_HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_HINT = "make the patch against the parent experiment's files (git diff in a checkout of its commit)"


@dataclass(frozen=True, slots=True)
class _Hunk:
    """Lines of one hunk with their signs. `start`: first line in the old text, counted from 1."""

    start: int
    lines: tuple[str, ...]

    def side(self, signs: str) -> list[str]:
        return [line[1:] for line in self.lines if line[0] in signs]


@dataclass(frozen=True, slots=True)
class _Part:
    """The part of a patch for one file. `old` or `new` is None where the file is created or removed."""

    old: str | None
    new: str | None
    hunks: tuple[_Hunk, ...]


def edits_from_patch(patch: str, files: Mapping[str, str], prefix: str = "") -> tuple[Edit, ...]:
    """Whole-file edits that apply `patch` to `files` (path -> text).

    `prefix`: the project's folder in its repository, with which paths may begin. A hunk applies at its line, or at the
    nearest place with the same lines. Raises EditError with the file, the hunk and the hint.
    """
    if len(patch) > MAX_CHARACTERS:
        size = f"{len(patch):,} characters, more than {MAX_CHARACTERS:,}"
        raise EditError(f"the patch has {size}", hint="make a smaller change")
    parts = _parse(patch.replace("\r\n", "\n").split("\n"))
    if not parts:
        raise EditError("this is not a unified diff: no line begins with @@", hint="write it with: git diff")
    edits: dict[str, Edit] = {}
    for part in parts:
        if part.new is None:
            raise EditError("the patch removes this file", where=part.old or "", hint="empty the file instead")
        path = _own(part.new, files, prefix)
        if part.old is not None and _own(part.old, files, prefix) != path:
            raise EditError(f"the patch renames {part.old}", where=path, hint="keep the file's name")
        if part.old is not None and path not in files:
            known = ", ".join(sorted(files)[:20]) or "none"
            raise EditError("this file may not be edited, or is not there", where=path, hint=f"the files: {known}")
        if part.old is None and path in files:
            raise EditError("the patch creates this file, and it exists already", where=path, hint=_HINT)
        if path in edits:
            raise EditError("the patch has two parts for this file", where=path, hint="join them")
        edits[path] = Edit(path=path, content=_apply(files.get(path, ""), part.hunks, path))
    return tuple(edits.values())


def _parse(lines: Sequence[str]) -> list[_Part]:
    parts: list[_Part] = []
    at = 0
    while at < len(lines):
        if not (lines[at].startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ ")):
            _refuse_unreadable(lines[at])
            at += 1
            continue
        old, new = _name(lines[at][4:], "a/"), _name(lines[at + 1][4:], "b/")
        at += 2
        hunks: list[_Hunk] = []
        while at < len(lines) and (head := _HUNK.match(lines[at])):
            hunk, at = _hunk(lines, at, head, new or old or "")
            hunks.append(hunk)
        parts.append(_Part(old, new, tuple(hunks)))
    return parts


def _refuse_unreadable(line: str) -> None:
    if line.startswith(("GIT binary patch", "Binary files ")):
        raise EditError("the patch contains a binary file: only text can be edited")
    if line.startswith("rename from "):
        raise EditError("the patch renames this file", where=line[12:], hint="keep the file's name")


def _name(text: str, mark: str) -> str | None:
    name = text.split("\t")[0].strip().strip('"')
    return None if name == "/dev/null" else name.removeprefix(mark)


def _hunk(lines: Sequence[str], at: int, head: re.Match[str], path: str) -> tuple[_Hunk, int]:
    """The hunk that begins at line `at`, and the line after it."""
    old_left, new_left = int(head[2] or 1), int(head[4] or 1)
    found: list[str] = []
    first = at
    at += 1
    while old_left > 0 or new_left > 0:
        line = lines[at] if at < len(lines) else None
        if line == "" and at + 1 < len(lines):
            line = " "  # editors remove the blank of an empty line
        if line is None or line[:1] not in (" ", "+", "-", "\\"):
            raise EditError(f"the patch ends within the hunk {head[0]}", where=f"{path}, line {first + 1} of the patch")
        if line[0] != "\\":
            found.append(line)
            old_left -= line[0] in " -"
            new_left -= line[0] in " +"
        at += 1
    if at < len(lines) and lines[at].startswith("\\"):
        if found and found[-1][0] in " +":
            found.append("\\")  # the new text ends without a newline
        at += 1
    return _Hunk(int(head[1]), tuple(found)), at


def _own(path: str, files: Mapping[str, str], prefix: str) -> str:
    """`path` relative to the project."""
    inside = prefix.strip("/")
    if inside not in ("", ".") and path not in files and path.startswith(f"{inside}/"):
        return path.removeprefix(f"{inside}/")
    return path


def _apply(text: str, hunks: Sequence[_Hunk], path: str) -> str:
    crlf = "\r\n" in text
    lines = text.replace("\r\n", "\n").split("\n")
    ended = lines[-1] == ""
    if ended:
        lines.pop()
    shift, floor = 0, 0
    for number, hunk in enumerate(hunks, 1):
        old, new = hunk.side(" -"), hunk.side(" +")
        wanted = hunk.start - (1 if old else 0) + shift
        at = _place(lines, old, wanted, floor)
        if at is None:
            shown = next((line.strip()[:160] for line in old if line.strip()), "")
            raise EditError(
                f"the patch does not apply: around line {hunk.start} the file does not contain\n  {shown}",
                where=f"{path}, hunk {number} of {len(hunks)}", hint=_HINT,
            )  # fmt: skip
        lines[at : at + len(old)] = new
        floor, shift = at + len(new), at - (hunk.start - (1 if old else 0)) + len(new) - len(old)
        if at + len(new) == len(lines):
            ended = not (hunk.lines and hunk.lines[-1] == "\\")
    changed = "\n".join(lines) + ("\n" if ended and lines else "")
    return changed.replace("\n", "\r\n") if crlf else changed


def _place(lines: Sequence[str], old: Sequence[str], wanted: int, floor: int) -> int | None:
    """Index of `old` in `lines`, nearest to `wanted` and not before `floor`; None when it does not occur."""
    if not old:
        return wanted if floor <= wanted <= len(lines) else None
    last = len(lines) - len(old)
    places = [at for at in range(floor, last + 1) if list(lines[at : at + len(old)]) == list(old)]
    return min(places, key=lambda at: abs(at - wanted), default=None)
