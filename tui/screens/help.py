"""Help, made from the action registry, and the list of notes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tui.actions import Action, Registry, all_keys
from tui.model import Model
from tui.screens.cards import Card
from tui.text import brief, left, width_of, wrap
from tui.widgets.page import Lines


class HelpScreen(Card[None]):
    """Every action of the screen behind, with its keys; what cannot be done now says why."""

    TITLE_TEXT = "help"
    WIDTH = 96

    def __init__(self, model: Model, registry: Registry, place: str) -> None:
        self.listed = list(registry.for_place(place, model.replaying))
        super().__init__(model)

    def lines(self, width: int) -> Lines:
        look = self.model.look
        out: Lines = []
        listed = self.listed
        keys = max(width_of(all_keys(a)) for a in listed) + 2
        names = max(len(a.titled(self.model)) for a in listed) + 2
        for group in dict.fromkeys(a.group for a in listed):
            out += [[], [(group, look["title_focus"])]]
            for action in (a for a in listed if a.group == group):
                out += self._entry(action, keys, names, width)
        return out[1:]

    def _entry(self, action: Action, keys: int, names: int, width: int) -> Lines:
        look = self.model.look
        reason = action.reason(self.model)
        style = look["text"] if reason is None else look["faint"]
        words = action.description if reason is None else f"{action.description} Not now: {reason}."
        first, *rest = wrap(words, max(10, width - keys - names))
        return [
            [(left(all_keys(action), keys), look["key" if reason is None else "faint"]),
             (left(action.titled(self.model), names), style), (first, look["dim" if reason is None else "faint"])],
            *[[(" " * (keys + names) + more, look["dim" if reason is None else "faint"])] for more in rest],
        ]  # fmt: skip

    def pressed(self, character: str, key: str) -> None:
        if key in ("escape", "q", "enter", "f1", "question_mark") or character in ("q", "?"):
            self.dismiss(None)


class NotesScreen(Card[None]):
    """Warnings, errors and what the engine mended: the newest last."""

    TITLE_TEXT = "notes"
    WIDTH = 110

    def lines(self, width: int) -> Lines:
        look = self.model.look
        notes: Sequence[object] = self.model.state.notes
        if not notes:
            return [[("no warnings and no errors so far", look["dim"])]]
        out: Lines = []
        for note in self.model.state.notes:
            role = {"error": "bad", "warning": "warn"}.get(note.level, "dim")
            stamp = time.strftime("%d %b %H:%M:%S", time.localtime(note.time))
            who = f"#{note.experiment} " if note.experiment else ""
            first, *rest = wrap(who + brief(note.text), max(10, width - 20))
            out.append(
                [
                    (f"{stamp}  ", look["dim"]),
                    (look.glyph("note") if role != "dim" else "·", look[role]),
                    (f" {first}", look["text"]),
                ]
            )
            out += [[(" " * 19 + more, look["text"])] for more in rest]
        return out

    def on_mount(self) -> None:
        super().on_mount()
        self._page.end()

    def pressed(self, character: str, key: str) -> None:
        self.dismiss(None)
