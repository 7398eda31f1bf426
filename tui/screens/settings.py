"""The settings and keys: each change is written to config.toml and takes effect at once"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events

from core.record.errors import AutoresearchError
from tui import user_settings as config
from tui.host import Host
from tui.registry import all_keys, spell
from tui.screens.row_dialog import DialogRow, RowsCard
from tui.session_view import SessionView
from tui.user_settings import CHOICES, Settings

Value = str | bool | float | tuple[str, ...] | None
ROWS: tuple[tuple[str, str, str], ...] = (
    ("screen.theme", "Theme", "auto: ansi over SSH, else dark; plain: no colour"),
    ("screen.ascii", "ASCII only", "auto: where the terminal has no UTF-8"),
    ("screen.title", "Title", "state and gain in the terminal's title"),
    ("screen.bell", "Bell", "rings when something needs you"),
    ("screen.notify", "Notifications", "on your desktop, by OSC 9 or OSC 777, when something needs you"),
    ("replay.speed", "Replay speed", "seconds of the session for each second"),
    ("edit.editor", "Editor", "empty: $VISUAL, $EDITOR, or an installed one"),
)


class SettingsCard(RowsCard[None]):
    """Left and right choose; enter edits a text, or takes the next key for an action."""

    TITLE_TEXT = "settings"
    WIDTH = 112
    HELP: ClassVar[str] = "←→ choose   enter changes   + one more key   del the default   esc closes"

    def __init__(self, view: SessionView, host: Host) -> None:
        super().__init__(view)
        self._host = host
        self._capture: Callable[[str], None] | None = None
        trouble = host.settings_error
        self.said = (trouble, "bad") if trouble else (str(config.config_path()), "dim")

    def rows(self) -> list[DialogRow]:
        settings = self._host.settings
        rows = []
        for index, (name, label, hint) in enumerate(ROWS):
            arrows = name in CHOICES or name in config.FLAGS
            value = f"◂ {_shown(settings, name)} ▸" if arrows else _shown(settings, name)
            rows.append(DialogRow(name, label, value, hint, group="Screen" if index == 0 else ""))
        group = "Keys"
        for action in self._host.registry.actions:
            keys, usual = all_keys(action), all_keys(self._host.registry.usual.named(action.name))
            label = "recording: " * (action.played is True) + action.title
            hint = f"default {usual}   " * (keys != usual) + action.description
            role = "text" if keys == usual else "warn"
            rows.append(DialogRow(f"keys.{action.name}", label, keys or "none", hint, role, group))
            group = ""
        return rows

    # -- changing -------------------------------------------------------------------------------------------------

    def chosen(self, row: DialogRow) -> None:
        if row.name.startswith("keys."):
            self._take_key(row, lambda key: self._set(row.name, (key,)))
        elif row.name in CHOICES or row.name in config.FLAGS:
            self._turn(row.name, 1)
        else:
            old = _shown(self._host.settings, row.name)
            self.ask(f"{row.label.lower()}: {row.hint}", old, lambda text: self._write(row.name, text))

    def key(self, row: DialogRow | None, character: str, key: str) -> None:
        if row is None:
            return
        if key in ("left", "right", "space") and (row.name in CHOICES or row.name in config.FLAGS):
            self._turn(row.name, -1 if key == "left" else 1)
        elif key in ("delete", "backspace"):
            self._set(row.name, None)
        elif character == "+" and row.name.startswith("keys."):
            had = all_keys(self._host.registry.named(row.name.removeprefix("keys."))).split()
            self._take_key(row, lambda key: self._set(row.name, (*had, key)))

    def _turn(self, name: str, step: int) -> None:
        shown = _shown(self._host.settings, name)
        if name in config.FLAGS:
            self._set(name, shown == "no")
        else:
            words = CHOICES[name]
            self._set(name, words[(words.index(shown) + step) % len(words)])

    def _write(self, name: str, text: str) -> None:
        try:
            self._set(name, float(text) if name == "replay.speed" else text or None)
        except ValueError:
            self.say(f"{text!r} is not a number", "warn")

    def _set(self, name: str, value: Value) -> None:
        """Write one value; a key of two actions is refused with both names before it is written."""
        try:
            if name.startswith("keys."):
                self._check(name.removeprefix("keys."), value)
            config.change(config.config_path(), name, value)
        except AutoresearchError as error:
            self.say(str(error), "bad")
            return
        self._host.read_settings()
        trouble = self._host.settings_error
        self.say(trouble or f"written to {config.config_path()}", "bad" if trouble else "good")

    def _check(self, action: str, value: Value) -> None:
        keys = dict(self._host.settings.keys)
        if isinstance(value, tuple):
            keys[action] = value
        else:
            keys.pop(action, None)
        self._host.registry.usual.remapped(keys)

    # -- a key for an action --------------------------------------------------------------------------------------

    def _take_key(self, row: DialogRow, then: Callable[[str], None]) -> None:
        self._capture = then
        self.say(f"press the key for {row.label!r}; esc cancels", "accent")

    async def command(self, event: events.Key) -> None:
        if self._capture is None:
            await super().command(event)
            return
        then, self._capture = self._capture, None
        if event.key == "escape":
            self.say("not changed", "dim")
        else:
            then(spell(event.key))


def _shown(settings: Settings, name: str) -> str:
    field = {"replay.speed": "replay_speed"}.get(name, name.rpartition(".")[2])
    value = getattr(settings, field)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
