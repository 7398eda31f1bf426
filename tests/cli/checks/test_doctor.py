"""The command `doctor`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.command import run
from tests.projects import PROGRAM, git, make_project


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


def test_doctor_reports_that_nanotrain_cannot_run(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True, timeout=300)
    run_line = f'run = "{tmp_path / "bare/bin/python"} -m nanotrain.train"'
    folder = make_project(tmp_path / "p", program=PROGRAM.replace('run = "python train.py"', run_line))
    done = run(folder, "doctor")
    assert done.returncode == 1 and "missing: torch, numpy, safetensors, tokenizers" in done.stdout
    assert "-m pip install " in done.stdout and "torch" in done.stdout and done.stdout.endswith("not ready: packages\n")


def test_a_control_with_nothing_to_tune_is_not_offered(tmp_path: Path) -> None:
    """Nobody else can propose here, so `doctor` is not ready; a start leaves no session, branch or worktree."""
    folder = make_project(tmp_path / "p", train='print("loss: 0.5")\n')
    bare = {"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": "", "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = run(folder, "doctor", env=bare)
    assert done.returncode == 1 and "not ready: researcher control" in done.stdout
    assert "train.py: the control finds no number to tune" in done.stdout and "LEARNING_RATE = 0.01" in done.stdout
    report = json.loads(run(folder, "doctor", "--json", env=bare).stdout)
    assert report["default_researcher"] == "human"
    for words in (["--researcher", "control"], []):
        start = run(folder, "run", "--headless", *words, env=bare)
        assert start.returncode == 1 and "finds no number to tune" in start.stderr and "hint:" in start.stderr
        assert "run --researcher human" in start.stderr
    assert not (folder / "sessions").exists() and "autoresearch" not in git(folder, "branch", "--all")
    assert git(folder, "worktree", "list").count("\n") == 0


def test_the_first_seconds_of_a_run_are_tried(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", train="RATE = 0.5\nimport nothing_of_that_name\n")
    done = run(folder, "doctor")
    assert done.returncode == 1 and done.stdout.endswith("not ready: first seconds\n")
    assert "No module named 'nothing_of_that_name'" in done.stdout and "hint: " in done.stdout
    assert not (folder / "sessions").exists() and git(folder, "worktree", "list").count("\n") == 0
    quick = run(folder, "doctor", "--quick")
    assert quick.returncode == 0 and "first seconds" not in quick.stdout
    endless = make_project(tmp_path / "q", train="RATE = 0.5\nwhile True: pass\n")
    report = json.loads(run(endless, "doctor", "--json").stdout)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert found["first seconds"]["ok"] is True and "still running" in found["first seconds"]["detail"]
    assert found["worktree"]["detail"].startswith("2 files checked out in")
