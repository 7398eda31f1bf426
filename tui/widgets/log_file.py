"""A file that somebody else writes to, followed at its end: the engine's log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core.client import FileTail
from tui.paint.cells import Part, flat
from tui.session_view import SessionView
from tui.widgets.tail import LONGEST, Tail, last_state

LIMIT = 4_000_000  # bytes of its end that are read
KEPT = 20_000  # lines


class LogPane(Tail):
    """The lines of `path()`; when that names another file, those of the other."""

    def __init__(self, model: SessionView, name: str, path: Callable[[], Path | None], empty: str) -> None:
        super().__init__(model, kept=KEPT)
        self.NAME = name
        self._path = path
        self._empty = empty
        self._file: FileTail | None = None

    def poll(self) -> None:
        path = self._path()
        if path is None:
            return
        if self._file is None or self._file.path != path:
            self.clear()
            self._file = FileTail(path, limit=LIMIT)
        for line in self._file.lines(LONGEST)[-KEPT:]:
            last = last_state(line)
            self.add(flat(last, 8), _role(last), "")

    def heading(self) -> list[Part]:
        return [(f" · {len(self._entries):,} lines", self.look["dim"])]

    def empty(self) -> str:
        return self._empty


def _role(line: str) -> str:
    low = line[:200].lower()
    if "error" in low or "traceback" in low:
        return "bad"
    if "warning" in low:
        return "warn"
    return "dim" if low.startswith("step ") else "text"
