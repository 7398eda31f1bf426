"""A git filter that never ends: the phase is shown, and a stop ends git and the filter."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from core.client import request
from core.record import commands as c
from core.record import events as e
from core.session.paths import SessionPaths
from tests.engine.support import engine, events_named, kill_engine, wait_end, wait_state
from tests.projects import git, make_project

Body = TypeVar("Body")
MAX_SECONDS = 15.0  # of an end, on a slow machine; git's own time limit is ten minutes


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose filter hangs once the file `hang` is there."""
    project = make_project(tmp_path / "p", more={"w.bin": "weights", ".gitattributes": "*.bin filter=big"})
    git(project, "config", "filter.big.smudge", f"cat; test ! -e {tmp_path / 'hang'} || exec sleep 4321")
    return project


def sleepers() -> list[int]:
    return [p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "4321"]]


def check_end(paths: SessionPaths, started: float) -> None:
    assert wait_end(paths).state == "stopped" and time.monotonic() - started < MAX_SECONDS
    assert not sleepers() and not list(paths.worktrees.iterdir())


@pytest.mark.parametrize("how", ["stop", "signal"])
def test_a_stop_ends_a_checkout_of_the_pristine_code(project: Path, tmp_path: Path, how: str) -> None:
    (tmp_path / "hang").touch()
    with engine(project, researcher="human") as paths:
        wait_state(paths, lambda s: s.preparing and sleepers(), "a hanging filter")
        started = time.monotonic()
        if how == "stop":
            assert request(paths, c.Stop(now=True)).accepted
        else:
            kill_engine(paths, signal.SIGTERM)
        check_end(paths, started)
    assert any("checking out 4 files" in b.what for b in bodies(paths, e.Preparing))


def test_a_stop_ends_the_checkout_of_a_run(project: Path, tmp_path: Path) -> None:
    with engine(project, researcher="human") as paths:
        wait_state(paths, lambda s: s.baseline, "the baseline")
        (tmp_path / "hang").touch()
        patch = "--- a/train.py\n+++ b/train.py\n@@ -5 +5 @@\n-RATE = 0.5  # best at 0.3\n+RATE = 0.4  # best at 0.3\n"
        assert request(paths, c.Propose(hypothesis="less", patch=patch)).accepted
        wait_state(paths, lambda s: [r for r in s.live_runs() if r.phase == "checkout"], "the phase")
        started = time.monotonic()
        assert request(paths, c.Stop(now=True)).accepted
        check_end(paths, started)
        last = bodies(paths, e.RunFinished)[-1]
        assert (last.ended, last.reason) == ("abandoned", "stopped before its end")


def bodies(paths: SessionPaths, kind: type[Body]) -> list[Body]:
    return [event.body for event in events_named(paths, kind) if isinstance(event.body, kind)]
