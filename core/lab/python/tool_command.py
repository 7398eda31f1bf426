"""Commands that start a program through a tool for environments: uv, poetry, pipenv, pdm, hatch, pixi, conda, activate.

In the sandbox such a tool has no network, no cache and no configuration of its own. The environment that it would use
is found beforehand (`virtual_environment.py`) and stands first on PATH. So the program is started directly; only uv,
which needs nothing else, is started as it is written.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from core.record.errors import ProjectError
from core.text import toml_text

_START = r"(?:^|(?<=[\s;&|('\"]))"  # of a word
_TOOL = rf"{_START}(poetry|pipenv|pdm|rye|hatch|pixi) +"
_RUN = re.compile(rf"{_TOOL}run +(?:-- +)?(?!-)(\S+)")
_RUN_WITH_OPTIONS = re.compile(rf"{_TOOL}(?:-\S+ +(?:(?!run )[\w./-]+ +)?)*run +(?:-\S+ +)*")
_CONDA = re.compile(
    rf"{_START}(?:conda|mamba|micromamba) +run((?: +(?:-[np]|--name|--prefix)[ =]\S+| +--?[a-z-]+)*) +(?!-)"
)
_CONDA_ACTIVATE = re.compile(r"^(?:.*[;&] *)?(?:conda|mamba|micromamba) +activate +(\S+) *(?:&&|;) *(.+)$", re.S)
_SOURCE = re.compile(r"((?:^|[;&]) *)source +(?=\S*bin/activate)")
_ACTIVATE = re.compile(r"^ *(?:source|\.) +([\w./-]+)/bin/activate *(?:&&|;) *(.+)$", re.S)
_UV = re.compile(rf"{_START}uv +((?:-\S+ +)*)run +((?:-\S+ +)*)(\S*)")
_UVX = re.compile(rf"{_START}(?:uvx|uv +tool +run) +(\S+)")
# Python that ignores its environment variables, up to the option that has it do so.
ISOLATED_PYTHON = r"python[\d.]*(?: +-\w+)*? +-[a-zA-Z]*[IE][a-zA-Z]*(?= )"
_UV_ALONE = re.compile(r"--(with(-requirements|-editable)?|isolated)\b")
_INLINE_METADATA = re.compile(r"^# /// script\s*$", re.M)
_SYNC = {"poetry": "poetry install", "pipenv": "pipenv install", "pdm": "pdm install", "rye": "rye sync",
         "hatch": "hatch env create", "pixi": "pixi install", "uv": "uv sync"}  # fmt: skip


def direct_command(command: str, env: Mapping[str, str], cwd: Path) -> str:
    """`command` without the tool that starts it; `env` has the environment that was found. Raises ProjectError where
    the tool would install something, or use another environment.
    """
    _check_uv(command, env, cwd)
    _check_conda(command, env)
    if (found := _ACTIVATE.match(command)) and not (cwd / found[1] / "bin/activate").is_file():
        hint = f"make that environment (python -m venv {found[1]}), or write {toml_line(found[2])}"
        _refuse(f"there is no environment {found[1]}", command, hint)
    if found := _RUN.search(command):
        tool, program = found.groups()
        rest = _RUN.sub(r"\2", command)
        known = "/" in program or shutil.which(program, path=env.get("PATH")) is not None
        hint = f"write the command that it stands for, such as: {toml_line('python train.py')}"
        if not _environment(env):
            if shutil.which(tool, path=env.get("PATH")):
                hint = _SYNC[tool]
            elif known:
                hint = f"install {tool}, or activate the environment in your shell and write {toml_line(rest)}"
            _refuse(f"{tool} has no environment for this project", command, hint)
        if not known:
            _refuse(f"{program} is no program in the environment of {tool}", command, hint)
        return direct_command(rest, env, cwd)
    if found := _RUN_WITH_OPTIONS.search(command):
        _refuse(f"{found[1]} is not started in the sandbox, so its options have no effect", command,
                f"write {toml_line(_RUN_WITH_OPTIONS.sub('', command))}")  # fmt: skip
    return _SOURCE.sub(r"\1. ", _CONDA.sub("", command))  # `source` is bash's word for `.`


def _check_uv(command: str, env: Mapping[str, str], cwd: Path) -> None:
    """Raises ProjectError for a command of uv that would install something."""
    if found := _UVX.search(command):
        hint = f"uv add --dev {found[1]} && uv sync; then write {toml_line(_UVX.sub(found[1], command))}"
        _refuse("uv would download this program, and a run has no network", command, hint)
    for before, options, word in _UV.findall(command):
        if _UV_ALONE.search(before + options):
            hint = "add what it installs to the project (uv add …), uv sync, and leave that option out"
            _refuse("uv would make another environment in each run, without the network", command, hint)
        if word.endswith(".py") and _has_metadata(cwd / word):
            hint = f"uv venv && uv pip install -r {word}; then write {toml_line(_UV.sub(f'python {word}', command))}"
            _refuse(
                f"uv would install the dependencies named in {word} in each run, without the network", command, hint
            )
        if not _environment(env):
            _refuse("uv has no environment for this project yet", command, _SYNC["uv"])


def _check_conda(command: str, env: Mapping[str, str]) -> None:
    """Raises ProjectError for a command of conda for an environment that is not the one found."""
    here = env.get("CONDA_PREFIX", "")
    if found := _CONDA_ACTIVATE.match(command):
        hint = f"conda activate {found[1]} in your shell, then write {toml_line(found[2])}"
        _refuse("conda cannot activate an environment inside a run", command, hint)
    for options in _CONDA.findall(command):
        named = re.search(r"(?:-[np]|--name|--prefix)[ =](\S+)", options)
        if not here or (named and named[1] not in (here, Path(here).name, env.get("CONDA_DEFAULT_ENV"))):
            which = named[1] if named else "base"
            hint = f"conda activate {which} in your shell, then write {toml_line(_CONDA.sub('', command))}"
            _refuse(f"conda's environment {which} is not the active one", command, hint)


def _environment(env: Mapping[str, str]) -> str:
    return env.get("VIRTUAL_ENV") or env.get("CONDA_PREFIX") or ""


def _has_metadata(script: Path) -> bool:
    try:
        return bool(_INLINE_METADATA.search(script.read_text(errors="replace")))
    except OSError:
        return False


def toml_line(command: str) -> str:
    """The line of program.md with a run command."""
    return f"run = {toml_text(command.strip())}"


def _refuse(what: str, command: str, hint: str) -> NoReturn:
    raise ProjectError(what, where=command, hint=hint)
