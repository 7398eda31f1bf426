"""What must not be found after a session: experiments lost or judged twice, and things of it that are left over."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from benchmarks.day.victims import processes_of
from benchmarks.engine.support import product, proposed_and_judged
from core.client import read_events, read_state
from core.lab.sandbox.delegation import delegation
from core.record import events as e
from core.record.state import BASELINE
from core.session.paths import SessionPaths

LEFT_SECONDS = 30.0  # in which what was killed last may end
HONEST_LINES = (" serves ", " finished: ", " stopped: ")  # of an engine's log


def found(paths: SessionPaths, place: Path, temporary: Path, groups: Collection[str], asked: int) -> dict[str, int]:
    """How often each thing that must not be was found; what it is goes to stderr. `groups`: names of control groups."""
    end = time.monotonic() + LEFT_SECONDS
    while (left := processes_of(place)) and time.monotonic() < end:
        time.sleep(0.2)
    base = Path(delegation().base or "/nowhere")
    return {
        **_lost(paths, asked),
        "processes left": _told(left),
        "control groups left": _told(name for name in groups if (base / name).exists()),
        "worktrees left": _told(_worktrees(paths)),
        "refs left, or gone": _told(_refs(paths)),
        "locks and temporary files of git left": _told(_git_files(paths)),
        "sockets left": int(paths.socket.exists()),
        "temporary files left": _told(path.name for path in temporary.iterdir()),
        "marks of clocks left": _told(path.name for path in paths.clocks.glob("*")),
        "tracebacks in engine.log": _tracebacks(paths),
        "`verify` finds a fault": _refused(paths),
    }


def _lost(paths: SessionPaths, asked: int) -> dict[str, int]:
    proposed, judged = proposed_and_judged(paths)
    state, numbers = read_state(paths), range(1, asked + 1)
    started, ended, counted = Counter[int](), Counter[int](), Counter[tuple[int, int]]()
    seeds = dict[int, tuple[int, int]]()
    for event in read_events(paths):
        if isinstance(event.body, e.RunStarted):
            started[event.body.run] += 1
            seeds[event.body.run] = event.body.experiment, event.body.seed
        elif isinstance(event.body, e.RunFinished):
            ended[event.body.run] += 1
            if event.body.ended == "done":
                counted[seeds[event.body.run]] += 1
    return {
        "lost (never proposed, or without a verdict)": _told(n for n in numbers if not proposed[n] or not judged[n]),
        "proposed twice": _told(n for n, count in proposed.items() if count > 1),
        "judged twice": _told(n for n, count in judged.items() if count > 1 and n != BASELINE),
        "runs with two starts": _told(run for run, count in started.items() if count > 1),
        "runs with two ends, or none": _told(run for run in started if ended[run] != 1) + len(state.running),
        "one seed counted twice in an experiment": _told(key for key, count in counted.items() if count > 1),
    }


def _told(things: Iterable[object]) -> int:
    count = 0
    for thing in things:
        print(f"  {thing}", file=sys.stderr)
        count += 1
    return count


def _git(paths: SessionPaths, *words: str) -> list[str]:
    done = subprocess.run(["git", "-C", str(paths.project), *words], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _worktrees(paths: SessionPaths) -> list[str]:
    kept = {str(paths.project), str(paths.pristine)}
    listed = {line.removeprefix("worktree ") for line in _git(paths, "worktree", "list", "--porcelain")
              if line.startswith("worktree ")}  # fmt: skip
    folders = set(map(str, paths.worktrees.glob("*")))
    records = [str(path) for path in (paths.project / ".git" / "worktrees").glob("*")]
    return [*sorted((listed | folders) - kept), *sorted(records)[1:]]  # the pristine checkout has one, too


def _refs(paths: SessionPaths) -> list[str]:
    commits = {event.body.experiment for event in read_events(paths) if isinstance(event.body, e.Committed)}
    wanted = {f"refs/autoresearch/{paths.name}/{number}" for number in commits}
    wanted |= {"refs/heads/main", f"refs/heads/{paths.branch}", f"refs/autoresearch/{paths.name}/log"}
    return sorted(wanted ^ set(_git(paths, "for-each-ref", "--format=%(refname)")))


def _git_files(paths: SessionPaths) -> list[str]:
    files = (paths.project / ".git").rglob("*")
    return [str(path) for path in files if path.suffix == ".lock" or path.name.startswith(("tmp_", "index."))]


def _tracebacks(paths: SessionPaths) -> int:
    lines = paths.engine_log.read_text(errors="replace").splitlines()
    for line in lines:
        if not any(word in line for word in HONEST_LINES):
            print(f"  engine.log: {line}", file=sys.stderr)
    return sum(line.startswith("Traceback") for line in lines)


def _refused(paths: SessionPaths) -> int:
    command = product("verify", paths.name, "-C", str(paths.project))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or "whole" not in done.stdout:
        print(done.stdout + done.stderr, file=sys.stderr)
    return int(done.returncode != 0)
