"""Output of the command line: colors by role, tables, JSON; no control sequence from data reaches the terminal

Views and the record are imported where they are used: help and a refused word need neither, and would wait for them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NoReturn, TextIO

from core.record.errors import AutoresearchError
from core.text import clean

_SGR = {"good": "36", "warn": "33", "bad": "31", "dim": "2", "accent": "34", "bold": "1", "add": "36", "remove": "31"}
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
_PAINT = re.compile(r"\x1b\[[0-9;]*m")
_PLAIN = frozenset((str, int, float, bool, type(None)))
_NOT_ASCII = re.compile("[^\x00-\x7e]")


class Output:
    """Standard output and error, as far as this terminal can show them."""

    def __init__(self) -> None:
        _open_what_is_closed()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        self.tty = _is_tty(sys.stdout)
        term = os.environ.get("TERM", "")
        self.colored = self.tty and not os.environ.get("NO_COLOR") and term not in ("dumb", "")
        self.ascii = not _speaks_unicode(sys.stdout) or (self.tty and term == "dumb")

    @property
    def width(self) -> int:
        """Columns for a table; large where the output is no terminal, so that nothing is cut for a pipe."""
        if not self.tty:
            return 10_000
        try:
            return max(20, os.get_terminal_size(sys.stdout.fileno()).columns)
        except (OSError, ValueError):
            return 80

    def line(self, text: str = "") -> None:
        """One line or several. Text from data must have been cleaned by `paint`."""
        self.write((_ascii(text) if self.ascii else text) + "\n")

    def write(self, text: str) -> None:
        """Text without an added end of line. Raises OSError with the name of the stream."""
        write(text)

    def flush(self) -> None:
        """Write what is buffered. Raises OSError with the name of the stream."""
        try:
            sys.stdout.flush()
        except OSError as error:
            _raise_lost(error)

    def paint(self, text: str, role: str) -> str:
        """`text`, cleaned, in the color of a role."""
        text = clean(text)
        return f"\x1b[{_SGR[role]}m{text}\x1b[0m" if self.colored and role in _SGR and text else text

    def sign(self, word: str) -> str:
        from core.views.signs import sign

        return sign(word, self.ascii)

    def word(self, word: str, said: str = "") -> str:
        """A verdict or a session's state, with its sign, in its color; `said`: in other words."""
        from core.views.signs import role

        return self.paint(f"{self.sign(word)} {said or word}", role(word))

    def diff(self, text: str) -> None:
        for line in text.splitlines():
            self.line(self.paint(line, {"+": "add", "-": "remove"}.get(line[:1], "text")))

    def json(self, value: Any) -> None:
        from core.record import wire

        text = _flat_tables(value)
        if text is None:
            text = json.dumps(json.loads(wire.dumps(value)), ensure_ascii=False, indent=2)
        self.write(self.safe_json(text) + "\n")

    def safe_json(self, text: str) -> str:
        """JSON text in which characters that a terminal interprets or cannot show are escaped."""
        return (_NOT_ASCII if self.ascii or self.tty else _UNSAFE).sub(_escape, text)

    def table(self, head: Sequence[str], body: Sequence[Sequence[str]], right: str = "") -> None:
        """Columns of cells, which may be painted; the last is cut to fit. `right`: `r` for each one aligned right."""
        columns = [list(column) for column in zip(head, *body, strict=True)]
        room = self.width
        for i, column in enumerate(columns[:-1]):
            sizes = [*map(_cells, column)]
            width = max(sizes)
            pads = [" " * (width - size) for size in sizes]
            cells = zip(pads, column, strict=True) if right[i : i + 1] == "r" else zip(column, pads, strict=True)
            columns[i] = [*map("".join, cells)]
            room -= width + 2
        room -= 2
        last = len(columns) - 1
        if right[last : last + 1] == "r":
            sizes = [*map(_cells, columns[last])]
            columns[last] = [" " * (max(sizes) - size) + cell for size, cell in zip(sizes, columns[last], strict=True)]
        if room > 3:
            columns[last] = [
                cell[: room - 1] + "…" if len(cell) > room and "\x1b" not in cell else cell for cell in columns[last]
            ]
        first, *rest = ("  ".join(row).rstrip() for row in zip(*columns, strict=True))
        self.line("\n".join((self.paint(first, "dim"), *rest)))

    def error(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the exit code of the error takes precedence
            self.flush()
        self._report(f"autoresearch-tui: {text}")

    def say(self, text: str) -> None:
        """A remark for the person, on standard error so that it does not mix with the output."""
        self.flush()
        self._report(text)

    def _report(self, text: str) -> None:
        text = clean(text)
        try:
            print(text if _speaks_unicode(sys.stderr) else _ascii(text), file=sys.stderr, flush=True)
        except OSError:
            _discard_rest(sys.stderr)

    def agreed(self, question: str) -> bool:
        """Whether a person answers yes, or with enter alone; the end of the input is a no."""
        self.write(f"{question} [Y/n] ")
        self.flush()
        answer = sys.stdin.readline()
        return bool(answer) and answer.strip().lower() in ("", "y", "yes")

    def close(self) -> None:
        """Flush both streams: Python's own flush at exit would fail with code 120. Raises OSError of stdout."""
        try:
            sys.stderr.flush()
        except OSError:
            _discard_rest(sys.stderr)
        self.flush()


def _ascii(text: str) -> str:
    from core.views.signs import to_ascii

    return to_ascii(text)


def write(text: str) -> None:
    """Text on standard output. Raises OSError with the name of the stream, once: the buffered rest is discarded."""
    try:
        sys.stdout.write(text)
    except OSError as error:
        _raise_lost(error)


def need_terminal(what: str, hint: str) -> None:
    """Raises AutoresearchError unless all streams are a terminal: Textual reads the first and draws on the third."""
    if not (_is_tty(sys.stdin) and _is_tty(sys.stdout)):
        raise AutoresearchError(f"this is not a terminal, and {what} needs one", hint=hint)
    if not _is_tty(sys.stderr):
        what = f"standard error is not the terminal, and {what} draws on it"
        raise AutoresearchError(what, hint="run it without a redirection (2>)")


def _open_what_is_closed() -> None:
    """Open a stream in place of each closed one (`>&-`), so that no other file gets its descriptor.

    Standard input is empty, writing to standard output fails as on a closed one, standard error discards.
    """
    for name, flags in (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, flags)  # the lowest free number, which is the stream's own
            os.set_inheritable(descriptor, True)
            stream = os.fdopen(descriptor, "r" if name == "stdin" else "w", encoding="utf-8")
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _raise_lost(error: OSError) -> NoReturn:
    """Raise `error` with the name of standard output. Its buffer is discarded: a later flush would fail again."""
    _discard_rest(sys.stdout)
    error.filename = "standard output"
    raise error


def _discard_rest(stream: TextIO) -> None:
    """Connect a stream to /dev/null, which takes what is still buffered."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1].replace("\x7f", "\\u007f")


_FLAT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",\n    ", ": "))


def _flat_tables(value: Any) -> str | None:
    """A list of tables without tables in them as `json.dumps` lays it out with an indent of 2: ten thousand are written
    several times faster. None for anything else.
    """
    if not isinstance(value, list) or not value:
        return None
    for table in value:
        if type(table) is not dict or not table or not _PLAIN.issuperset(map(type, table.values())):
            return None
    try:
        body = ",\n  ".join(f"{{\n    {_FLAT.encode(table)[1:-1]}\n  }}" for table in value)
        body.encode()
    except ValueError:  # a number that is not finite, or half a character
        return None
    return f"[\n  {body}\n]"


def _cells(text: str) -> int:
    """Columns that a cell takes: wide characters two, combining marks and paint none."""
    if "\x1b" in text:
        text = _PAINT.sub("", text)
    if text.isascii():
        return len(text)
    return len(text) + sum(_sign_cells(c) - 1 for c in _NOT_ASCII.findall(text))


@lru_cache(maxsize=4096)
def _sign_cells(c: str) -> int:
    import unicodedata

    return 0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1


def _is_tty(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False


def _speaks_unicode(stream: TextIO) -> bool:
    return "utf" in (getattr(stream, "encoding", None) or "").lower()
