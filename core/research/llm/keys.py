"""Where a key comes from: the environment, a file that a variable names, or the user's own file of keys.

`ANTHROPIC_API_KEY`, else the file that `ANTHROPIC_API_KEY_FILE` names, else `keys.toml` in the user's configuration
folder (`~/.config/autoresearch-tui/`), which nobody but its owner may read:

    ANTHROPIC_API_KEY = "…"
    OPENAI_API_KEY = "…"

Files are read anew each time a researcher connects, so that a key which is revoked while a session runs can be mended
without ending it: a key that a server has refused is passed over for as long as there is another one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import tomli

from core.record.errors import ResearcherMisconfigured

FILE_NAME = "keys.toml"
LONGEST = 4096  # characters of a key

_refused: set[str] = set()  # keys that a server has turned down, for the life of this process


@dataclass(frozen=True, slots=True)
class Key:
    """A key and where it was found, in words that may be shown. The value never is."""

    value: str
    where: str

    def __repr__(self) -> str:
        return f"Key({self.where})"


def user_file() -> Path:
    return platformdirs.user_config_path("autoresearch-tui") / FILE_NAME


def find(name: str, environ: Mapping[str, str] | None = None) -> Key | None:
    """The key called `name` (such as ANTHROPIC_API_KEY), None when there is none.

    Raises ResearcherMisconfigured for a file that cannot be read, is open to others or holds no key.
    """
    found = list(_places(name, os.environ if environ is None else environ))
    for key in found:
        if not (key.value.isascii() and key.value.isprintable() and len(key.value) <= LONGEST):
            raise ResearcherMisconfigured(
                "the key holds characters that no key has", where=key.where, hint="copy the key again"
            )
    return next((key for key in found if key.value not in _refused), found[0] if found else None)


def refuse(key: Key | None) -> None:
    """A server does not accept this key: prefer another from now on."""
    if key is not None:
        _refused.add(key.value)


def _places(name: str, environ: Mapping[str, str]) -> Iterator[Key]:
    if value := environ.get(name, "").strip():
        yield Key(value, name)
    if named := environ.get(f"{name}_FILE", "").strip():
        path = Path(named).expanduser()
        if value := _read(path, private=False).strip():  # secrets that a container mounts are open to all in it
            yield Key(value, f"{name}_FILE ({path})")
    if value := _own(name):
        yield Key(value, str(user_file()))


def _read(path: Path, *, private: bool) -> str:
    """A file of secrets. Raises ResearcherMisconfigured when it cannot be read, or `private` and others can."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            raw = file.read(65536)
    except OSError as error:
        raise ResearcherMisconfigured(
            f"the file of the key cannot be read ({error.strerror})", where=str(path), hint="name a readable file"
        ) from None
    if private and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ResearcherMisconfigured(
            "others can read this file of keys", where=str(path), hint=f"close it with: chmod 600 {path}"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ResearcherMisconfigured("is not UTF-8 text", where=str(path), hint="save it as UTF-8") from None


def _own(name: str) -> str:
    path = user_file()
    if not path.exists():
        return ""
    try:
        data = tomli.loads(_read(path, private=True))
    except tomli.TOMLDecodeError as error:
        raise ResearcherMisconfigured(
            f"the file of keys is no TOML: {error}", where=str(path), hint=f'write lines such as {name} = "…"'
        ) from None
    value = data.get(name, "")
    if not isinstance(value, str):
        raise ResearcherMisconfigured(f"{name} is no text", where=str(path), hint=f'write {name} = "…"')
    return value.strip()
