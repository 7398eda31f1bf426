"""A start that fails before its first verdict leaves a readable log, and nothing in git or in the way."""

from __future__ import annotations

import json
from pathlib import Path

from core.session.choice import find_session, is_failed_start
from core.session.paths import SessionPaths, list_sessions
from tests.cli.command import run
from tests.engine.support import engine, wait_end, wait_state
from tests.projects import git, make_project, rate, write_script
from tui.screens.session_picker import glances


def left_in_git(project: Path) -> tuple[list[str], list[str]]:
    """The worktrees beside the checkout, and the branches of sessions."""
    listed = git(project, "worktree", "list", "--porcelain").splitlines()
    trees = [line.split(" ", 1)[1] for line in listed if line.startswith("worktree ")]
    branches = git(project, "for-each-ref", "--format=%(refname:short)", "refs/heads/autoresearch").split()
    return [tree for tree in trees if tree != str(project)], branches


def test_what_is_left_of_a_failed_start_is_in_nobodys_way(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.45")])
    with engine(project, "good", researcher="scripted", script=str(script), experiments=1) as paths:
        assert wait_end(paths).verdicts.get("kept") == 1
    good = left_in_git(project)
    (project / "train.py").write_text("raise SystemExit('the data are missing')\n")
    git(project, "commit", "-qam", "broken")
    git(project, "branch", "autoresearch/mine")  # the user's, though it is named like ours
    with engine(project, "bad", researcher="scripted", script=str(script)) as bad:
        state = wait_end(bad)
    assert state.failed_start and "the data are missing" in state.reason

    assert left_in_git(project) == (good[0], [*good[1], "autoresearch/mine"])
    assert not bad.pristine.exists() and not list(bad.worktrees.iterdir())
    runs = state.experiments[0].runs  # more than one where the machine broke the first
    assert "the data are missing" in (bad.run(runs[-1].run) / "output.log").read_text(), runs
    assert list_sessions(project)[0].name == "bad" and find_session(project, None).name == "good"
    assert [g.label for g in glances(project)] == ["finished", "failed start"]
    assert "the data are missing" in glances(project)[1].words

    for words in (["leaderboard"], ["export", "--results", "-"], ["show", "1"]):
        assert "0.45" in run(project, *words).stdout, words
    assert run(project, "status").stdout.startswith("good")
    assert run(project, "status", "bad").stdout.startswith("bad")
    listed = json.loads(run(project, "sessions", "--json").stdout)
    assert [(s["session"], s["failed_start"], s["experiments"]) for s in listed] == [
        ("bad", True, 0), ("good", False, 1),
    ]  # fmt: skip
    table = run(project, "sessions").stdout
    assert "failed start" in table and "the data are missing" in table


def test_a_failed_start_is_resumed_by_name(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train="import time\ntime.sleep(1)\nraise SystemExit('not yet')\n")
    with engine(project, "bad", researcher="human") as paths:
        assert wait_end(paths).failed_start
    assert left_in_git(project) == ([], []) and is_failed_start(paths)
    assert find_session(project, None).name == "bad", "there is no other"
    with engine(project, "bad", researcher="human") as paths:
        wait_state(paths, lambda s: s.live_runs(), "the second try")
        assert left_in_git(project)[1] == ["autoresearch/bad"] and not is_failed_start(paths)
        assert wait_end(paths).failed_start
    assert left_in_git(project) == ([], [])


def test_an_earlier_failed_start_is_cleared_by_the_next_engine(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train="raise SystemExit('no')\n")
    with engine(project, "old", researcher="human") as paths:
        state = wait_end(paths)
    assert state.session is not None
    git(project, "worktree", "add", "-q", "--detach", str(paths.pristine), state.session.commit)
    git(project, "branch", paths.branch, state.session.commit)
    (paths.folder / "notes.txt").write_text("a person's own")
    with engine(project, "new", researcher="human") as new:
        wait_end(new)
    assert left_in_git(project) == ([], [])
    assert (paths.folder / "notes.txt").exists() and SessionPaths(project, "old").database.exists()
