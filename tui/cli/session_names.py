"""Which session a command means."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path

from core.session.lock import engine_alive
from core.session.paths import SessionPaths, check_name, find_session, list_sessions


def project_of(arguments: Namespace) -> Path:
    """The project that a command is about: `-C DIR`, a PROJECT word, or the current folder. Raises ProjectError."""
    from core.program.program import find_project

    wanted = getattr(arguments, "project", None) or getattr(arguments, "directory", None)
    return find_project(Path(wanted) if wanted else Path())


def session_of(arguments: Namespace) -> SessionPaths:
    """The named session, or the newest. Raises NoSuchSession (exit 3), UsageError or ProjectError."""
    name = getattr(arguments, "name", None) or getattr(arguments, "session", None)
    project = project_of(arguments)
    if name:
        check_name(name)
    return find_session(project, name)


def running_session(project: Path) -> SessionPaths | None:
    """The newest session whose engine lives."""
    return next((paths for paths in list_sessions(project) if engine_alive(paths)), None)


def fresh_name(project: Path, now: float | None = None) -> str:
    """A name for a new session: today's date, such as nov23, with a number when that is taken."""
    moment = time.localtime(now)
    month = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")[moment.tm_mon - 1]
    base = f"{month}{moment.tm_mday:02d}"
    taken = {paths.name for paths in list_sessions(project)} | _branches(project)
    number = 1
    while (name := base if number == 1 else f"{base}-{number}") in taken or (project / "sessions" / name).exists():
        number += 1
    return name


def _branches(project: Path) -> set[str]:
    """Names that branches of earlier sessions still hold, though their folders may be gone."""
    found: set[str] = set()
    for folder in (project, *project.parents):
        git = folder / ".git"
        if git.is_dir():
            found |= {path.name for path in (git / "refs/heads/autoresearch").glob("*")}
            packed = git / "packed-refs"
            if packed.is_file():
                marker = " refs/heads/autoresearch/"
                lines = packed.read_text(errors="replace").splitlines()
                found |= {line.partition(marker)[2] for line in lines if marker in line}
            break
    return found
