"""Reader of TOML settings whose errors name the line, the reason and the hint

`Reader` checks types of keys; their meaning is in `core.program.program`. A subclass with another name, first line and
error class reads another TOML file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import tomli

from core import invocation
from core.record.budget import parse_duration
from core.record.errors import AutoresearchError, ProgramError, UsageError

NAME = "program.md"
FENCE = "+++"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
Keys = Mapping[str, tuple[str, ...] | None]  # table ("" is the top) -> its keys; None: any name


def split(text: str) -> tuple[str, str]:
    """The front matter without its fences (its line 1 is the file's line 2), and the prose. Raises ProgramError."""
    lines = text.split("\n")
    if lines[0].rstrip() != FENCE:
        raise ProgramError(
            f"the file does not begin with a line {FENCE}" + _shown(1, lines[0]),
            where=f"{NAME}:1",
            hint=f"begin it with a line {FENCE}, then the settings, then another line {FENCE}; "
            "an example is written by: " + invocation.call("init", "DIR"),
        )
    for number, line in enumerate(lines[1:], 1):
        if line.rstrip() == FENCE:
            return "\n".join(lines[1:number]), "\n".join(lines[number + 1 :]).strip("\n")
    raise ProgramError(
        f"the front matter is not closed by a second line {FENCE}",
        where=f"{NAME}:1",
        hint=f"add a line {FENCE} after the settings",
    )


def read_toml(
    front: str, name: str = NAME, first: int = 2, fault: type[AutoresearchError] = ProgramError
) -> dict[str, Any]:
    """Parsed TOML. Raises `fault` with the line in the file; the text begins at line `first` of it."""
    try:
        return tomli.loads(front)
    except RecursionError:
        raise fault(
            "the settings are nested too deeply", where=f"{name}:{first}", hint="no key needs a list in a list"
        ) from None
    except ValueError as error:
        line = min(_open_quote(front, error) or int(getattr(error, "lineno", 1)), front.count("\n") + 1)
        what = str(getattr(error, "msg", error))
        at = line + first - 1
        raise fault(
            f"the settings are not TOML: {what[:1].lower()}{what[1:]}" + _shown(at, front.split("\n")[line - 1]),
            where=f"{name}:{at}",
            hint="it is given above already: a key or table may be given only once"
            if re.search("twice|overwrite|expand", what)
            else "correct that line: text in quotes, lists in [ ], and every line is key = value",
        ) from error


def _open_quote(front: str, error: ValueError) -> int | None:
    """The line with an unclosed single quote, for which tomli reports the end of the document."""
    if getattr(error, "pos", 0) < len(front):
        return None
    lines = (re.sub(r'"(?:[^"\\]|\\.)*"', "", line) for line in front.split("\n"))
    return next((number for number, line in enumerate(lines, 1) if line.partition("#")[0].count("'") % 2), None)


def _shown(number: int, line: str) -> str:
    return f"\n  {number} | {CONTROL.sub('?', line.strip())[:160]}"


def kind(value: object) -> str:
    """A wrong value in words, cut short."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {str: "the text ", list: "the list ", dict: "the table ", int: "", float: ""}
    return f"{names.get(type(value), '')}{CONTROL.sub('?', repr(value))[:60]}"


def _value(text: str) -> Any:
    """Value of an override: TOML when it parses, else the text itself."""
    try:
        parsed = tomli.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text


class Reader:
    """Parsed settings, read by dotted key; each error has its place."""

    NAME = NAME
    FIRST = 2  # the file's line on which the text begins
    FAULT: type[AutoresearchError] = ProgramError

    def __init__(self, front: str, keys: Keys, examples: Mapping[str, str]) -> None:
        self._lines = front.split("\n")
        self._data = read_toml(front, self.NAME, self.FIRST, self.FAULT)
        self._keys = keys
        self._examples = examples
        self._overridden: dict[str, str] = {}

    def override(self, text: str) -> None:
        """Apply one KEY=VALUE. VALUE is TOML, else plain text; an empty one removes the key."""
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+){0,2}", key):
            raise UsageError(f"--set {text!r} is not KEY=VALUE", hint="write for example --set budget.run=20s")
        self._overridden[key] = text
        table = self._data
        *parents, last = key.split(".")
        for parent in parents:
            if not isinstance(table.setdefault(parent, {}), dict):
                self.refuse(key, f"{parent!r} is a value, not a table")
            table = table[parent]
        if value.strip():
            table[last] = _value(value.strip())
        else:
            table.pop(last, None)

    def refuse(self, key: str, what: str, hint: str = "") -> NoReturn:
        """Raises `FAULT` at the line of `key` or of its table, or at the override that set it."""
        hint = hint or self._examples.get(key, "")
        for name in (key, key.rpartition(".")[0]):
            if name in self._overridden:
                raise self.FAULT(what, where=f"--set {self._overridden[name]}", hint=hint)
        line = self._line_of(key)
        shown = _shown(line, self._lines[line - self.FIRST]) if line >= self.FIRST else ""
        raise self.FAULT(what + shown, where=f"{self.NAME}:{line}", hint=hint)

    def _line_of(self, key: str) -> int:
        """Line of `key`, else of its table, else the one before the text (at least 1)."""
        table = key.rpartition(".")[0]
        here, best = "", self.FIRST - 1
        for number, line in enumerate(self._lines, self.FIRST):
            header = re.match(r"^\s*\[+\s*([^\]]+?)\s*\]", line)
            given = re.match(r"^\s*([^=#\[\]{}]+?)\s*=", line)
            if header and not given:
                here = _plain_key(header[1])
                best = number if here in (key, table) else best
            elif given:
                full = f"{here}.{_plain_key(given[1])}".lstrip(".")
                if full == key:
                    return number
                best = number if full == table else best
        return best

    def get(self, key: str) -> Any:
        """The value of a dotted key, or None."""
        value: Any = self._data
        for part in key.split("."):
            if not isinstance(value, dict):
                return None
            value = value.get(part)
        return value

    def table(self, key: str) -> Mapping[str, Any]:
        return self.get(key) or {}

    def check_keys(self) -> None:
        """Refuse unknown keys, and values where tables belong."""
        for key in self._data:
            self._check_known("", key)
        for table, names in self._keys.items():
            value = self._data.get(table) if table else None
            if value is None:
                continue
            if not isinstance(value, dict):
                self.refuse(table, f"`{table}` is a table", f"write a line [{table}], and its keys below it")
            for key in value if names is not None else ():
                self._check_known(table, key)

    def _check_known(self, table: str, key: str) -> None:
        names = self._keys[table] or ()
        if key in names:
            return
        import difflib  # rarely needed

        near = difflib.get_close_matches(key, names, 1, 0.6)
        elsewhere = [t for t, ns in self._keys.items() if key in (ns or ())]
        meant = [
            *near,
            *(f"{t}.{key}" if t else f"{key}` above the first [table], not `{table}.{key}" for t in elsewhere),
        ]
        what = f"unknown key {CONTROL.sub('?', key)!r}" + (f" in [{table}]" if table else "")
        hint = f"did you mean `{meant[0]}`?" if meant else f"known here: {', '.join(names)}"
        full = f"{table}.{key}".lstrip(".")
        if self._line_of(full) < self.FIRST:  # not in the file: a table created by an override
            full = next((given for given in self._overridden if given.startswith(f"{full}.")), full)
        self.refuse(full, what, hint)

    def text(self, key: str) -> str | None:
        """One line of text, or None without the key."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            self.refuse(key, f"`{key}` is {kind(value)}, not a text in quotes")
        if not value.strip():
            self.refuse(key, f"`{key}` is empty")
        if CONTROL.search(value.strip()):
            self.refuse(key, f"`{key}` contains a line break or a control character", "write it on one line")
        return value.strip()

    def required(self, key: str) -> str:
        value = self.text(key)
        if value is None:
            self.refuse(key, f"`{key}` is missing")
        return value

    def number(self, key: str, *, zero: bool = False) -> float | None:
        """A finite number above 0 (`zero`: or 0), or None without the key."""
        value = self.get(key)
        if value is None:
            return None
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12
        if not good or not math.isfinite(value) or value < 0 or (value == 0 and not zero):
            bound = "at least 0" if zero else "more than 0"
            self.refuse(key, f"`{key}` is {kind(value)}, not a number of {bound}")
        return float(value)

    def integer(self, key: str, least: int, most: int = 10**9) -> int | None:
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.refuse(key, f"`{key}` is {kind(value)}, not a whole number from {least} to {most}")
        return value

    def flag(self, key: str) -> bool:
        value = self.get(key)
        if not isinstance(value, (bool, type(None))):
            self.refuse(key, f"`{key}` is {kind(value)}, not true or false", "write true or false, without quotes")
        return bool(value)

    def seconds(self, key: str, value: object) -> float:
        """`value` of `key` as a duration in seconds, more than 0."""
        if not isinstance(value, str):
            self.refuse(key, f"`{key}` is {kind(value)}, not a time in quotes", 'write for example "60s" or "5m"')
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            self.refuse(key, str(error))
        if not 0 < seconds < 1e9:
            self.refuse(key, f"`{key}` is {value!r}, not a time of more than 0", 'write for example "60s" or "5m"')
        return seconds


def _plain_key(text: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in text.split("."))
