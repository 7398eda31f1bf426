"""The entry point: internal errors, a missing current folder and an installed wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from core.program.program import load
from tests import ROOT
from tests.cli.command import COMMAND
from tests.projects import make_project


def test_an_internal_error_is_reported_without_traceback(tmp_path: Path, state_folder: Path) -> None:
    """An internal fault (here: a command whose file is missing) is reported in one sentence."""
    make_project(tmp_path / "p")
    code = "import sys, tui.main, tui.cli.parser as p; p._MODULES['status'] = 'nowhere'; sys.exit(tui.main.main())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "status"], cwd=tmp_path / "p", capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr and "internal error" in done.stderr
    (note,) = (state_folder / "crashes").iterdir()
    assert str(note) in done.stderr and "Traceback" in note.read_text()


def test_a_deleted_current_folder_is_reported(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["bash", "-c", f'rmdir "{gone}"; "{COMMAND}" status'], cwd=gone, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr and "internal error" not in done.stderr


@pytest.mark.slow
def test_the_wheel_is_complete_and_works_outside_the_clone(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=300, check=False)
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
            timeout=300, check=False,
        )  # fmt: skip

    assert wheel_run("sessions").returncode == 0
    assert wheel_run("init", "nano", "--template", "nanotrain").returncode == 0
    assert load(folder / "nano/program.md").edit == ("nanotrain/train.py",)
    assert wheel_run("doctor").returncode == 0
