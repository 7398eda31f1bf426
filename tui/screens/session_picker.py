"""The project's sessions with their present states"""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from core import views
from core.record.errors import AutoresearchError
from core.record.metric import format_metric
from core.record.state import State
from core.session.lock import engine_alive
from core.session.log import Log
from core.session.paths import SessionPaths, list_sessions
from core.views import FAILED_START, one_line, plural, why_failed
from tui.screens.row_dialog import DialogRow, RowsCard
from tui.session_view import SessionView, name_of

LOOK_SECONDS = 1.0  # between two readings
MAX_SESSIONS_READ = 200


@dataclass(frozen=True, slots=True)
class Glance:
    """One session in a line. `word`: its state; `words`: experiments, keeps, best and gain, or why it failed."""

    paths: SessionPaths
    word: str
    words: str
    alive: bool
    failed: bool = False  # a failed start

    @property
    def label(self) -> str:
        return FAILED_START if self.failed else self.word


def glances(project: Path, known: dict[Path, tuple[object, Glance]] | None = None) -> list[Glance]:
    """Every session, newest first, failed starts last. `known` caches what was read: what changed is read again."""
    known = {} if known is None else known
    found = []
    for paths in list_sessions(project)[:MAX_SESSIONS_READ]:
        alive = engine_alive(paths)
        stamp = (alive, *(_stamp(paths.database.with_name(f"session.db{end}")) for end in ("", "-wal")))
        if paths.database not in known or known[paths.database][0] != stamp:
            known[paths.database] = stamp, _glance(paths, alive)
        found.append(known[paths.database][1])
    return sorted(found, key=lambda glance: glance.failed)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        info = path.stat()
    except OSError:
        return 0, 0
    return info.st_mtime_ns, info.st_size


def _glance(paths: SessionPaths, alive: bool) -> Glance:
    try:
        with closing(Log.read(paths.database)) as log:
            state = log.head()
    except AutoresearchError as error:
        return Glance(paths, "unreadable", one_line(error.what, 80), alive)
    failed = state.failed_start and not alive
    words = why_failed(state) if failed else one_liner(state, alive)
    return Glance(paths, views.session_word(state, alive), words, alive, failed)


def one_liner(state: State, alive: bool) -> str:
    """A session in a line: `46 experiments · 8 kept · loss 0.9731 (−2.5%) · #47 runs`."""
    judged = sum(state.verdicts.values())
    parts = [plural(judged, "experiment")]
    if kept := state.verdicts.get("kept"):
        parts.append(f"{kept:,} kept")
    if state.best_metric is not None:
        gain = ""
        if state.baseline is not None and state.baseline.metric and state.best:
            share = (state.best_metric - state.baseline.metric) / abs(state.baseline.metric)
            gain = f" ({'−' if share < 0 else '+'}{abs(share):.1%})"
        parts.append(f"{one_line(state.metric.name, 16)} {format_metric(state.best_metric)}{gain}")
    if state.approvals:
        parts.append(f"{plural(len(state.approvals), 'proposal')} waiting for approval")
    elif state.running:
        names = ", ".join(map(name_of, sorted(set(state.running.values()))))
        parts.append(f"{names} {'runs' if alive else 'interrupted'}")
    return " · ".join(parts)


class SessionsCard(RowsCard[tuple[str, SessionPaths]]):
    """Dismissed with ("open", "replay" or "new", the session)."""

    TITLE_TEXT = "sessions of this project"
    WIDTH = 110
    HELP: ClassVar[str] = "enter opens   w plays it from its beginning   n starts a new one   esc closes"
    EMPTY: ClassVar[str] = "there is no session here yet: n starts one"

    def __init__(self, view: SessionView, project: Path) -> None:
        self._project = project
        self._known: dict[Path, tuple[object, Glance]] = {}
        self._found: list[Glance] = glances(project, self._known)
        super().__init__(view)

    def on_mount(self) -> None:
        self.run_worker(self._keep_looking())

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._found = await asyncio.to_thread(glances, self._project, self._known)
            self.again()

    def rows(self) -> list[DialogRow]:
        look = self.view.look
        here = self.view.paths.folder
        rows = []
        for g in self._found:
            words = g.words + "   this one" * (g.paths.folder == here)
            unreadable = g.word == "unreadable"
            sign = (look.glyph("no" if unreadable else g.word), look["bad"] if unreadable else look.state(g.word))
            rows.append(DialogRow(g.paths.name, g.paths.name, g.label, words, sign=sign))
        return rows

    def _glance(self, row: DialogRow) -> Glance | None:
        return next((g for g in self._found if g.paths.name == row.name), None)

    def chosen(self, row: DialogRow) -> None:
        found = self._glance(row)
        if found is not None and found.word == "unreadable":
            self.say(found.words, "warn")
        elif found is not None:
            self.dismiss(("open", found.paths))

    def key(self, row: DialogRow | None, character: str, key: str) -> None:
        if character == "n":
            self.dismiss(("new", self.view.paths))
        elif character in ("w", "B") and row is not None and (found := self._glance(row)) is not None:
            self.dismiss(("replay", found.paths))
