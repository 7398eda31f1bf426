"""A session in a project with its own environment, an editable install and data that git holds in part."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core.client import start_engine
from core.record.errors import AutoresearchError
from core.session.options import EngineOptions
from core.session.paths import SessionPaths
from tests.engine.support import engine, wait_end, wait_state
from tests.lab.conftest import needs
from tests.lab.python.test_virtual_environment import make_environment
from tests.projects import PROGRAM, TRAIN, git, rate, write_script

FIRST_LINES = "import marked\nassert marked.NAME == 'venv' and open('data/train.bin').read() == 'data'\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in ("src/toyopt", "data"):
        (folder / name).mkdir(parents=True)
    (folder / "src" / "toyopt" / "__init__.py").touch()
    (folder / "src" / "toyopt" / "train.py").write_text(FIRST_LINES + TRAIN)
    (folder / "data" / "README").write_text("how the data are made")
    (folder / "data" / "train.bin").write_text("data")
    (folder / ".gitignore").write_text("venv/\n*.bin\n")
    program = PROGRAM.replace('edit = ["train.py"]', 'edit = ["src/toyopt/train.py"]\ninputs = ["data"]')
    (folder / "program.md").write_text(program.replace("python train.py", "venv/bin/python -m toyopt.train"))
    packages = next((make_environment(folder / "venv") / "lib").glob("python3*")) / "site-packages"
    (packages / "toyopt.pth").write_text(str(folder / "src"))
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_edits_of_an_installed_package_take_effect(project: Path, tmp_path: Path) -> None:
    change = rate("0.5", "0.3")
    change["edits"][0]["path"] = "src/toyopt/train.py"
    script = write_script(tmp_path / "s.jsonl", [change])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", experiments=1) as paths:
        state = wait_end(paths)
    assert state.state == "finished", state.reason
    assert state.experiments[1].verdict == "kept" and state.experiments[1].metric == pytest.approx(1.0, abs=0.001)
    assert git(project, "status", "--short") == ""


def test_a_run_in_tier_b_reads_the_manifest_around_its_worktree(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv and cargo open one on the way up. In tier B they see that it is there, and end when it cannot be read."""
    needs("B")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("git", "sh", "cat"):
        (tools / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(tools))  # without bubblewrap
    (project / "pyproject.toml").write_text("[project]\n")
    (project / "secret.toml").write_text("[key]\n")
    run = "cat ../../../../pyproject.toml && ! cat ../../../../secret.toml && venv/bin/python -m toyopt.train"
    script = write_script(tmp_path / "s.jsonl", [])
    with engine(
        project, researcher="scripted", script=str(script), slots="cpu:1", experiments=1, overrides=(f'run="{run}"',)
    ) as paths:
        state = wait_state(paths, lambda s: s.baseline is not None or s.state == "crashed", "the baseline")
    assert state.baseline is not None, state.reason
    assert state.engine is not None and state.engine.sandbox == "B"


def test_a_start_whose_edits_cannot_take_effect_leaves_nothing(project: Path, tmp_path: Path) -> None:
    script = write_script(tmp_path / "s.jsonl", [])
    paths = SessionPaths(project, "s")
    options = EngineOptions(
        researcher="scripted", script=str(script), overrides=('run="PYTHONPATH=lib python -m toyopt.train"',)
    )
    with pytest.raises(AutoresearchError, match=r"edits of src/toyopt/train\.py would have no effect") as refused:
        start_engine(paths, options)
    assert "PYTHONPATH=src:lib" in refused.value.hint and not paths.folder.exists()
