"""A machine whose clock is set while a session runs: no measurement changes."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import core
from core.client import read_events, read_state
from core.record import events as e
from core.session.options import EngineOptions
from core.session.paths import SessionPaths
from tests.engine.support import slot_seconds
from tests.projects import make_project, rate, write_script

# An engine whose clock is set a day ahead soon after its start, and later a year back.
JUMPING = """
import sys, time
real_time, begun = time.time, time.monotonic()
def jumping():
    since = time.monotonic() - begun
    return real_time() + (0 if since < 0.8 else 86_400 if since < 1.4 else -31_536_000)
time.time = jumping
from core.engine.__main__ import main
sys.exit(main())
"""
# Ages of files are measured by the clock that stamps them.
BY_THE_WALL = {"core/lab/stale_tmp.py"}


def test_a_session_is_unaffected_by_a_clock_change(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", f"0.6{n}", seconds=0.3) for n in range(4)])
    options = EngineOptions(researcher="scripted", script=str(script), slots="cpu:1", hours=1.0)
    reader, writer = os.pipe()
    done = subprocess.run(
        [sys.executable, "-P", "-c", JUMPING, "serve", "--project", str(project), "--session", "s",
         "--options", json.dumps(asdict(options)), "--ready-fd", str(writer)],
        pass_fds=(writer,), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, os.read(reader, 4096).decode() + done.stderr
    for fd in (reader, writer):
        os.close(fd)
    paths = SessionPaths(project, "s")
    state, events = read_state(paths), list(read_events(paths))
    assert state.state == "finished" and "script" in state.reason, f"the hours were spent by the jump: {state.reason}"
    assert state.verdicts == {"discarded": 4}
    assert events[-1].time - events[0].time > 1.4, "the session ended before the clock was set"
    assert all(0 <= after.time - before.time < 60 for before, after in itertools.pairwise(events))
    assert 0 < state.seconds(events[-1].time) < 90
    assert 0.2 < slot_seconds(paths)["cpu0"]["training"] < 90
    for finished in (event.body for event in events if isinstance(event.body, e.RunFinished)):
        assert 0 < finished.seconds <= finished.wall_seconds < 60
        assert finished.gap is None or 0 <= finished.gap < 60


def test_durations_use_a_monotonic_clock() -> None:
    root = Path(core.__file__).parents[1]
    places = [path for folder in ("session", "engine", "lab") for path in (root / "core" / folder).rglob("*.py")]
    asking = {str(path.relative_to(root)) for path in places if "time.time()" in path.read_text()}
    assert asking == BY_THE_WALL
