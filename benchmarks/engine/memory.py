"""Memory of the engine: idle, and its growth with experiments.

    python -m benchmarks memory [EXPERIMENTS]

Idle: the engine has run its baseline and some experiments, and is paused. Growth: a scripted session whose run is one
`echo`, so that the harness uses nearly all the time; the engine is paused after 10 experiments and after every tenth of
the way, and measured idle each time. Memory is the engine process's resident set in MB (2**20 bytes); "own" is the part
that it shares with no other process.
"""

from __future__ import annotations

import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks.engine.support import engine, instant_project, pause, resume, wait_verdicts, workplace
from benchmarks.screen.terminal import table
from core.client import read_events
from core.record import events as e
from core.session.paths import SessionPaths
from tests.projects import make_project

SETTLED = 10  # experiments after which all lazily imported modules are loaded
SDK_LIBRARIES = ("jiter", "pydantic_core")  # compiled parts that come with an LLM SDK


def megabytes(process: psutil.Process) -> tuple[float, float]:
    """Resident set, and the part of it that is the process's own."""
    info = process.memory_full_info()
    return info.rss / 2**20, info.uss / 2**20


def sdk_loaded(process: psutil.Process) -> bool:
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    return any(name in maps for name in SDK_LIBRARIES)


def at_rest(folder: Path, researcher: str) -> list[str]:
    """A paused engine's row: name, resident, own, threads, whether an SDK is loaded."""
    options: dict[str, object] = {"researcher": researcher}
    if researcher == "scripted":
        project, script = instant_project(folder / researcher, 50)
        options["script"] = str(script)
    else:
        project = make_project(folder / researcher)
    with engine(project, "rest", **options) as (paths, process):
        wait_verdicts(paths, SETTLED)
        pause(paths)
        time.sleep(2)
        resident, own = megabytes(process)
        sdk = "yes" if sdk_loaded(process) else "no"
        return [researcher, f"{resident:.0f}", f"{own:.0f}", str(process.num_threads()), sdk]


def growth(folder: Path, experiments: int) -> list[list[str]]:
    """A row for every stage of one long session, measured at rest."""
    project, script = instant_project(folder / "long", experiments + 50)
    stages = [SETTLED, *(experiments * tenth // 10 for tenth in range(1, 11))]
    rows: list[list[str]] = []
    first = 0.0
    with engine(project, researcher="scripted", script=str(script)) as (paths, process):
        for stage in stages:
            wait_verdicts(paths, stage, 3600)
            state = pause(paths)
            time.sleep(1)
            resident, own = megabytes(process)
            first = first or resident
            files = str(process.num_fds())
            count = sum(state.verdicts.values())
            cpu = sum(process.cpu_times()[:2]) / count
            rows.append([str(count), f"{resident:.1f}", f"{own:.1f}", f"{resident - first:+.1f}", files, f"{cpu:.3f}"])
            resume(paths)
        where_time_goes(paths)
    return rows


def where_time_goes(paths: SessionPaths) -> None:
    """Median seconds between the facts of an experiment, as the log has them."""
    steps: dict[str, list[float]] = {}
    last: dict[int, tuple[str, float]] = {}
    for event in read_events(paths):
        number = getattr(event.body, "experiment", None)
        if not number:
            continue
        name = type(event.body).__name__ + getattr(event.body, "phase", "").capitalize()
        if number in last and event.time > last[number][1]:
            before, since = last[number]
            steps.setdefault(f"{before} → {name}", []).append(event.time - since)
        last[number] = (name, event.time)
    verdicts = [event.time for event in read_events(paths) if isinstance(event.body, e.Judged)]
    common = {name: found for name, found in steps.items() if len(found) > len(verdicts) / 4}
    common["a verdict → the next verdict"] = [b - a for a, b in pairwise(verdicts)]
    body = [[name, str(len(found)), f"{1000 * statistics.median(found):.0f}"] for name, found in common.items()]
    print(table(["from one fact to the next", "times", "median ms"], body))
    print()


def main(experiments: int) -> None:
    with workplace() as folder:
        rows = [at_rest(folder, "control"), at_rest(folder, "scripted")]
        print(table(["at rest", "resident MB", "own MB", "threads", "LLM SDK loaded"], rows))
        print(flush=True)
        grown = growth(folder, experiments)
        head = ["experiments", "resident MB", "own MB", "growth MB", "open files", "engine CPU s each"]
        print(table(head, grown))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
