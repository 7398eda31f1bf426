"""init and doctor, the last resort, and the wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from core.program.program import check_files, load
from tests import ROOT
from tests.cli.command import COMMAND, run
from tests.projects import PROGRAM, git, make_project


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


def test_init_makes_its_folder_and_refuses_a_file(tmp_path: Path) -> None:
    done = run(tmp_path, "init", "new folder/deeper")
    assert done.returncode == 0 and (tmp_path / "new folder/deeper/program.md").is_file()
    assert "no train.py" in done.stdout
    (tmp_path / "file").touch()
    refused = run(tmp_path, "init", "file")
    assert refused.returncode == 1 and "Traceback" not in refused.stderr


def test_the_nanotrain_template_is_ready(tmp_path: Path) -> None:
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


def test_the_template_leaves_a_repository_that_is_there_alone(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p")
    git(folder, "rm", "-q", "program.md")
    git(folder, "commit", "-q", "-m", "away")
    (folder / "staged.txt").write_text("mine")
    git(folder, "add", "staged.txt")
    done = run(folder, "init", "--template", "nanotrain")
    assert done.returncode == 0, done.stderr
    assert git(folder, "status", "--porcelain") == "A  staged.txt"


def test_the_template_where_git_does_not_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    hook = tmp_path / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'no commits on Mondays' >&2; exit 1\n")
    hook.chmod(0o755)
    done = run(tmp_path, "init", "--template", "nanotrain")
    assert done.returncode == 1 and "git commit failed: no commits on Mondays" in done.stderr
    assert "the files are written" in done.stderr and "git commit -m nanotrain" in done.stderr


def test_doctor(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p")
    good = run(folder, "doctor")
    assert good.returncode == 0 and "ready" in good.stdout and "git" in good.stdout
    report = json.loads(run(folder, "doctor", "--json").stdout)
    assert {"findings", "slots", "sandbox", "researchers", "device"} <= report.keys()
    (folder / "program.md").write_text("no fence\n")
    bad = run(folder, "doctor")
    assert bad.returncode == 1 and "not ready" in bad.stdout and "hint:" in bad.stdout
    empty = tmp_path / "empty"
    empty.mkdir()
    missing = run(empty, "doctor")
    assert missing.returncode == 1 and "program.md" in missing.stdout and "Traceback" not in missing.stderr


def test_doctor_sees_that_nanotrain_would_not_run(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True, timeout=60)
    run_line = f'run = "{tmp_path / "bare/bin/python"} -m nanotrain.train"'
    folder = make_project(tmp_path / "p", program=PROGRAM.replace('run = "python train.py"', run_line))
    done = run(folder, "doctor")
    assert done.returncode == 1 and "missing: torch, numpy, safetensors, tokenizers" in done.stdout
    assert (
        "-m pip install " in done.stdout and "torch==" in done.stdout and done.stdout.endswith("not ready: packages\n")
    )


def test_the_last_resort_keeps_the_traceback_to_itself(tmp_path: Path, state_folder: Path) -> None:
    """A fault of our own (here: a command whose file is missing) is one sentence."""
    make_project(tmp_path / "p")
    code = "import sys, tui.main, tui.cli.parser as p; p._MODULES['status'] = 'nowhere'; sys.exit(tui.main.main())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "status"], cwd=tmp_path / "p", capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr and "internal error" in done.stderr
    (note,) = (state_folder / "crashes").iterdir()
    assert str(note) in done.stderr and "Traceback" in note.read_text()


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["bash", "-c", f'rmdir "{gone}"; "{COMMAND}" status'], cwd=gone, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr and "internal error" not in done.stderr


@pytest.mark.slow
def test_the_wheel_holds_all_and_works_outside_the_clone(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=170, check=False)
    if done.returncode != 0 and "hatchling" in done.stderr and "No matching distribution" in done.stderr:
        pytest.skip("no network to fetch the build backend")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "core/templates/nanotrain/program.md",
        "core/templates/program.md",
        "nanotrain/train.py",
        "tui/main.py",
    ):
        assert name in names
    assert not [name for name in names if name.startswith(("tests/", "sessions/", "benchmarks/"))]
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    folder = make_project(tmp_path / "elsewhere")
    script = "import sys, tui.main; assert 'site' in tui.main.__file__; sys.exit(tui.main.main())"
    env = {**os.environ, "PYTHONPATH": str(site)}

    def wheel_run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-c", script, *words], cwd=folder, env=env, capture_output=True, text=True,
            timeout=100, check=False,
        )  # fmt: skip

    assert wheel_run("sessions").returncode == 0
    assert wheel_run("init", "nano", "--template", "nanotrain").returncode == 0
    assert load(folder / "nano/program.md").edit == ("nanotrain/train.py",)
    assert wheel_run("doctor").returncode == 0
