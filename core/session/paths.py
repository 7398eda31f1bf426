"""Paths of a session, its name, and the list of sessions."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from core import invocation
from core.record.errors import NoSuchSession, UsageError
from core.session.homes import socket_folder

_NAME = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$")


@dataclass(frozen=True, slots=True)
class SessionPaths:
    """Every path of one session. `project` is the folder of program.md."""

    project: Path
    name: str

    @property
    def folder(self) -> Path:
        return self.project / "sessions" / self.name

    @property
    def database(self) -> Path:
        return self.folder / "session.db"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def engine_log(self) -> Path:
        return self.folder / "engine.log"

    @property
    def program(self) -> Path:
        return self.folder / "program.md"

    @property
    def settings(self) -> Path:
        """Its options, which `core.session.options` alone reads and writes."""
        return self.folder / "settings.json"

    @property
    def pristine(self) -> Path:
        return self.folder / "pristine"

    @property
    def worktrees(self) -> Path:
        return self.folder / "worktrees"

    def worktree(self, run: int) -> Path:
        """Where one run's code stands: each run has its own, so that what one writes no other reads."""
        return self.worktrees / str(run)

    def run(self, run: int) -> Path:
        """A run's folder: output.log, curve.tsv, score.log, and out/ (what the run itself may write)."""
        return self.folder / "runs" / str(run)

    def reasoning(self, experiment: int) -> Path:
        """The researcher's stream for one experiment: JSON lines {"t": time, "k": kind, "s": text}."""
        return self.folder / "reasoning" / f"{experiment}.jsonl"

    @property
    def notebook(self) -> Path:
        """The researcher's own notes, Markdown: shown to it with every request. A person may read and edit them."""
        return self.folder / "notebook.md"

    @property
    def seen(self) -> Path:
        """Where a client notes the last event a person saw, for "while you were away"."""
        return self.folder / "seen.json"

    @property
    def branch(self) -> str:
        return f"autoresearch/{self.name}"

    @property
    def socket(self) -> Path:
        """A short path, since a Unix socket's is limited to 108 bytes however deep the project lies."""
        key = hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:16]
        return socket_folder() / f"{key}.sock"


def check_name(name: str) -> str:
    """A session's name, which is also part of a branch name and a folder. Raises UsageError with the hint."""
    if not _NAME.match(name) or name.endswith(".lock") or ".." in name:
        raise UsageError(
            f"{name!r} is no session name",
            hint="use 1 to 64 letters, digits, dots, dashes and underscores; first and last a letter or a digit",
        )
    return name


def list_sessions(project: Path) -> list[SessionPaths]:
    """The project's sessions, newest first (by the last write of their logs)."""
    folder = project / "sessions"
    found: list[tuple[float, SessionPaths]] = []
    if folder.is_dir():
        for entry in folder.iterdir():
            paths = SessionPaths(project, entry.name)
            if paths.database.is_file():
                wal = paths.database.with_name("session.db-wal")
                stamps = [p.stat().st_mtime for p in (paths.database, wal) if p.exists()]
                found.append((max(stamps), paths))
    return [paths for _, paths in sorted(found, key=lambda pair: pair[0], reverse=True)]


def find_session(project: Path, name: str | None) -> SessionPaths:
    """The named session, or the newest. Raises NoSuchSession."""
    sessions = list_sessions(project)
    if name is None:
        if sessions:
            return sessions[0]
        raise NoSuchSession(
            "there is no session here yet",
            where=str(project),
            hint=f"start one with: {invocation.call('run', project=project)}",
        )
    for paths in sessions:
        if paths.name == name:
            return paths
    known = ", ".join(p.name for p in sessions[:8]) or "none"
    raise NoSuchSession(
        f"there is no session {name!r} (known: {known})",
        where=str(project),
        hint="name one of these, or start it with: " + invocation.call("run", "--session", name, project=project),
    )
