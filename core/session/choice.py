"""Which session is meant where none is named: the newest that is no failed start"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from core import invocation
from core.record.errors import AutoresearchError, NoSuchSession, SessionError
from core.record.state import State
from core.session.lock import engine_alive
from core.session.log import Log
from core.session.paths import SessionPaths, list_sessions


def read_head(paths: SessionPaths) -> State | None:
    """The State without its experiments; None for a log that cannot be read."""
    try:
        with closing(Log.read(paths.database)) as log:
            return log.head()
    except AutoresearchError:
        return None


def is_failed_start(paths: SessionPaths) -> bool:
    """Whether nothing of this session can be shown: it failed before a first verdict, and no engine runs it."""
    state = read_head(paths)
    return state is not None and state.failed_start and not engine_alive(paths)


def newest_session(project: Path) -> SessionPaths | None:
    """The newest session that is no failed start; with none but these, the newest of them."""
    sessions = list_sessions(project)
    return next((paths for paths in sessions if not is_failed_start(paths)), sessions[0] if sessions else None)


def find_session(project: Path, name: str | None) -> SessionPaths:
    """The named session, or the newest (`newest_session`). Raises NoSuchSession."""
    if name is None:
        if (newest := newest_session(project)) is not None:
            return newest
        raise NoSuchSession(
            "there is no session in this project yet",
            where=str(project),
            hint=f"start one with: {invocation.call('run', project=project)}",
        )
    sessions = list_sessions(project)
    for paths in sessions:
        if paths.name == name:
            return paths
    folder = SessionPaths(project, name).folder
    if folder.is_dir() and not os.access(folder, os.X_OK):
        raise SessionError(
            f"the session {name!r} is another user's, and closed to you",
            where=str(folder), hint="be that user, or let its owner copy it for you",
        )  # fmt: skip
    known = ", ".join(p.name for p in sessions[:8]) or "none"
    raise NoSuchSession(
        f"there is no session {name!r} (known: {known})",
        where=str(project),
        hint="use one of these names, or start it with: " + invocation.call("run", "--session", name, project=project),
    )
