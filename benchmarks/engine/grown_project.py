"""A project whose session already holds many experiments, for an engine that goes on with it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from benchmarks.engine.support import engine, instant_project, pause, wait, wait_verdicts
from core.client import read_outline, read_state
from core.session.lock import engine_alive
from core.session.log import Log
from core.session.paths import SessionPaths
from tests.long_session import LongSession, fill
from tests.projects import git

BEGUN = 3  # experiments that an engine makes before the others are added
MORE = 12  # and afterwards
NAME = "bench"


def grown_project(folder: Path, experiments: int) -> tuple[Path, Path]:
    """(project, script): a session that a real engine began, with so many experiments added to its log and to git.

    Every added experiment has a commit of its own. The script has proposals for it to go on with.
    """
    project, script = instant_project(folder, BEGUN + MORE + 5)
    with engine(project, NAME, researcher="scripted", script=str(script)) as (paths, _):
        wait_verdicts(paths, BEGUN)
        pause(paths)
    wait(lambda: not engine_alive(paths), "the engine's end")
    state = read_state(paths)
    commits = _commits(project, paths, experiments, first=state.next_experiment, parent=state.best_commit or "")
    story = LongSession(
        experiments, first=state.next_experiment, commit=lambda n: commits.get(n, state.best_commit or ""),
        time=state.time + 1, run=state.next_run, best=state.best, best_metric=state.best_metric or 1.0,
    )  # fmt: skip
    log = Log.append_to(paths.database)
    fill(log, story.moments())
    best = log.state.best_commit
    log.close()
    git(project, "update-ref", f"refs/heads/{paths.branch}", best or "")
    return project, script


def _commits(project: Path, paths: SessionPaths, experiments: int, first: int, parent: str) -> dict[int, str]:
    """A commit for each experiment, with its ref; made by one `git fast-import`."""
    stream = []
    for place, number in enumerate(range(first, first + experiments), 1):
        text = f"echo loss: 3.0\n# made up {number}\n"
        stream.append(
            f"commit refs/autoresearch/{paths.name}/{number}\nmark :{place}\n"
            f"committer someone <someone@localhost> {1_790_000_000 + number} +0000\ndata 1\nx\nfrom {parent}\n"
            f"M 100644 inline train.sh\ndata {len(text)}\n{text}\n"
        )
    marks = project.parent / f"{project.name}.marks"
    subprocess.run(
        ["git", "fast-import", "--quiet", f"--export-marks={marks}"],
        cwd=project, input="".join(stream), text=True, check=True,
    )  # fmt: skip
    git(project, "pack-refs", "--all")
    found = dict(line.split() for line in marks.read_text().splitlines())
    return {first + int(mark[1:]) - 1: commit for mark, commit in found.items()}


def more_experiments(project: Path, script: Path) -> tuple[float, float]:
    """Processor seconds of an engine that goes on, without its children: its start, and each further experiment."""
    before = _verdicts(SessionPaths(project, NAME))
    with engine(project, NAME, researcher="scripted", script=str(script)) as (paths, process):
        wait(lambda: _verdicts(paths) > before, "the first verdict")
        started = sum(process.cpu_times()[:2])
        wait(lambda: _verdicts(paths) >= before + MORE - 1, "the last verdict")
        ended = sum(process.cpu_times()[:2])
        time.sleep(0.1)
    return started, (ended - started) / (MORE - 2)


def _verdicts(paths: SessionPaths) -> int:
    """Number of verdicts so far, read at once however long the session is: the engine goes on meanwhile."""
    return sum(read_outline(paths).verdicts.values())
