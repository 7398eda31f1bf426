"""Paths of a session's files, its name, and the sessions of a project"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from core.record.errors import UsageError
from core.session.homes import socket_folder

_NAME = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$")


@dataclass(frozen=True, slots=True)
class SessionPaths:
    """Paths of one session. `project`: folder of program.md."""

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
        """Options, read and written only by `core.session.options`."""
        return self.folder / "settings.json"

    @property
    def pristine(self) -> Path:
        return self.folder / "pristine"

    @property
    def worktrees(self) -> Path:
        return self.folder / "worktrees"

    @property
    def clocks(self) -> Path:
        """What tells which runs are on their clock; see core/lab/shim/clocks."""
        return self.folder / "clocks"

    def worktree(self, run: int) -> Path:
        """Worktree of one run: its own, so that no other run reads what it writes. Named like the run's folder."""
        return self.worktrees / self.run(run).resolve().name

    def run(self, run: int) -> Path:
        """Folder of a run: output.log, curve.tsv, score.log, and out/ (writable by the run). A link to the folder that
        the run knows, whose name does not tell its number; in older sessions the folder itself.
        """
        return self.folder / "runs" / str(run)

    def reasoning(self, experiment: int) -> Path:
        """Reasoning of one experiment: JSON lines {"t": time, "k": kind, "s": text}."""
        return self.folder / "reasoning" / f"{experiment}.jsonl"

    def certificate(self, experiment: int) -> Path:
        return self.folder / "certificates" / f"{experiment}.json"

    @property
    def notebook(self) -> Path:
        """The researcher's notes, Markdown: part of every request to it. A person may edit them."""
        return self.folder / "notebook.md"

    @property
    def seen(self) -> Path:
        """Number of the last event that the person saw, for "while you were away"."""
        return self.folder / "seen.json"

    @property
    def branch(self) -> str:
        return f"autoresearch/{self.name}"

    @property
    def socket(self) -> Path:
        """Path of the engine's socket: short, since Unix limits it to about 100 bytes."""
        key = hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:16]
        return socket_folder() / f"{key}.sock"


def signature_of(certificate: Path) -> Path:
    """Where the signature of a certificate is, as `ssh-keygen -Y sign` names it."""
    return certificate.with_name(f"{certificate.name}.sig")


def check_name(name: str) -> str:
    """A valid name of a session, which is part of a branch name and a folder. Raises UsageError."""
    if not _NAME.match(name) or name.endswith(".lock") or ".." in name:
        raise UsageError(
            f"{name!r} is not a session name",
            hint="use 1 to 64 letters, digits, dots, dashes and underscores; begin and end with a letter or a digit",
        )
    return name


def list_sessions(project: Path) -> list[SessionPaths]:
    """Sessions of a project, newest first (by the last write to their logs), without those closed to this user."""
    folder = project / "sessions"
    found: list[tuple[float, SessionPaths]] = []
    if folder.is_dir():
        for entry in folder.iterdir():
            paths = SessionPaths(project, entry.name)
            if os.access(entry, os.X_OK) and paths.database.is_file():
                wal = paths.database.with_name("session.db-wal")
                stamps = [p.stat().st_mtime for p in (paths.database, wal) if p.exists()]
                found.append((max(stamps), paths))
    return [paths for _, paths in sorted(found, key=lambda pair: pair[0], reverse=True)]
