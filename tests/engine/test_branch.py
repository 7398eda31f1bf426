"""The branch of the session while the user has it checked out: the checkout is never changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from core.client import read_state, start_engine
from core.record import commands as c
from core.record import events as e
from core.record.errors import SessionError
from core.session.options import EngineOptions
from core.session.paths import SessionPaths
from tests.cli.command import run
from tests.engine.support import accepted, bodies, engine, wait_end, wait_for, wait_state
from tests.projects import git, make_project, rate, write_script

BRANCH = "autoresearch/s"


def _held(paths: SessionPaths) -> list[str]:
    return [body.words for body in bodies(paths, e.BranchHeld)]


def _start(tmp_path: Path, values: tuple[str, ...]) -> tuple[Path, Path]:
    project = make_project(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", value, thinking="long " * 3) for value in values])
    return project, script


def test_a_checked_out_branch_is_not_moved_until_it_is_free(tmp_path: Path) -> None:
    project, script = _start(tmp_path, ("0.4",))
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", experiments=1) as paths:
        accepted(paths, c.ApproveMode(True))
        wait_state(paths, lambda s: s.approvals, "a proposal that waits")
        start = git(project, "rev-parse", "HEAD")
        git(project, "checkout", "-q", BRANCH)
        accepted(paths, c.Approve(1))
        wait_state(paths, lambda s: s.branch_held, "the branch being held")
        state = wait_end(paths)
    assert state.experiments[1].verdict == "kept" and state.best_commit != start
    assert git(project, "rev-parse", BRANCH) == start and git(project, "status", "--porcelain") == ""
    assert str(project) in state.branch_held and len(_held(paths)) == 1
    assert any(note.level == "warning" and note.text == state.branch_held for note in state.notes)
    assert "switch --detach" in run(project, "status", "s").stdout
    # The next engine is refused. The command in the hint works as typed; then the branch is updated.
    with pytest.raises(SessionError) as refused:
        start_engine(paths, EngineOptions(experiments=2))
    assert refused.value.where == str(project)
    subprocess.run(["sh", "-c", refused.value.hint.partition(": ")[2]], cwd="/", check=True, capture_output=True)
    assert git(project, "rev-parse", "HEAD") == start
    with engine(project, experiments=2):
        state = wait_end(paths)
    assert git(project, "rev-parse", BRANCH) == state.best_commit and state.branch_held == ""
    assert git(project, "rev-parse", "HEAD") == start and git(project, "status", "--porcelain") == ""
    assert _held(paths)[1:] == [""]


def test_the_branch_moves_during_a_run_and_keeps_the_users_commit(tmp_path: Path) -> None:
    project, script = _start(tmp_path, ("0.4", "0.45"))
    tree = tmp_path / "a worktree"
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        accepted(paths, c.ApproveMode(True))
        wait_state(paths, lambda s: s.approvals, "a proposal that waits")
        git(project, "worktree", "add", "-q", str(tree), BRANCH)
        (tree / "notes.txt").write_text("mine")
        git(tree, "add", "-A")
        git(tree, "commit", "-qm", "mine")
        own = git(tree, "rev-parse", "HEAD")
        accepted(paths, c.Approve(1))
        state = wait_state(paths, lambda s: s.branch_held, "the branch being held")
        assert git(tree, "rev-parse", BRANCH) == own and git(tree, "status", "--porcelain") == ""
        release = state.branch_held.rpartition("with: ")[2]
        subprocess.run(["sh", "-c", release], cwd="/", check=True, capture_output=True)
        wait_for(lambda: git(project, "rev-parse", BRANCH) == state.best_commit, "the branch at the best")
        state = wait_state(paths, lambda s: not s.branch_held, "the end of it being logged")
        # A pin moves the best and thereby the branch, but not a branch that the user has checked out.
        git(tree, "checkout", "-q", BRANCH)
        best = git(project, "rev-parse", BRANCH)
        accepted(paths, c.Pin(1, True))
        wait_state(paths, lambda s: s.branch_held, "the branch being held again")
        assert git(tree, "rev-parse", BRANCH) == best and git(tree, "status", "--porcelain") == ""
    assert git(project, "rev-parse", f"refs/autoresearch/s/own-{own[:10]}") == own
    assert any(f"own-{own[:10]}" in note.text for note in read_state(paths).notes)


def test_a_new_session_on_a_checked_out_branch_gets_a_hint(tmp_path: Path) -> None:
    project, script = _start(tmp_path, ("0.4",))
    git(project, "checkout", "-q", "-b", BRANCH)
    paths = SessionPaths(project, "s")
    options = EngineOptions(researcher="scripted", script=str(script), slots="cpu:1", experiments=1)
    with pytest.raises(SessionError) as refused:
        start_engine(paths, options)
    assert not paths.folder.exists()
    subprocess.run(
        ["sh", "-c", refused.value.hint.partition("delete it with: ")[2]], cwd=project, check=True, capture_output=True
    )
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", experiments=1):
        assert wait_end(paths).state == "finished"
