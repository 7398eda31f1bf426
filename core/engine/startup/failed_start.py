"""What a failed start leaves in git is removed; its log, which says why it failed, stays."""

from __future__ import annotations

import contextlib
from contextlib import closing

from core.lab.git.repository import Repository
from core.record.errors import AutoresearchError
from core.record.state import BASELINE, State
from core.session.lock import engine_alive, hold
from core.session.log import Log
from core.session.paths import SessionPaths, list_sessions

MAX_SESSIONS = 20  # that are searched


def clear_failed_start(repo: Repository, paths: SessionPaths, state: State) -> None:
    """Remove the worktrees of a failed start, and its branch while that is where the session began.

    One with a baseline and a proposal keeps them. Whoever resumes the session by name gets both again.
    """
    made = any(x.commit for number, x in state.experiments.items() if number != BASELINE)
    if not state.failed_start or state.session is None or (made and state.baseline is not None):
        return
    inside = sorted(paths.worktrees.iterdir()) if paths.worktrees.is_dir() else []
    for path in (paths.pristine, *inside):
        repo.remove_worktree(path)
    repo.delete_branch(paths.branch, state.session.commit)


def clear_earlier(repo: Repository, own: SessionPaths) -> None:
    """The same for the project's earlier sessions: an engine may have died before it had done so."""
    for paths in list_sessions(own.project)[:MAX_SESSIONS]:
        if paths.name == own.name or not paths.pristine.exists() or engine_alive(paths):
            continue
        with contextlib.suppress(AutoresearchError, OSError), closing(Log.read(paths.database)) as log:
            if log.head().failed_start:
                with hold(paths):
                    clear_failed_start(repo, paths, log.load())
