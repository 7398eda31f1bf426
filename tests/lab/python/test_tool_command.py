"""Commands that are started through uv, poetry, conda and others."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli

from core.lab.python.tool_command import direct_command
from core.record.errors import ProjectError

VENV = {"VIRTUAL_ENV": "/p/.venv", "PATH": "/usr/bin:/bin"}
CONDA = {"CONDA_PREFIX": "/c/envs/lab", "CONDA_DEFAULT_ENV": "lab", "PATH": "/usr/bin:/bin"}
NONE = {"PATH": "/usr/bin:/bin"}


@pytest.mark.parametrize(
    ("written", "env", "started"),
    [
        ("poetry run sh train.sh", VENV, "sh train.sh"),
        ("cd sub && A=1 pipenv run -- sh x", VENV, "cd sub && A=1 sh x"),
        ("bash -c 'hatch run sh x'", VENV, "bash -c 'sh x'"),
        ("pixi run sh x", CONDA, "sh x"),
        ("uv run train.py", VENV, "uv run train.py"),
        (
            "uv run --no-sync --offline python -m train --with 3",
            VENV,
            "uv run --no-sync --offline python -m train --with 3",
        ),
        ("conda run -n lab --no-capture-output python x.py", CONDA, "python x.py"),
        ("micromamba run -p /c/envs/lab python x.py", CONDA, "python x.py"),
        ("source .venv/bin/activate && python x.py", VENV, ". .venv/bin/activate && python x.py"),
        ("cd a; source ../venv/bin/activate; python x.py", VENV, "cd a; . ../venv/bin/activate; python x.py"),
        ("python train.py --run poetry run", VENV, "python train.py --run poetry run"),
    ],
)
def test_a_program_is_started_directly_in_the_environment(
    written: str, env: dict[str, str], started: str, tmp_path: Path
) -> None:
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    assert direct_command(written, env, tmp_path) == started


@pytest.mark.parametrize(
    ("written", "env", "what", "hint"),
    [
        (
            "poetry run sh x",
            NONE,
            "poetry has no environment",
            'activate the environment in your shell and write run = "sh x"',
        ),
        ("pixi run train", NONE, "pixi has no environment", "the command that it stands for"),
        ("hatch run bench", VENV, "bench is no program", "run = "),
        ("hatch run test:python x.py", VENV, "test:python is no program", "run = "),
        ("poetry -C sub run python x.py", VENV, "not started in the sandbox", 'write run = "python x.py"'),
        ("uv run train.py", NONE, "uv has no environment", "uv sync"),
        ("uv run --with rich train.py", VENV, "another environment in each run", "uv add"),
        ("uv run script.py", VENV, "dependencies named in script.py", 'write run = "python script.py"'),
        ("uvx ruff check", VENV, "uv would download", 'write run = "ruff check"'),
        ("conda run -n other python x.py", CONDA, "other is not the active one", "conda activate other"),
        ("conda run -n lab python x.py", VENV, "lab is not the active one", 'write run = "python x.py"'),
        ("source venv/bin/activate && python x.py", NONE, "no environment venv", 'write run = "python x.py"'),
        ("conda activate lab && python x.py", CONDA, "cannot activate", 'write run = "python x.py"'),
    ],
)
def test_what_the_tool_would_install_or_choose_is_refused_with_the_line_to_write(
    written: str, env: dict[str, str], what: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text('# /// script\n# dependencies = ["rich"]\n# ///\nimport rich\n')
    with pytest.raises(ProjectError) as refused:
        direct_command(written, env, tmp_path)
    assert what in refused.value.what and hint in refused.value.hint


def test_the_hint_is_toml_whatever_quotes_the_command_has(tmp_path: Path) -> None:
    command = """python -c "print('a')" x"""
    with pytest.raises(ProjectError) as refused:
        direct_command(f"conda run -n other {command}", CONDA, tmp_path)
    assert tomli.loads(refused.value.hint.partition("then write ")[2]) == {"run": command}
