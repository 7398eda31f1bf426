"""Start the real engine in tests, wait for entries of its log, and always end it."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from core.client import read_events, read_state, request, start_engine
from core.record import commands as c
from core.record import events as e
from core.record.events import Event
from core.record.slot_time import split
from core.record.state import State
from core.session.lock import engine_alive, lock_holder
from core.session.options import EngineOptions
from core.session.paths import SessionPaths

Body = TypeVar("Body")
FOREVER = 3600.0  # seconds of thinking time, which the test interrupts
PATIENCE = 200.0  # seconds; machines may be shared and slow


def wait_for(what: Callable[[], object], words: str, patience: float = PATIENCE) -> None:
    """Wait until `what()` is true. Fails with `words` at the deadline."""
    deadline = time.monotonic() + patience
    while not what():
        if time.monotonic() > deadline:
            raise AssertionError(f"never happened: {words}")
        time.sleep(0.03)


def wait_state(paths: SessionPaths, what: Callable[[State], object], words: str) -> State:
    """Wait until the State on disk satisfies `what` and return that State."""
    found: list[State] = []

    def look() -> bool:
        if not paths.database.exists():
            return False
        state = read_state(paths)
        found[:] = [state]
        return bool(what(state))

    wait_for(look, words)
    return found[0]


def wait_end(paths: SessionPaths) -> State:
    """Wait until no engine holds the session and return the last State."""
    wait_for(lambda: not engine_alive(paths), f"the end of the engine; see {paths.engine_log}")
    return read_state(paths)


def kill_engine(paths: SessionPaths, how: signal.Signals = signal.SIGKILL) -> None:
    os.kill(lock_holder(paths), how)
    wait_for(lambda: not engine_alive(paths), "the engine's death")


@contextmanager
def engine(project: Path, name: str = "s", **options: object) -> Iterator[SessionPaths]:
    """A running engine. It is ended at the end of the block in every case."""
    paths = SessionPaths(project, name)
    start_engine(paths, EngineOptions(**options))  # type: ignore[arg-type]
    try:
        yield paths
    finally:
        if engine_alive(paths):
            os.kill(lock_holder(paths), signal.SIGTERM)
            deadline = time.monotonic() + PATIENCE
            while engine_alive(paths) and time.monotonic() < deadline:
                time.sleep(0.03)
            if engine_alive(paths):
                os.kill(lock_holder(paths), signal.SIGKILL)
    said = paths.engine_log.read_text(errors="replace") if paths.engine_log.exists() else ""
    assert "core/engine/" not in said, said  # a traceback of its own


def events_named(paths: SessionPaths, kind: type) -> list[Event]:
    return [event for event in read_events(paths) if isinstance(event.body, kind)]


def bodies(paths: SessionPaths, kind: type[Body]) -> list[Body]:
    """What the events of this kind say, in order."""
    return [event.body for event in read_events(paths) if isinstance(event.body, kind)]


def final_verdicts(paths: SessionPaths) -> list[int]:
    """The experiments with a final verdict in order, one entry for each verdict. A provisional verdict is not final."""
    return [b.experiment for b in bodies(paths, e.Judged) if b.verdict != "provisional"]


def slot_seconds(paths: SessionPaths) -> dict[str, dict[str, float]]:
    """The time of each slot by what it was spent on; in every slot that was there all along it adds up exactly."""
    state, events = read_state(paths), read_events(paths)
    first = next(i for i, event in enumerate(events) if isinstance(event.body, e.EngineStarted))
    wall = sum(max(0.0, b.time - a.time) for a, b in itertools.pairwise(events[first:]))
    found = split(state, state.time)
    for slot, spent in found.items():
        assert sum(spent.values()) == wall and min(spent.values()) >= 0, (slot, spent, wall)
    return found


def accepted(paths: SessionPaths, command: c.Command) -> str:
    reply = request(paths, command)
    assert reply.accepted, reply.message
    return reply.message


def refused(paths: SessionPaths, command: c.Command) -> str:
    reply = request(paths, command)
    assert not reply.accepted, reply.message
    return reply.message


def patch(old: str, new: str) -> str:
    return f"--- a/train.py\n+++ b/train.py\n@@ -5 +5 @@\n-RATE = {old}  # best at 0.3\n+RATE = {new}  # best at 0.3\n"


def judged(paths: SessionPaths, number: int) -> State:
    return wait_state(
        paths,
        lambda s: number in s.experiments and s.experiments[number].phase == "judged",
        f"the last word on {number}",
    )
