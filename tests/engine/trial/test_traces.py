"""Traces of a run: what it wrote, and where the project names the seed."""

from __future__ import annotations

from pathlib import Path

from core.engine.trial.traces import seed_places, written
from tests.projects import git, make_project


def test_an_empty_file_below_tmp_is_a_mount_of_the_sandbox(tmp_path: Path) -> None:
    (tmp_path / "home" / ".rustup").mkdir(parents=True)
    (tmp_path / "home" / ".rustup" / "settings.toml").touch()
    assert written("tmp", tmp_path, {}) is None
    found = written("worktree", tmp_path, {})
    assert found is not None and found.names == ("home/",)
    (tmp_path / "made").write_text("x")
    found = written("tmp", tmp_path, {})
    assert found is not None and found.names == ("made",) and found.files == 1


def test_the_seed_is_looked_for_near_the_edited_files_first(tmp_path: Path) -> None:
    names = ["a/one.py", "b/two.py", "b/train.py", "c.py"]
    more = dict.fromkeys(names, "SEED = 'AUTORESEARCH_SEED'\n")
    project = make_project(tmp_path / "p", train="x = 1\n")
    for name, text in more.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    git(project, "add", "-A")
    git(project, "commit", "-qm", "more")
    assert seed_places(project, "HEAD", ["b/train.py"]) == ("b/train.py:1", "b/two.py:1", "a/one.py:1")
