"""Folder of a trial: where it lies, its removal with everything of it, and the start of its guard."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from core.lab import runner
from core.lab.git.repository import Repository
from core.lab.shim.rmtree import remove_tree
from core.record.errors import AutoresearchError
from core.session.lock import engine_alive
from core.session.paths import SessionPaths

PREFIX = "try-"
REMOVAL_TRIES = 5  # a git that was starting may still write for a moment
RETRY_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class TrialPaths(SessionPaths):
    """Paths of a trial: those of a session, beside the sessions, since what a run finds there depends on the place.

    No list of sessions shows it.
    """

    @property
    def folder(self) -> Path:
        return self.project / "sessions" / f".{self.name}"

    @property
    def database(self) -> Path:
        return self.folder / "trial.db"


def new_paths(project: Path) -> TrialPaths:
    return TrialPaths(project, f"{PREFIX}{secrets.token_hex(4)}")


async def remove_stale(project: Path) -> None:
    """Remove the trials of `project` that no process holds: they and their guards were killed."""
    for folder in (project / "sessions").glob(f".{PREFIX}*"):
        paths = TrialPaths(project, folder.name.removeprefix("."))
        if not engine_alive(paths):
            await remove(paths)


async def remove(paths: TrialPaths) -> None:
    """End what runs in a trial, and remove its worktrees and its folder. Idempotent."""
    for _ in range(REMOVAL_TRIES):
        for run in sorted(paths.folder.glob("runs/*")):
            if (job := runner.adopt(run)) is not None:
                await job.kill("was stopped")
        gone = await asyncio.to_thread(_remove_files, paths)
        if gone:
            return
        await asyncio.sleep(RETRY_SECONDS)


def _remove_files(paths: TrialPaths) -> bool:
    """Whether nothing is left."""
    with contextlib.suppress(AutoresearchError, OSError):
        repo = Repository.open(paths.project)
        for place in (*paths.worktrees.glob("*"), paths.pristine):
            repo.remove_worktree(place)
        with contextlib.suppress(OSError):
            remove_tree(paths.folder)
        repo.prune(paths.folder)
        with contextlib.suppress(OSError):
            (repo.common_dir / "worktrees").rmdir()  # only when it is empty, as git does
    with contextlib.suppress(OSError):
        remove_tree(paths.folder)
    with contextlib.suppress(OSError):
        paths.folder.parent.rmdir()  # only when it is empty
    return not paths.folder.exists()


def start_guard(paths: TrialPaths) -> subprocess.Popen[bytes]:
    """Start the process that removes the trial once this one is gone, however it ends.

    Raises OSError. To be let go by closing its standard input.
    """
    command = [
        *(sys.executable, "-P", "-m", "core.engine.trial.guard"),
        *(str(paths.project), paths.name, str(paths.folder)),
    ]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        cwd="/",
    )  # fmt: skip
