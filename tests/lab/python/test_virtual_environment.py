"""Which environment a project's commands get, and what they see of it in a worktree and in the sandbox."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.lab.environment import readable_roots, resolve_command, run_environment
from core.lab.python.virtual_environment import chosen_environment, dependency_folders, own_environments
from core.lab.sandbox import tiers
from core.lab.sandbox.tiers import Tier
from tests.lab.conftest import needs
from tests.projects import git


def make_environment(folder: Path, *, conda: bool = False, base: Path | None = None) -> Path:
    """A virtual environment with a module `marked` in it, made of a link and a file as venv does."""
    base = base or Path(sys.base_prefix)
    packages = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "marked.py").write_text(f"NAME = {folder.name!r}\n")
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(base / "bin" / f"python3.{sys.version_info.minor}")
    if conda:
        (folder / "conda-meta").mkdir()
    else:
        (folder / "pyvenv.cfg").write_text(f"home = {base / 'bin'}\n")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "a project"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


def test_an_environment_is_known_by_its_content_and_lies_in_the_repository(project: Path) -> None:
    (project / "part").mkdir()
    (project / "env").mkdir()  # a folder of that name, no environment
    make_environment(project.parent / "venv")  # outside the repository
    other, dotted = make_environment(project / "part" / "other"), make_environment(project / ".venv")
    conda = make_environment(project / "part" / "env", conda=True)
    assert own_environments(project / "part") == (conda, other, dotted)
    assert own_environments(project) == (dotted,)


def test_the_environment_is_the_active_one_of_the_project_then_dotvenv_then_another_active_one(project: Path) -> None:
    outside = make_environment(project.parent / "outside")
    active = {"VIRTUAL_ENV": str(outside)}
    assert chosen_environment(project, {}) is None
    assert chosen_environment(project, active) == outside
    mine = make_environment(project / "mine")
    assert chosen_environment(project, {}) is None  # of an unusual name, and not active
    assert chosen_environment(project, {"VIRTUAL_ENV": str(mine)}) == mine
    venv = make_environment(project / "venv")
    assert chosen_environment(project, {}) == venv and chosen_environment(project, active) == outside
    base = {"CONDA_PREFIX": str(outside), "CONDA_DEFAULT_ENV": "base"}
    assert chosen_environment(project, base) == venv  # conda's base is active in every shell
    dotted = make_environment(project / ".venv")
    assert chosen_environment(project, active) == chosen_environment(project, {}) == dotted
    assert chosen_environment(project, {"VIRTUAL_ENV": str(venv)}) == venv
    assert chosen_environment(project, {"UV_PROJECT_ENVIRONMENT": "mine"}) == mine


def test_an_environment_that_poetry_keeps_elsewhere_is_asked_for(project: Path) -> None:
    kept, tools = make_environment(project.parent / "cache" / "t-py3"), project.parent / "tools"
    tools.mkdir()
    (tools / "poetry").write_text(f"#!/bin/sh\n[ \"$*\" = 'env info --path' ] && echo '{kept}'\n")
    (tools / "poetry").chmod(0o755)
    source = {"PATH": f"{tools}:/usr/bin:/bin"}
    assert chosen_environment(project, source) is None
    (project / "pyproject.toml").write_text('[tool.poetry]\nname = "t"\n')
    assert chosen_environment(project, source) == kept


def test_node_modules_are_linked_too_unless_they_lead_to_the_projects_own_code(project: Path) -> None:
    venv, part = make_environment(project / ".venv"), project / "part"
    for folder in (project, part):
        (folder / "node_modules" / "@scope").mkdir(parents=True)
        (folder / "node_modules" / ".bin").mkdir()
        (folder / "node_modules" / "@scope" / "one").symlink_to("../.bin")
    (project / "package.json").touch()
    assert dependency_folders(part) == (venv, project / "node_modules")
    (part / "package.json").touch()
    assert dependency_folders(part) == (venv, part / "node_modules", project / "node_modules")
    (project / "packages" / "core").mkdir(parents=True)
    (project / "node_modules" / "@scope" / "core").symlink_to("../../packages/core")
    assert dependency_folders(part) == (venv, part / "node_modules")


def test_the_variables_name_one_environment_to_every_tool(project: Path) -> None:
    conda = {"CONDA_PREFIX": "/conda", "CONDA_DEFAULT_ENV": "base", "PATH": "/conda/bin:/usr/bin"}
    venv = make_environment(project / "venv")
    env = run_environment(project, conda)
    assert env["VIRTUAL_ENV"] == env["UV_PROJECT_ENVIRONMENT"] == str(venv) and "CONDA_PREFIX" not in env
    assert env["PATH"].split(os.pathsep)[0] == str(venv / "bin") and env["UV_NO_SYNC"] == "1"
    mine = make_environment(project / "mine", conda=True)
    env = run_environment(project, {**conda, "CONDA_PREFIX": str(mine)})
    assert env["CONDA_PREFIX"] == str(mine) and "VIRTUAL_ENV" not in env


@pytest.mark.parametrize("sandbox", ["A", "B"])
def test_an_environment_whose_python_lies_behind_a_linked_folder_runs_in_the_sandbox(
    project: Path, sandbox: Tier
) -> None:
    """uv keeps its interpreters so: home is `…/cpython-3.12`, a link to `cpython-3.12.5`."""
    store = project.parent / "store"
    store.mkdir()
    (store / "cpython").symlink_to(sys.base_prefix)
    make_environment(project / ".venv", base=store / "cpython")
    env = run_environment(project, {"PATH": "/usr/bin:/bin"})
    argv = resolve_command("python -c 'import marked; print(marked.NAME)'", env, project)
    tree = project.parent / "tree"
    tree.mkdir()
    spec = tiers.SandboxSpec(worktree=tree, readable=readable_roots(env, argv[:1]), tier=needs(sandbox))
    done = subprocess.run(tiers.command(spec, argv), env=env, cwd=tree, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == (".venv\n", 0), done.stderr
