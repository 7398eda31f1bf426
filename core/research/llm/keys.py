"""API keys: from the environment, a file that a variable names, or the user's keys.toml.

In this order: `ANTHROPIC_API_KEY`, the file that `ANTHROPIC_API_KEY_FILE` names, and a line ANTHROPIC_API_KEY = "…" in
`~/.config/autoresearch-tui/keys.toml` (mode 0600). Files are read again each time a researcher connects, so that a
revoked key can be replaced while a session runs: one that a server has refused is used only when there is no other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.record.errors import ResearcherMisconfigured
from core.research import user_config

MAX_CHARACTERS = 4096  # of a key

_refused: set[str] = set()  # keys that a server has refused since this process began


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the place where it was found. Only the place may be shown."""

    value: str
    where: str

    def __repr__(self) -> str:
        return f"Key({self.where})"


def user_file() -> Path:
    return user_config.path_of("keys.toml")


def find(name: str, environ: Mapping[str, str] | None = None) -> Key | None:
    """The key called `name`, such as ANTHROPIC_API_KEY, or None. Raises ResearcherMisconfigured for a file that cannot
    be read, that other users may read, or with an invalid key.
    """
    found = list(_candidates(name, os.environ if environ is None else environ))
    for key in found:
        if not (key.value.isascii() and key.value.isprintable() and len(key.value) <= MAX_CHARACTERS):
            what = "the API key contains invalid characters or is too long"
            raise ResearcherMisconfigured(what, where=key.where, hint="copy the key again")
    return next((key for key in found if key.value not in _refused), found[0] if found else None)


def refuse(key: Key | None) -> None:
    """A server does not accept this key: prefer another from now on."""
    if key is not None:
        _refused.add(key.value)


def _candidates(name: str, environ: Mapping[str, str]) -> Iterator[Key]:
    if value := environ.get(name, "").strip():
        yield Key(value, name)
    if named := environ.get(f"{name}_FILE", "").strip():
        path = Path(named).expanduser()
        if value := user_config.read(path).strip():  # not private: a container mounts its secrets readable to all
            yield Key(value, f"{name}_FILE ({path})")
    path = user_file()
    entry = user_config.load(path, private=True).get(name, "")
    if not isinstance(entry, str):
        raise ResearcherMisconfigured(f"{name} is not text", where=str(path), hint=f'write {name} = "…"')
    if entry.strip():
        yield Key(entry.strip(), str(path))
