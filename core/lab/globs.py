"""Patterns of project paths, as program.md writes them."""

from __future__ import annotations

import re


def is_glob(pattern: str) -> bool:
    """True when the pattern holds a sign that stands for other text."""
    return any(sign in pattern for sign in "*?[")


def glob_pattern(pattern: str) -> re.Pattern[str]:
    """A project glob as a regular expression: `*` stays inside a folder, `**` does not, a folder means all in it."""
    text = pattern.strip().removeprefix("./").rstrip("/")
    if text in ("", "."):
        return re.compile(".*", re.S)
    out, i = "", 0
    while i < len(text):
        if text.startswith("**/", i):
            out, i = out + "(?:[^/]+/)*", i + 3
        elif text.startswith("**", i):
            out, i = out + ".*", i + 2
        elif text[i] == "*":
            out, i = out + "[^/]*", i + 1
        elif text[i] == "?":
            out, i = out + "[^/]", i + 1
        elif text[i] == "[" and "]" in text[i + 2 :]:
            end = text.index("]", i + 2)
            body = text[i + 1 : end].replace("\\", "\\\\")
            out, i = out + ("[^" + body[1:] if body[0] == "!" else "[" + body) + "]", end + 1
        else:
            out, i = out + re.escape(text[i]), i + 1
    return re.compile(f"{out}(?:/.*)?", re.S)
