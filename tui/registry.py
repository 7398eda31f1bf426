"""Actions as records, and the registry that finds them by screen, by name and by a person's own keys."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

from textual.keys import _character_to_key
from textual.screen import Screen

from core.record.errors import UsageError
from tui.availability import Reason
from tui.session_view import SessionView


@dataclass(frozen=True, slots=True)
class Action:
    """`keys` as Textual names them, the first is what the footer shows. `places`: the screens where it works."""

    name: str
    keys: tuple[str, ...]
    title: str
    group: str
    do: Callable[[Screen[None]], None]  # takes the screen that the action is done on
    description: str
    places: tuple[str, ...] = ("main",)
    footer: int = 0  # order in the footer; 0: not there
    why_not: Callable[[SessionView], Reason] | None = None
    retitle: Callable[[SessionView], str] | None = None
    played: bool | None = None  # of a recording only, of a live session only, or of both

    @property
    def shown(self) -> str:
        """The first key, as a person reads it."""
        return spell(self.keys[0]) if self.keys else ""

    def reason(self, view: SessionView) -> Reason:
        """Why the action cannot be done now, or None."""
        return self.why_not(view) if self.why_not else None

    def titled(self, view: SessionView) -> str:
        return self.retitle(view) if self.retitle else self.title


class Registry:
    """The actions with their keys, as a person set them; `usual` is the registry with the default keys."""

    def __init__(self, actions: tuple[Action, ...], usual: Registry | None = None) -> None:
        self.actions = actions
        self.usual = usual or self

    def for_place(self, place: str, played: bool = False) -> Iterator[Action]:
        """The actions of a screen, of a live session or of a recording."""
        return (a for a in self.actions if place in a.places and a.played in (None, played))

    def named(self, name: str) -> Action:
        """Raises StopIteration for an unknown name: names are constants in the code."""
        return next(action for action in self.actions if action.name == name)

    def remapped(self, keys: Mapping[str, tuple[str, ...]]) -> Registry:
        """A registry with other keys for some actions, given as a person writes them ("ctrl+x", "?").

        Raises UsageError for an unknown name or key, and for a key of two actions on one screen (names both). The
        error's `where` is `keys.NAME`.
        """
        known = {action.name for action in self.actions}
        for name in keys:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean `{near[0]}`?" if near else "the names are those of docs/keys.md"
                raise UsageError(f"there is no action {name!r}", where=f"keys.{name}", hint=hint)
        set_keys = {name: tuple(_key(name, key) for key in given) for name, given in keys.items()}
        made = Registry(tuple(replace(a, keys=set_keys.get(a.name, a.keys)) for a in self.actions), self.usual)
        made._check(set(keys))
        return made

    def _check(self, chosen: set[str]) -> None:
        for first, second in product((a for a in self.actions if a.name in chosen), self.actions):
            both = set(first.keys) & set(second.keys)
            together = set(first.places) & set(second.places) and {first.played, second.played} != {True, False}
            if first.name != second.name and both and together:
                one, other = (f"{action.name!r} ({action.title})" for action in (first, second))
                raise UsageError(
                    f"the key {spell(min(both))} would belong to both {one} and {other}",
                    where=f"keys.{first.name}",
                    hint="choose another key, or give the other action another key first",
                )


_SPELLING = {
    "escape": "esc", "pagedown": "pgdn", "pageup": "pgup", "left": "←", "right": "→", "up": "↑", "down": "↓",
    **{_character_to_key(c): c for c in "?:/,!<>[].;-+=@#$%^&*()~'\"|\\{}_`"},
}  # fmt: skip
_WRITTEN = {spelled: key for key, spelled in _SPELLING.items()} | {"pagedown": "pagedown", "escape": "escape"}
_NAMED = re.compile(
    r"(?:(?:ctrl|shift|alt)\+)*(?:space|tab|enter|escape|backspace|delete|insert|home|end|pageup|pagedown|up|down|left"
    r"|right|f\d{1,2}|[a-z0-9])"
)
FIXED_KEYS = ("ctrl+c",)  # asks how to leave, whatever is set


def spell(key: str) -> str:
    """A key as a person reads it, from its name in Textual: `question_mark` is `?`."""
    return _SPELLING.get(key, key)


def all_keys(action: Action) -> str:
    """Every key of an action as a person reads them: `i :`."""
    return " ".join(spell(key) for key in action.keys)


def _key(name: str, written: str) -> str:
    """A key's name in Textual, from what a person writes. Raises UsageError."""
    found = _WRITTEN.get(written) or (written if len(written) == 1 and written.isprintable() else "")
    if found and len(found) == 1:
        found = _character_to_key(found)
    found = found or (written.lower() if _NAMED.fullmatch(written.lower()) else "")
    if not found or found in FIXED_KEYS:
        raise UsageError(
            f"{written!r} is not a key that can be set",
            where=f"keys.{name}",
            hint="write one character (P, ?), or a name: space, enter, tab, f5, ctrl+x, alt+x, pgup, home",
        )
    return found
