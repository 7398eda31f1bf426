"""A disk that becomes full during a session: no event is lost, and the session continues when space is free."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.client import request
from core.record import commands as c
from core.session.disk import disk_trouble
from tests.disks import fill, small_disk
from tests.engine.support import engine, wait_end, wait_state
from tests.projects import TRAIN, make_project, rate, write_script


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", 8) as disk:
        yield disk


@pytest.mark.slow
def test_a_session_survives_a_full_disk(small: Path, tmp_path: Path) -> None:
    project = make_project(small / "p", train=TRAIN.replace("SECONDS = 0.05", "SECONDS = 2.0"))
    script = write_script(tmp_path / "script.jsonl", [rate("0.5", "0.4"), rate("0.5", "0.45")])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:2") as paths:
        wait_state(
            paths,
            lambda s: sum(r.phase == "training" for r in s.live_runs()) == 2 and len(s.queue) == 2,
            "two runs that train, and two proposals that wait",
        )
        filler = fill(small)
        assert disk_trouble(small)
        refused = request(paths, c.Steer("hello"))
        assert not refused.accepted and "the disk is full" in refused.message and "free some space" in refused.message
        before = wait_state(paths, lambda s: True, "the log to be read")
        filler.unlink()
        state = wait_end(paths)
    assert state.state == "finished", state.reason
    assert state.baseline is not None and state.seq > before.seq
    assert state.experiments[1].verdict == "kept"


@pytest.mark.slow  # two runs that fill eight megabytes, and the check of the disk after each
def test_a_run_that_fills_the_disk_does_not_stop_the_session(small: Path, tmp_path: Path) -> None:
    """One run fails on the full disk and one succeeds. Deleting their files makes room for the events of their end."""
    project = make_project(small / "p")
    filling = "open('big', 'ab', 0).write(bytes(1 << 26))"
    while_one_can = f"try:\n    while {filling}: pass\nexcept OSError: pass\n"
    proposals = [
        {"hypothesis": why, "kind": "other", "edits": [{"path": "train.py", "content": code + TRAIN}]}
        for why, code in (("dies", f"while {filling}: pass\n"), ("does not mind", while_one_can))
    ]
    script = write_script(tmp_path / "script.jsonl", [*proposals, rate("0.5", "0.4")])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        state = wait_end(paths)
    assert state.state == "finished", state.reason
    assert [state.experiments[n].verdict for n in (1, 2, 3)] == ["crashed", "discarded", "kept"]
    assert not disk_trouble(small)
