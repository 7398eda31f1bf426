"""Time to open a long session.

    python -m benchmarks open [EXPERIMENTS] [TIMES]

A recorded session (10,000 experiments, every kind of verdict) is opened by commands, each in a process of its own, and
by the app's client in this process. Warm: the first time of each is not counted.
"""

from __future__ import annotations

import gc
import sys
import time

from benchmarks.engine.support import Cost, product, row_of, time_command, workplace
from benchmarks.screen.terminal import table
from core.client.live import Client
from core.session.paths import SessionPaths
from tests.recorded import make_session


def load(paths: SessionPaths, times: int) -> list[Cost]:
    """The app's work before its first paint: the State from the log, in this process."""
    found: list[Cost] = []
    for _ in range(times + 1):
        client = Client(paths)
        gc.collect()
        began, cpu = time.perf_counter(), time.process_time()
        client.load()
        found.append(Cost(time.perf_counter() - began, time.process_time() - cpu))
    return found[1:]


def main(experiments: int, times: int) -> None:
    with workplace() as folder:
        project = folder / "project"
        paths = make_session(project, experiments, files=False)
        rows = [
            row_of(" ".join(words), time_command(product(*words), project, times))
            for words in (["status"], ["status", "--json"], ["leaderboard"], ["leaderboard", "--json"])
        ]
        rows.append(row_of("Client.load, in process", load(paths, times)))
        head = [f"{experiments:,} experiments, {times} times", "median s", "best s", "worst s", "CPU s"]
        print(table(head, rows))
        print(f"\nsession.db: {paths.database.stat().st_size / 2**20:.0f} MB")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(given[0] if given else 10_000, given[1] if len(given) > 1 else 7)
