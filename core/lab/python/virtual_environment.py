"""Virtual environments that a project may run with, and the one that its commands get.

A folder is an environment by what is in it (`pyvenv.cfg`, or `conda-meta`), not by its name. Those of a project lie in
its own folder, or in one around it up to the top of the repository.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

NAMES = ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV")  # of variables that name an active environment
# With these uv uses the environment as it is, without the network.
UV_AS_IT_IS = {"UV_NO_SYNC": "1", "UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never"}
_MAX_SECONDS = 60.0  # for a tool to name its environment, or a launcher its interpreter
_USUAL = (".venv", "venv", "env")
_PIXI = ".pixi/envs"
# File of a project, text in it, and the command that prints the environment which this tool made somewhere else.
_TOOLS = (
    ("poetry.lock", "", ("poetry", "env", "info", "--path")),
    ("pyproject.toml", "[tool.poetry", ("poetry", "env", "info", "--path")),
    ("Pipfile", "", ("pipenv", "--venv")),
    ("pyproject.toml", "[tool.hatch.envs", ("hatch", "env", "find")),
    ("hatch.toml", "", ("hatch", "env", "find")),
)


def is_environment(folder: Path) -> bool:
    """True for the folder of a virtual environment, or of an environment of conda or pixi."""
    marked = folder.name == ".venv" or any(os.path.lexists(folder / mark) for mark in ("pyvenv.cfg", "conda-meta"))
    return marked and _has_python(folder)


def _has_python(folder: Path) -> bool:
    try:
        return (folder / "bin" / "python").exists()
    except OSError:  # a folder of another user
        return False


def own_environments(project: Path) -> tuple[Path, ...]:
    """The environments in the project's folder, then those around it in the repository; usual names come first."""
    found: list[Path] = []
    for place in _in_repository(project):
        with_names = [place / name for name in _USUAL]
        for folder in (place, place / _PIXI):
            try:
                with os.scandir(folder) as entries:
                    with_names += sorted(Path(entry.path) for entry in entries if entry.is_dir())
            except OSError:
                continue
        found += [one for one in dict.fromkeys(with_names) if is_environment(one)]
    return tuple(found)


def _in_repository(project: Path) -> list[Path]:
    """The project's folder and those around it up to the top of the repository; in no repository, only its own."""
    places = [project, *project.parents]
    top = next((at for at, place in enumerate(places) if os.path.lexists(place / ".git")), 0)
    return places[: top + 1]


def dependency_folders(project: Path) -> tuple[Path, ...]:
    """What every worktree gets as links, although git does not hold it: the environments, and `node_modules` beside a
    package.json, unless a package in it is a link to the project's own code, which would hide the edited one.
    """
    beside = [place / "node_modules" for place in _in_repository(project) if os.path.lexists(place / "package.json")]
    modules = [one for one in beside if one.is_dir() and not _leads_out(one)]
    return (*own_environments(project), *modules)


def _leads_out(modules: Path) -> bool:
    packages = [path for path in modules.iterdir() if not path.name.startswith(".")]
    packages += [
        path for scope in packages if scope.name.startswith("@") and scope.is_dir() for path in scope.iterdir()
    ]
    inside = Path(os.path.realpath(modules))
    own = Path(os.path.realpath(modules.parent))
    targets = [Path(os.path.realpath(path)) for path in packages if path.is_symlink()]
    return any(target.is_relative_to(own) and not target.is_relative_to(inside) for target in targets)


def chosen_environment(project: Path, source: Mapping[str, str]) -> Path | None:
    """The environment for the project's commands, where `source` is the environment of the person's shell.

    That is: an active one of the project, `.venv`, another active one, `venv` or `env` or pixi's, one that poetry,
    pipenv or hatch keeps elsewhere, and last what is active by default: conda's base, or the harness's own.
    """
    own = own_environments(project)
    given = [source.get(name, "") for name in ("UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV", "CONDA_PREFIX")]
    active = [path for path in (project / one for one in given if one) if _has_python(path)]
    mine = [path for path in active if any(_same(path, one) for one in own)]
    meant = [path for path in active if not _by_default(path, source)]
    usual = [one for one in own if one.name in _USUAL or one.parent.match(_PIXI)]
    dotted = [one for one in own if one.name == ".venv"]
    first = next(iter((*mine, *dotted, *meant, *usual)), None)
    return first or _of_a_tool(project, source) or next(iter(active), None)


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _by_default(path: Path, source: Mapping[str, str]) -> bool:
    """True for an environment that may be active for another reason than this project."""
    base = source.get("CONDA_DEFAULT_ENV") == "base" and _same(path, Path(source.get("CONDA_PREFIX", "")))
    return base or _same(path, Path(sys.prefix))


def _of_a_tool(project: Path, source: Mapping[str, str]) -> Path | None:
    for name, text, argv in _TOOLS:
        try:
            if text not in (project / name).read_text(errors="replace"):
                continue
        except OSError:
            continue
        path = printed_path(argv, project, source)
        if path and _has_python(path):
            return path
    return None


def printed_path(argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Path | None:
    """The absolute path in the last line that a command prints; None when it prints none, fails or does not end."""
    try:
        done = subprocess.run(argv, cwd=cwd, env=dict(env), capture_output=True, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, timeout=_MAX_SECONDS)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    path = Path((done.stdout.strip().splitlines() or [""])[-1])
    return path if done.returncode == 0 and path.is_absolute() else None


def variables(environment: Path) -> dict[str, str]:
    """Variables that name `environment` to Python's tools."""
    if os.path.lexists(environment / "conda-meta"):
        return {"CONDA_PREFIX": str(environment), "CONDA_DEFAULT_ENV": environment.name}
    return {"VIRTUAL_ENV": str(environment), "UV_PROJECT_ENVIRONMENT": str(environment)}
