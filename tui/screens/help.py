"""Help, made from the action registry, and the list of notes and answers"""

from __future__ import annotations

import time
from collections.abc import Sequence

from tui.host import AnswerNote
from tui.paint.cells import brief, left, width_of, wrap
from tui.registry import Action, Registry, all_keys
from tui.screens.dialogs import Card
from tui.session_view import SessionView
from tui.widgets.page import Lines


class HelpScreen(Card[None]):
    """Every action of the screen behind with its keys, and the reason of each that cannot be done now."""

    TITLE_TEXT = "help"
    WIDTH = 96

    def __init__(self, view: SessionView, registry: Registry, place: str) -> None:
        self.listed = list(registry.for_place(place, view.replaying))
        super().__init__(view)

    def lines(self, width: int) -> Lines:
        look = self.view.look
        out: Lines = []
        listed = self.listed
        keys = max(width_of(all_keys(a)) for a in listed) + 2
        names = max(len(a.titled(self.view)) for a in listed) + 2
        for group in dict.fromkeys(a.group for a in listed):
            out += [[], [(group, look["title_focus"])]]
            for action in (a for a in listed if a.group == group):
                out += self._entry(action, keys, names, width)
        return out[1:]

    def _entry(self, action: Action, keys: int, names: int, width: int) -> Lines:
        look = self.view.look
        reason = action.reason(self.view)
        key, text, dim = (look[role if reason is None else "faint"] for role in ("key", "text", "dim"))
        words = action.description if reason is None else f"{action.description} Not now: {reason}."
        first, *rest = wrap(words, max(10, width - keys - names))
        head = [(left(all_keys(action), keys), key), (left(action.titled(self.view), names), text), (first, dim)]
        return [head, *[[(" " * (keys + names) + more, dim)] for more in rest]]

    def pressed(self, character: str, key: str) -> None:
        if key in ("escape", "q", "enter", "f1", "question_mark") or character in ("q", "?"):
            self.dismiss(None)


class NotesScreen(Card[None]):
    """Warnings, errors, repairs and answers of the engine, newest last."""

    TITLE_TEXT = "notes"
    WIDTH = 110

    def __init__(self, view: SessionView, answers: Sequence[AnswerNote]) -> None:
        self.answers = answers
        super().__init__(view)

    def lines(self, width: int) -> Lines:
        look = self.view.look
        roles = {"error": "bad", "warning": "warn"}
        told = [
            (n.time, roles.get(n.level, "dim"), (f"#{n.experiment} " if n.experiment else "") + brief(n.text))
            for n in self.view.state.notes
        ]
        told += [(a.time, "good" if a.accepted else "warn", f"answer: {brief(a.words)}") for a in self.answers]
        if not told:
            return [[("no warnings, no errors and no answers so far", look["dim"])]]
        out: Lines = []
        for moment, role, text in sorted(told):
            stamp = time.strftime("%d %b %H:%M:%S", time.localtime(moment))
            first, *rest = wrap(text, max(10, width - 20))
            sign = {"dim": "·", "good": look.glyph("ok")}.get(role, look.glyph("note"))
            out.append([(f"{stamp}  ", look["dim"]), (sign, look[role]), (f" {first}", look["text"])])
            out += [[(" " * 19 + more, look["text"])] for more in rest]
        return out

    def on_mount(self) -> None:
        self._page.end()
