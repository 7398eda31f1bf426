"""The command `doctor`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import run
from tests.false_driver import FalseDriver
from tests.lab.simulated_torch import environment_with, nvidia_smi
from tests.projects import PROGRAM, git, make_project


def test_doctor(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p")
    good = run(folder, "doctor")
    assert good.returncode == 0 and "ready" in good.stdout and "git" in good.stdout
    report = json.loads(run(folder, "doctor", "--json", "--quick").stdout)
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


@pytest.mark.slow
def test_a_torch_that_the_driver_cannot_run_is_told_with_the_command(tmp_path: Path) -> None:
    said = "The NVIDIA driver on your system is too old (found version 12040)"
    python = environment_with(tmp_path / "own", version="2.13.0", cuda="13.0", trouble=f"{said}. Please update it")
    smi = nvidia_smi(tmp_path, "550.54.15", "NVIDIA A100, 8.0")
    driver = FalseDriver(tmp_path / "driver")
    folder = make_project(tmp_path / "p", program=PROGRAM.replace('"python train.py"', f'"{python} train.py"'))
    env = {"LD_LIBRARY_PATH": str(driver.folder), "PATH": f"{smi}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": "0"}
    done = run(folder, "doctor", "--quick", env={**env, "PATH": os.environ["PATH"]})  # a container without nvidia-smi
    assert f"torch 2.13.0 of {python} cannot use Simulated (sm_90), driver 550.54: {said}" in done.stdout
    done = run(folder, "doctor", "--quick", env=env)
    assert done.returncode == 1 and done.stdout.endswith("not ready: torch\n")
    assert f"torch 2.13.0 of {python} cannot use NVIDIA A100 (sm_80), driver 550.54.15: {said}" in done.stdout
    assert "torch==2.13.0+cu126 --index-url https://download.pytorch.org/whl/cu126\n" in done.stdout
    environment_with(tmp_path / "own", version="2.13.0+cu126", cuda="12.6", cards="NVIDIA A100:8.0:")
    done = run(folder, "doctor", "--quick", env=env)
    assert "✓ torch               torch 2.13.0+cu126, built for CUDA 12.6, runs on NVIDIA A100" in done.stdout


def test_a_control_with_nothing_to_tune_is_not_offered(tmp_path: Path) -> None:
    """Nobody else can propose here, so `doctor` is not ready; a start leaves no session, branch or worktree."""
    folder = make_project(tmp_path / "p", train='print("loss: 0.5")\n')
    bare = {"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": "", "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = run(folder, "doctor", env=bare)
    assert done.returncode == 1 and "not ready: researcher control" in done.stdout
    assert "train.py: the control finds no number to tune" in done.stdout and "LEARNING_RATE = 0.01" in done.stdout
    report = json.loads(run(folder, "doctor", "--json", "--quick", env=bare).stdout)
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
    endless = make_project(tmp_path / "q", train="import time\nRATE = 0.5\nwhile True: time.sleep(0.1)\n")
    report = json.loads(run(endless, "doctor", "--json").stdout)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert found["first seconds"]["ok"] is True and "still running" in found["first seconds"]["detail"]
    assert found["worktree"]["detail"].startswith("2 files checked out in")
