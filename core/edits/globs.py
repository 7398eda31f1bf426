"""Globs of program.md, with the meaning that git gives them"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import Pattern

_WILD = re.compile(r"[*?\[]")
# Ends the name of each file and of no folder: a gitignore pattern matches what is below a matching folder too, and a
# glob with `*` does not.
_END = "\x00"


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether `path` (relative, with `/`) matches the glob `patterns`; the last one that matches decides.

    A pattern has its meaning in `git ls-files ':(glob)PATTERN'`: `*` and `?` stay within a folder, `**` crosses
    folders, a name matches that file or all files below that folder. Two differences: a character is not a byte, and
    classes such as `[[:alpha:]]` are unknown. A leading `!` excludes. Patterns are relative to program.md's folder.
    """
    matched = False
    for pattern in patterns:
        negative = pattern.startswith("!")
        if _matches_one(pattern[1:] if negative else pattern, path):
            matched = not negative
    return matched


def _matches_one(pattern: str, path: str) -> bool:
    plain = pattern.removeprefix("./").lstrip("/")
    name = plain.rstrip("/")
    if name in ("", "."):
        return True  # the whole project
    if path.startswith(f"{name}/") or path == plain:
        return True
    if not _WILD.search(plain):
        return False
    if "**" not in plain and not plain.endswith("/") and plain.count("/") != path.count("/"):
        return False  # pathspec's [!x] matches a / too
    glob = _compiled(plain)
    return glob is not None and glob.match_file(path + _END) is not None


@cache
def _compiled(plain: str) -> Pattern | None:
    from pathspec import lookup_pattern  # takes tens of milliseconds; reading a session does not need it

    below = plain.endswith("/") or plain.split("/")[-1] == "**"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of re, about [[
            return lookup_pattern("gitignore")(f"/{plain}" if below else f"/{plain}{_END}")
    except re.error:  # an invalid bracket such as [z-a] matches only the name itself
        return None
