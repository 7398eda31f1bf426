"""A person's settings in `~/.config/autoresearch-tui/config.toml`, and the state that the screen saves by itself

Errors name line, reason and hint. A change writes one value and keeps every comment; a file that cannot be read is
never written. The layout of the panes is no setting: it is saved in the state folder.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import platformdirs
import tomli

from core.program.toml_reader import Reader, kind
from core.record.errors import AutoresearchError, SettingsError
from core.session.disk import read_json, replace_file, write_json
from core.session.homes import state_home

THEMES = ("auto", "dark", "light", "contrast", "blue-orange", "tritan", "ansi", "plain")
ON_OFF_AUTO = ("auto", "on", "off")
NOTIFY = ("off", "osc9", "osc777")
CHOICES = {"screen.theme": THEMES, "screen.ascii": ON_OFF_AUTO, "screen.notify": NOTIFY}
FLAGS = ("screen.title", "screen.bell")
_KEYS: Final = {
    "": ("screen", "replay", "edit", "keys"),
    "screen": ("theme", "ascii", "title", "bell", "notify"),
    "replay": ("speed",),
    "edit": ("editor",),
    "keys": None,
}
_EXAMPLES = {
    "screen.theme": f"one of: {', '.join(THEMES)}",
    "screen.ascii": f"one of: {', '.join(ON_OFF_AUTO)}",
    "screen.notify": f"one of: {', '.join(NOTIFY)}",
    "replay.speed": "seconds of the session for each second, such as speed = 60",
    "edit.editor": 'a command, such as editor = "vim"',
    "keys": 'write for example pause = "P", or pause = ["space", "P"]',
}


@dataclass(frozen=True, slots=True)
class Settings:
    """As read. `keys`: action -> keys as a person writes them ("ctrl+x", "?", "space")."""

    theme: str = "auto"
    ascii: str = "auto"
    title: bool = True  # state and gain in the terminal's title
    bell: bool = False
    notify: str = "off"  # desktop notifications, by OSC 9 or 777
    replay_speed: float = 60.0
    editor: str = ""  # empty: $VISUAL, $EDITOR, then an installed one
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class _File(Reader):
    NAME = "config.toml"
    FIRST = 1
    FAULT = SettingsError

    def choice(self, key: str, default: str) -> str:
        value = self.text(key)
        if value is None:
            return default
        if value not in CHOICES[key]:
            self.refuse(key, f"`{key}` is {kind(value)}")
        return value

    def on(self, key: str, default: bool) -> bool:
        return default if self.get(key) is None else self.flag(key)

    def keymap(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for name, value in self.table("keys").items():
            keys = [value] if isinstance(value, str) else value
            if not isinstance(keys, list) or not all(isinstance(key, str) and key.strip() for key in keys):
                self.refuse(f"keys.{name}", f"`keys.{name}` is {kind(value)}, not a key in quotes", _EXAMPLES["keys"])
            found[str(name)] = tuple(key.strip() for key in keys)
        return found


def config_path() -> Path:
    """`$XDG_CONFIG_HOME/autoresearch-tui/config.toml`, by default in `~/.config`."""
    return Path(platformdirs.user_config_dir("autoresearch-tui")) / "config.toml"


def read(path: Path) -> tuple[Settings, Reader]:
    """The file's settings, and its reader for errors that name a line. Without a file: the defaults.

    Raises SettingsError with the line, the reason and the hint.
    """
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        what = f"the settings cannot be read ({why})"
        raise SettingsError(what, where=str(path), hint="correct or remove it") from None
    return _parse(text)


def _parse(text: str) -> tuple[Settings, Reader]:
    file = _File(text, _KEYS, _EXAMPLES)
    file.check_keys()
    plain = Settings()
    settings = Settings(
        theme=file.choice("screen.theme", plain.theme),
        ascii=file.choice("screen.ascii", plain.ascii),
        title=file.on("screen.title", plain.title),
        bell=file.on("screen.bell", plain.bell),
        notify=file.choice("screen.notify", plain.notify),
        replay_speed=file.number("replay.speed") or plain.replay_speed,
        editor=file.text("edit.editor") or plain.editor,
        keys=file.keymap(),
    )
    return settings, file


def change(path: Path, key: str, value: str | bool | float | tuple[str, ...] | None) -> None:
    """Set one dotted key (None: its default); every other line of the file stays as it is.

    Raises SettingsError when the file or the value is invalid, or the file cannot be written.
    """
    read(path)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    new = _with(text, key, value)
    if not _says(new, key, value):
        what = f"`{key}` is written in a form that the app cannot change"
        raise SettingsError(what, where=str(path), hint="edit the file")
    try:
        _parse(new)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path.resolve(), new.encode())  # a link into a folder of dotfiles stays a link
    except OSError as error:
        what = f"the settings cannot be written ({error.strerror})"
        raise SettingsError(what, where=str(path), hint="make its folder writable") from error


def _says(text: str, key: str, value: object) -> bool:
    table, _, name = key.rpartition(".")
    try:
        found = tomli.loads(text).get(table, {}).get(name)
    except ValueError:
        return False
    return bool(found == (list(value) if isinstance(value, tuple) else value))


def _with(text: str, key: str, value: object) -> str:
    table, _, name = key.rpartition(".")
    lines = text.split("\n") if text else []
    given = re.compile(rf"""^\s*["']?{re.escape(name)}["']?\s*=""")
    start = next((i for i, line in enumerate(lines) if re.match(rf"^\s*\[\s*{re.escape(table)}\s*\]", line)), None)
    if start is None:
        if value is None:
            return text
        head = [*lines[:-1], ""] if lines and not lines[-1].strip() and len(lines) > 1 else lines
        return "\n".join([*head, f"[{table}]", f"{name} = {_toml(value)}", ""])
    end = next((i for i in range(start + 1, len(lines)) if re.match(r"^\s*\[", lines[i])), len(lines))
    at = next((i for i in range(start + 1, end) if given.match(lines[i])), None)
    new = [] if value is None else [f"{name} = {_toml(value)}"]
    if at is None:
        return "\n".join([*lines[: start + 1], *new, *lines[start + 1 :]])
    return "\n".join([*lines[:at], *new, *lines[at + 1 :]])


def _toml(value: object) -> str:
    """A number, a string, a flag or a list of strings: but for floats the same in TOML as in JSON."""
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


# -- state that the screen saves by itself -----------------------------------------------------------------------------


def _memory() -> Path:
    return state_home() / "screen.json"


def remembered(name: str) -> dict[str, Any]:
    """The table that was last saved under `name` ("layout"), else {}. Values are JSON: check them."""
    value = read_json(_memory()).get(name)
    return dict(value) if isinstance(value, dict) else {}


def remember(name: str, value: Mapping[str, Any]) -> None:
    """Save a small table for the next start; a disk error is ignored."""
    with contextlib.suppress(OSError, AutoresearchError):
        write_json(_memory(), {**read_json(_memory()), name: dict(value)})
