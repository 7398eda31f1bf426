"""Starts that cannot work: refused before a session, branch or worktree exists; doctor and try find them too."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.lab.git.repository import Repository
from tests.cli.command import run
from tests.projects import PROGRAM, git, make_project


def with_filter(folder: Path) -> None:
    """A file behind a required filter whose program is missing, as after a clone without git-lfs."""
    (folder / "w.bin").write_text("pointer\n")
    (folder / ".gitattributes").write_text("*.bin filter=big -text\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "big")
    git(folder, "config", "filter.big.required", "true")
    git(folder, "config", "filter.big.process", "git-big-of-nobody filter-process")


def without_the_script(folder: Path) -> None:
    (folder / "program.md").write_text(PROGRAM.replace("python train.py", "python bench/train.py"))


def with_an_uncommitted_script(folder: Path) -> None:
    (folder / "own.py").write_text("print('loss: 1')\n")
    (folder / "program.md").write_text(PROGRAM.replace("python train.py", "python own.py"))


CASES = {
    with_filter: ("its filter big needs git-big-of-nobody, which is not installed", "install git-big-of-nobody"),
    without_the_script: ("there is no file bench/train.py", "did you mean train.py?"),
    with_an_uncommitted_script: ("own.py is not committed", "git add own.py"),
}


@pytest.mark.parametrize("spoil", CASES, ids=lambda spoil: spoil.__name__)
def test_a_start_that_cannot_work_leaves_nothing(tmp_path: Path, spoil: object) -> None:
    assert callable(spoil)
    folder = make_project(tmp_path / "p")
    spoil(folder)
    what, hint = CASES[spoil]
    start = run(folder, "run", "--headless", "--researcher", "control")
    assert start.returncode == 1 and what in start.stderr and f"hint: {hint}" in start.stderr
    assert not (folder / "sessions").exists() and "autoresearch" not in git(folder, "branch", "--all")
    assert git(folder, "worktree", "list").count("\n") == 0
    for words in (["doctor"], ["try"]):
        told = run(folder, *words)
        assert told.returncode == 1 and what in told.stdout and f"hint: {hint}" in told.stdout, words
    assert not (folder / "sessions").exists() and git(folder, "worktree", "list").count("\n") == 0


def test_a_script_in_a_submodule_or_behind_a_link_is_no_reason_to_refuse(tmp_path: Path) -> None:
    library = make_project(tmp_path / "lib", more={"go.py": "print('loss: 1')\n"})
    folder = make_project(tmp_path / "p")
    git(folder, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "vendor/lib")
    (folder / "short").symlink_to("vendor/lib")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "lib")
    repo = Repository.open(folder)
    for path, held in (("vendor/lib/go.py", True), ("short/go.py", True), ("vendor/go.py", False), ("train.py", True)):
        assert repo.holds(repo.head(), path) is held, path
