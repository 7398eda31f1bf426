"""Project and session that a command's arguments name"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from core.session.paths import SessionPaths, check_name


def project_of(arguments: Namespace) -> Path:
    """The project of a command: `-C DIR`, a PROJECT word, or the current folder. Raises ProjectError."""
    from core.program.program import find_project

    wanted = getattr(arguments, "project", None) or getattr(arguments, "directory", None)
    return find_project(Path(wanted) if wanted else Path())


def session_of(arguments: Namespace) -> SessionPaths:
    """The named session, or the newest that is no failed start.

    Raises NoSuchSession (exit 3), UsageError or ProjectError.
    """
    from core.session.choice import find_session

    name = getattr(arguments, "name", None) or getattr(arguments, "session", None)
    project = project_of(arguments)
    if name:
        check_name(name)
    return find_session(project, name)
