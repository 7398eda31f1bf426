"""Lock of a session: an flock that its engine holds while it lives"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core import invocation
from core.record.errors import SessionBusy
from core.session.disk import private_folder
from core.session.paths import SessionPaths, list_sessions


def engine_alive(paths: SessionPaths) -> bool:
    """Whether an engine holds the lock. Creates nothing."""
    try:
        descriptor = os.open(paths.lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # it may be a pipe
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def running_session(project: Path) -> SessionPaths | None:
    """The newest session of a project with a running engine."""
    return next((paths for paths in list_sessions(project) if engine_alive(paths)), None)


def lock_holder(paths: SessionPaths) -> int:
    """Pid written by the holder; 0 when unknown. For messages only."""
    try:
        return int(paths.lock.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


@contextmanager
def hold(paths: SessionPaths) -> Iterator[None]:
    """Hold the lock, and close the session's folder to other users. Raises SessionBusy with the holder's pid."""
    private_folder(paths.folder)
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = lock_holder(paths)
            raise SessionBusy(
                f"session {paths.name!r} is held by the engine with pid {pid}",
                pid=pid,
                hint=f"attach to it with: {invocation.call('attach', paths.name, project=paths.project)}",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
