"""Change of one key in the text of a program.md; comments and the order of lines stay"""

from __future__ import annotations

import re
from pathlib import Path

from core.program.program import parse
from core.record.errors import ProgramError

_FENCE = "+++"


def write_key(path: Path, table: str, key: str, value: str) -> None:
    """Set a key in the program.md at `path`. Raises OSError, or ProgramError, and then changes nothing."""
    try:
        text = with_key(path.read_bytes().decode("utf-8"), table, key, value)
    except UnicodeDecodeError:
        raise ProgramError("is not UTF-8", where=str(path), hint="save the file as UTF-8") from None
    parse(text)
    path.write_bytes(text.encode())


def with_key(text: str, table: str, key: str, value: str) -> str:
    """`text` with `key = value` in the table `table`: in place of the key there, or of a comment that shows it, else as
    the first line below the table's head, else in a new table at the end of the settings. `value` is TOML.
    """
    lines = text.split("\n")
    end = next((i for i, line in enumerate(lines) if i and line.rstrip() == _FENCE), len(lines))
    head = next((i for i in range(1, end) if re.match(rf"\s*\[\s*{re.escape(table)}\s*\]", lines[i])), None)
    if head is None:
        return "\n".join([*lines[:end], f"[{table}]", f"{key} = {value}", *lines[end:]])
    last = next((i for i in range(head + 1, end) if re.match(r"\s*\[", lines[i])), end)
    written = re.compile(rf"(\s*){re.escape(key)}\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^#\s]+)")
    shown = re.compile(rf"(\s*)#\s*{re.escape(key)}\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^#\s]+)")
    for place in (written, shown):
        for i in range(head + 1, last):
            if match := place.match(lines[i]):
                lines[i] = f"{match[1]}{key} = {value}{lines[i][match.end() :]}"
                return "\n".join(lines)
    return "\n".join([*lines[: head + 1], f"{key} = {value}", *lines[head + 1 :]])
