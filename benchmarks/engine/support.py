"""Shared parts of the engine's benchmarks: a small project, an engine that is always ended, and tables."""

from __future__ import annotations

import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from core.client import read_events, read_state, request, start_engine
from core.record import commands
from core.record import events as e
from core.record.state import State
from core.session.lock import engine_alive
from core.session.options import EngineOptions
from core.session.paths import SessionPaths
from tests.projects import make_project, own_home, write_script

MAX_WAIT_SECONDS = 600.0
INSTANT = """\
+++
edit = ["train.sh"]
run = "sh train.sh"
[metric]
name = "loss"
direction = "min"
pattern = '^loss:\\s*(\\S+)'
[budget]
run = "10s"
+++
# A run that takes no time, so that only the harness is measured.
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Time of one command: seconds by the clock and of the processor (with its children)."""

    wall: float
    cpu: float


def time_command(argv: Sequence[str], cwd: Path, times: int) -> list[Cost]:
    """Run `argv` once unmeasured, so that files and caches are warm, then `times` times."""
    found: list[Cost] = []
    for _ in range(times + 1):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(list(argv), cwd=cwd, stdout=subprocess.DEVNULL, check=True)
        wall = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return found[1:]


def row_of(name: str, costs: Sequence[Cost]) -> list[str]:
    """A table's row: median, best and worst by the clock, median of the processor; in seconds."""
    walls = [cost.wall for cost in costs]
    figures = (statistics.median(walls), min(walls), max(walls), statistics.median(cost.cpu for cost in costs))
    return [name, *(f"{figure:.2f}" for figure in figures)]


def product(*words: str) -> list[str]:
    """The installed command, with the interpreter that runs this."""
    return [str(Path(sys.executable).with_name("autoresearch-tui")), *words]


@contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder with a private home for this process and its children."""
    with tempfile.TemporaryDirectory(prefix="autoresearch-bench-") as name:
        before = dict(os.environ)
        home = own_home(Path(name))
        os.environ.clear()
        os.environ.update(home)
        try:
            yield Path(name)
        finally:
            os.environ.clear()
            os.environ.update(before)


def instant_project(folder: Path, proposals: int, seed: int = 1) -> tuple[Path, Path]:
    """A project whose run is one `echo`, and a script of `count` proposals: (project, script).

    The metric wanders: most proposals are a little worse than the baseline, one in twenty is better than all before.
    """
    draw = random.Random(seed)
    project = make_project(folder, program=INSTANT)
    (project / "train.sh").write_text("echo loss: 1.0\n")
    subprocess.run(["git", "add", "."], cwd=project, check=True)
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@localhost"]
    subprocess.run(["git", *identity, "commit", "-q", "-m", "the run"], cwd=project, check=True)
    best, lines = 1.0, []
    for number in range(1, proposals + 1):
        better = draw.random() < 0.05
        best = best - 0.0001 if better else best
        value = best if better else 1.01 + draw.random()
        edit = {"path": "train.sh", "content": f"echo loss: {value:.6f}\n# change {number}\n"}
        lines.append({"hypothesis": f"change {number} lowers the loss", "kind": "other", "edits": [edit]})
    return project, write_script(folder.parent / f"{folder.name}.jsonl", lines)


@contextmanager
def engine(project: Path, name: str = "bench", **options: object) -> Iterator[tuple[SessionPaths, psutil.Process]]:
    """A running engine and its process; ended with the block in every case."""
    paths = SessionPaths(project, name)
    process = psutil.Process(start_engine(paths, EngineOptions(**options)))  # type: ignore[arg-type]
    try:
        yield paths, process
    finally:
        if engine_alive(paths):
            with suppress(psutil.Error):
                process.terminate()
            with suppress(TimeoutError):
                wait(lambda: not engine_alive(paths), "the engine's end", 30)
            if engine_alive(paths):
                process.kill()


def wait(what: Callable[[], object], words: str, patience: float = MAX_WAIT_SECONDS) -> None:
    """Wait until `what()` is true. Raises TimeoutError with the message `words`."""
    end = time.monotonic() + patience
    while not what():
        if time.monotonic() > end:
            raise TimeoutError(f"never came: {words}")
        time.sleep(0.1)


def wait_state(
    paths: SessionPaths, what: Callable[[State], object], words: str, patience: float = MAX_WAIT_SECONDS
) -> State:
    """Wait until `what` is true of the State on disk. Raises when the engine ends before that."""

    def holds() -> bool:
        alive = engine_alive(paths)
        state = read_state(paths)
        if not alive and not what(state):
            raise RuntimeError(f"the engine ended before {words}: {state.state}, {state.reason}")
        return bool(what(state))

    wait(holds, words, patience)
    return read_state(paths)


def wait_verdicts(paths: SessionPaths, count: int, patience: float = MAX_WAIT_SECONDS) -> State:
    """Wait until `count` experiments have a verdict."""
    return wait_state(paths, lambda state: sum(state.verdicts.values()) >= count, f"{count} verdicts", patience)


def pause(paths: SessionPaths) -> State:
    """Pause; returns when no run and no proposal is in progress."""
    reply = request(paths, commands.Pause())
    if not reply.accepted:
        raise RuntimeError(f"not paused: {reply}")
    return wait_state(paths, lambda state: not state.live_runs(), "the end of what runs")


def resume(paths: SessionPaths) -> None:
    request(paths, commands.Resume())


def proposed_and_judged(paths: SessionPaths) -> tuple[Counter[int], Counter[int]]:
    """How often each experiment was proposed, and how often it got a verdict that is not provisional."""
    proposed, judged = Counter[int](), Counter[int]()
    for event in read_events(paths):
        body = event.body
        if isinstance(body, e.Proposed):
            proposed[body.experiment] += 1
        elif isinstance(body, e.Judged) and body.verdict != "provisional":
            judged[body.experiment] += 1
    return proposed, judged
