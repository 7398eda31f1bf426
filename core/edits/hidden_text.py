"""Characters of a change that show other code than what runs: invisible, reordering, alike, or decoded otherwise

See "Trojan Source" (Boucher and Anderson, 2021). Only what is new in a file is refused.
"""

from __future__ import annotations

import builtins
import codecs
import io
import keyword
import re
import tokenize
import unicodedata
from collections import Counter
from collections.abc import Iterator

from core.edits.match import line_number
from core.edits.python_syntax import ENDINGS, MARK
from core.record.errors import EditError
from core.text import INVISIBLE

# What reorders or hides text, or ends a line for one program and not for the next one.
_HIDDEN = re.compile(
    "[\x80-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb]"
    # A form feed within a line, of which Python forgets the indentation, and a line end that only Python takes for one.
    "|(?<=[^\n\f])\f|\f(?=[^\n\r\f])|\r(?!\n)"
    f"|{INVISIBLE}"
)
_COOKIE = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_FAR = re.compile(r"[ \t]{200,}(?=\S)")  # code that is beyond the edge of every screen
_ASCII_ALIKE = ("ascii", "iso8859-1", "iso8859-15", "cp1252")  # read ASCII text as UTF-8 does
_SOURCE = (*ENDINGS, ".pyw", ".pyx")
# Letters that are drawn like Latin ones: of Cyrillic, Armenian and Greek, where α beside a is honest. Those that NFKC
# maps there (as Python does in names) need no entry.
ALIKE = str.maketrans(
    "аеорсухіјѕһԁԛԝӏօոսցհɡАВЕКМНОРСТХІЈЅҮԌԚԜοΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aeopcyxijshdqwlonughgABEKMHOPCTXIJSYGQWoABEZHIKMNOPTYX",
)


def refuse_hidden(path: str, text: str, before: str) -> None:
    """Raises EditError for such a character, name or encoding in `text` that `before` does not have."""
    known = Counter(match[0] for match in _hidden(before))
    for found in _hidden(text):
        known[found[0]] -= 1
        if known[found[0]] < 0:
            raise EditError(
                f"contains the character {ascii(found[0])[1:-1]} ({_name(found[0])}), which shows other text than what "
                "is there",
                where=f"{path}:{line_number(text, found.start())}",
                hint="write it as an escape, or leave it out",
            )
    _refuse_encoding(path, text, before)
    if not path.endswith(_SOURCE):
        return
    if (far := _FAR.search(text)) and not _FAR.search(before):
        raise EditError(
            "holds code behind hundreds of blanks, where no screen shows it",
            where=f"{path}:{line_number(text, far.end())}", hint="break the line",
        )  # fmt: skip
    if not text.isascii():
        _refuse_alike(path, text, before)


def _hidden(text: str) -> Iterator[re.Match[str]]:
    plain = text.isascii() and "\r" not in text and "\f" not in text
    return iter(()) if plain else _HIDDEN.finditer(text, 1 if text.startswith(MARK) else 0)


def _name(character: str) -> str:
    controls = {"\r": "a carriage return without a line feed", "\f": "a form feed within a line"}
    return controls.get(character) or unicodedata.name(character[-1], "a control character").lower()


def _refuse_encoding(path: str, text: str, before: str) -> None:
    """A comment in the first two lines can make Python, whatever the file is called, and Ruby decode a file in another
    way than it is shown.
    """
    new, old = _cookie(text), _cookie(before)
    if new is None or new == old:
        return
    try:
        name = codecs.lookup(new).name
    except LookupError:
        if not path.endswith(_SOURCE):
            return  # a heading, say: "# Coding: the basics"
        name = ""
    if name in ("utf-8", "utf-8-sig") or (name in _ASCII_ALIKE and text.removeprefix(MARK).isascii()):
        return
    raise EditError(
        f"declares the encoding {new!r}: its code would be other text than what is shown", where=path,
        hint="remove that comment: the file is UTF-8",
    )  # fmt: skip


def _cookie(text: str) -> str | None:
    for line in re.split(r"\r\n|\r|\n", text.removeprefix(MARK), maxsplit=2)[:2]:
        if match := _COOKIE.match(line):
            return match[1]
        if line.strip(" \t\f") and not line.lstrip(" \t\f").startswith("#"):
            return None
    return None


def _refuse_alike(path: str, text: str, before: str) -> None:
    """A name that looks like another one in the file, or like one of Python's, and is not the same to the eye's reader
    and to Python.
    """
    old = _names(before)
    now = _names(text)
    plain = {name for name in now if name.isascii()} | set(dir(builtins)) | set(keyword.kwlist)
    for name, line in now.items():
        if name.isascii() or name in old:
            continue
        normal = unicodedata.normalize("NFKC", name)
        for seen, how in ((normal, "is"), (normal.translate(ALIKE), "looks like")):
            if seen.isascii() and seen in plain:
                raise EditError(
                    f"the name {name!r} ({ascii(name)[1:-1]}) {how} {seen!r}", where=f"{path}:{line}",
                    hint="write names of such letters that differ to the eye",
                )  # fmt: skip


def _names(text: str) -> dict[str, int]:
    """The names in Python source, each with its first line, as far as it can be read."""
    found: dict[str, int] = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(text.removeprefix(MARK)).readline):
            if token.type == tokenize.NAME:
                found.setdefault(token.string, token.start[0])
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        pass
    return found
