"""The user's TOML files in `~/.config/autoresearch-tui/`: keys.toml, prices.toml and commands.toml."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import platformdirs

from core.program.toml_reader import read_toml
from core.record.errors import ResearcherMisconfigured

MAX_BYTES = 1 << 20  # read of one file


def path_of(name: str) -> Path:
    return platformdirs.user_config_path("autoresearch-tui") / name


def load(path: Path, *, private: bool = False) -> dict[str, Any]:
    """The tables of a TOML file, empty when there is no file. Raises ResearcherMisconfigured with file and line."""
    if not path.exists():
        return {}
    return read_toml(read(path, private=private), str(path), 1, ResearcherMisconfigured)


def read(path: Path, *, private: bool = False) -> str:
    """Text of a file. Raises ResearcherMisconfigured, with `private` also when other users may read it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(MAX_BYTES)
    except OSError as error:
        what, hint = f"the file cannot be read ({error.strerror})", "make it readable, or name another"
        raise ResearcherMisconfigured(what, where=str(path), hint=hint) from None
    if private and mode & (stat.S_IRWXG | stat.S_IRWXO):
        what, hint = "other users can read this file of keys", f"protect it with: chmod 600 {path}"
        raise ResearcherMisconfigured(what, where=str(path), hint=hint)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ResearcherMisconfigured("the file is not UTF-8 text", where=str(path), hint="save it as UTF-8") from None
