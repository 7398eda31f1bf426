"""A git filter that never ends: the phase is shown, and a stop ends git and the filter."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from core.client import request
from core.record import commands as c
from core.record import events as e
from core.session.paths import SessionPaths
from tests.engine.support import bodies, engine, kill_engine, patch, wait_end, wait_for, wait_state
from tests.projects import git, make_project

MAX_SECONDS = 15.0  # of an end, on a slow machine; git's own time limit is ten minutes


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose filter hangs once the file `hang` is there."""
    project = make_project(tmp_path / "p", more={"w.bin": "weights", ".gitattributes": "*.bin filter=big"})
    hang = tmp_path / "hang"
    git(project, "config", "filter.big.smudge", f"cat; test ! -e {hang} || exec tail -f {hang}")
    return project


def hanging(project: Path) -> list[int]:
    """The filters of this project that hang."""
    command = ["tail", "-f", str(project.parent / "hang")]
    return [p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == command]


def check_end(paths: SessionPaths, started: float) -> None:
    assert wait_end(paths).state == "stopped" and time.monotonic() - started < MAX_SECONDS
    assert not hanging(paths.project) and not list(paths.worktrees.iterdir())


@pytest.mark.parametrize("how", ["stop", "signal"])
def test_a_stop_ends_a_checkout_of_the_pristine_code(project: Path, tmp_path: Path, how: str) -> None:
    (tmp_path / "hang").touch()
    with engine(project, researcher="human") as paths:
        wait_state(paths, lambda s: s.preparing and hanging(project), "a hanging filter")
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
        assert request(paths, c.Propose(hypothesis="less", patch=patch("0.5", "0.4"))).accepted
        wait_state(paths, lambda s: [r for r in s.live_runs() if r.phase == "checkout"], "the phase")
        started = time.monotonic()
        assert request(paths, c.Stop(now=True)).accepted
        check_end(paths, started)
        last = bodies(paths, e.RunFinished)[-1]
        assert (last.ended, last.reason) == ("abandoned", "stopped before its end")


def test_a_stop_ends_the_checkout_of_a_check(project: Path, tmp_path: Path) -> None:
    """The folder is removed only when nothing writes in it any more."""
    with engine(project, researcher="human", overrides=("checks.smoke='python train.py'",)) as paths:
        wait_state(paths, lambda s: s.baseline, "the baseline")
        (tmp_path / "hang").touch()
        assert request(paths, c.Propose(hypothesis="less", patch=patch("0.5", "0.4"))).accepted
        wait_for(lambda: hanging(project), "a hanging filter")
        started = time.monotonic()
        assert request(paths, c.Stop(now=True)).accepted
        check_end(paths, started)
