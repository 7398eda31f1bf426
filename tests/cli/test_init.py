"""The command `init`."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.program.program import check_files, load
from tests.cli.command import run
from tests.projects import git, make_project


@pytest.mark.parametrize("code", ["train.py", "main.py"])
def test_init_guesses_and_never_overwrites(tmp_path: Path, code: str) -> None:
    (tmp_path / code).write_text("print(1)\n")
    done = run(tmp_path, "init")
    assert done.returncode == 0 and "git init" in done.stdout
    program = load(tmp_path / "program.md")
    check_files(program, tmp_path)
    assert program.edit == (code,) and program.run == f"python {code}"
    (tmp_path / "program.md").write_text("mine")
    for words in (["init"], ["init", "--template", "nanotrain"]):
        again = run(tmp_path, *words)
        assert again.returncode == 1 and "already" in again.stderr
    assert (tmp_path / "program.md").read_text() == "mine"
    assert not (tmp_path / "nanotrain").exists()


def test_init_creates_its_folder_and_refuses_a_file(tmp_path: Path) -> None:
    done = run(tmp_path, "init", "new folder/deeper")
    assert done.returncode == 0 and (tmp_path / "new folder/deeper/program.md").is_file()
    assert "no train.py" in done.stdout
    (tmp_path / "file").touch()
    refused = run(tmp_path, "init", "file")
    assert refused.returncode == 1 and "Traceback" not in refused.stderr


def test_the_nanotrain_template_is_a_valid_project(tmp_path: Path) -> None:
    folder = tmp_path / "my nano"
    home = tmp_path / "home"
    home.mkdir()
    done = run(tmp_path, "init", "my nano", "--template", "nanotrain", env={"HOME": str(home)})
    assert done.returncode == 0, done.stderr
    assert "'" in done.stdout  # the folder's name is quoted for the shell
    assert git(folder, "status", "--porcelain") == "" and git(folder, "log", "--format=%s").count("\n") == 0
    program = load(folder / "program.md")
    check_files(program, folder, git(folder, "ls-files").splitlines())
    assert program.edit == ("nanotrain/train.py",) and (folder / "nanotrain/score.py").is_file()
    assert run(folder, "status").returncode == 3


def test_the_template_does_not_change_an_existing_repository(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p")
    git(folder, "rm", "-q", "program.md")
    git(folder, "commit", "-q", "-m", "away")
    (folder / "staged.txt").write_text("mine")
    git(folder, "add", "staged.txt")
    done = run(folder, "init", "--template", "nanotrain")
    assert done.returncode == 0, done.stderr
    assert git(folder, "status", "--porcelain") == "A  staged.txt"


def test_the_template_reports_a_failed_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    hook = tmp_path / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'no commits on Mondays' >&2; exit 1\n")
    hook.chmod(0o755)
    done = run(tmp_path, "init", "--template", "nanotrain")
    assert done.returncode == 1 and "git commit failed: no commits on Mondays" in done.stderr
    assert "the files are written" in done.stderr and "git commit -m nanotrain" in done.stderr
