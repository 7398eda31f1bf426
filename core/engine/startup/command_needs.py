"""Needs of program.md's commands that are known before a run: the scripts that they name, and nanotrain's packages"""

from __future__ import annotations

import os
import posixpath
import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path, PurePath
from typing import NoReturn

from core import invocation
from core.lab import environment
from core.lab.gpu import torch_build
from core.lab.python.virtual_environment import dependency_folders
from core.lab.versions import versions_for
from core.program.program import Program
from core.record.errors import ProjectError

_INTERPRETER = re.compile(
    r"(?:python|pypy)[\d.]*|node|nodejs|bun|sh|bash|dash|zsh|ruby|perl|Rscript|julia|lua|php|torchrun"
)
_SCRIPT = re.compile(r"[^-].*\.(?:py|js|mjs|cjs|ts|sh|bash|rb|pl|R|r|jl|lua|php)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_SHELL = re.compile(r"[|&;<>`\\*?~#\n(){}\[\]!]")  # beyond variables: what a shell would do is not known here
_TOOLS = ("uv", "poetry", "pipenv", "pdm", "rye", "hatch", "pixi")
_TAKE_CODE = ("-c", "-m", "-e", "-p", "--eval", "--print", "-")


def commands_of(program: Program, kind: str) -> dict[str, str]:
    """The commands of a run on `kind` (cuda or cpu) and around it, by their keys."""
    given = {"run": program.run, "score": program.score, "prepare": program.prepare(kind)}
    return {key: command for key, command in given.items() if command is not None}


def named_script(command: str) -> str | None:
    """The script that `command` hands to an interpreter, relative to the project; None where that is not sure."""
    if _SHELL.search(command):
        return None
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    while words and (_ASSIGNMENT.match(words[0]) or words[0] in ("env", "time", "nice")):
        del words[0]
    if len(words) > 2 and words[0] in _TOOLS and words[1] == "run":
        del words[:2]
        if words and _SCRIPT.fullmatch(words[0]):
            return _inside(words[0])
    if not words or not _INTERPRETER.fullmatch(posixpath.basename(words[0])):
        return None
    for word in words[1:]:
        if word in _TAKE_CODE or "$" in word:
            return None
        if _SCRIPT.fullmatch(word):
            return _inside(word)
    return None


def _inside(path: str) -> str | None:
    path = posixpath.normpath(path)
    return None if path.startswith(("/", "..")) else path


def check_script(command: str, key: str, project: Path, inputs: Collection[str], holds: Callable[[str], bool]) -> None:
    """Raises ProjectError when a worktree lacks the program or script that `command` names. `holds`: whether HEAD has a
    file or folder; `inputs`, virtual environments and node_modules are linked into the worktree.
    """
    folders = [os.path.relpath(path, project) for path in dependency_folders(project)]
    linked = (*(name.rstrip("/") for name in inputs), *folders)
    for path in (_own_program(command), named_script(command)):
        in_link = path is not None and any(path == name or path.startswith(f"{name}/") for name in linked)
        if path is not None and not holds(path) and not (in_link and (project / path).is_file()):
            _refuse(path, command, key, project, holds)


def _own_program(command: str) -> str | None:
    """The program of the project that `command` starts, relative to the project; None where that is not sure."""
    try:
        words = [] if _SHELL.search(command) else shlex.split(command)
    except ValueError:
        return None
    first = next((word for word in words if not _ASSIGNMENT.match(word)), "")
    return _inside(first) if "/" in first and "$" not in first else None


def _refuse(path: str, command: str, key: str, project: Path, holds: Callable[[str], bool]) -> NoReturn:
    folder = next((str(one) for one in reversed(PurePath(path).parents) if str(one) != "." and not holds(str(one))), "")
    if folder and (project / path).is_file():
        hint = f'write inputs = ["{folder}"] into program.md, or commit that folder'
        raise ProjectError(f"{folder} is not in git, so no worktree has {path}", where=command, hint=hint)
    if (project / path).is_file():
        hint = f"git add {shlex.quote(path)}, and commit (with -f where git ignores it)"
        raise ProjectError(f"{path} is not committed, so no worktree has it", where=command, hint=hint)
    what = f"there is no file {path} in this project"
    near = next((str(one.relative_to(project)) for one in _of_that_name(project, path)), "")
    hint = f"did you mean {near}? Correct `{key}` in program.md" if near else f"correct `{key}` in program.md"
    raise ProjectError(what, where=command, hint=hint)


def check_packages(command: str, env: Mapping[str, str], project: Path) -> None:
    """Raises ProjectError when `command` is nanotrain's and its Python lacks a package. The needs of other projects are
    not known.
    """
    if "nanotrain" not in command:
        return
    python = environment.python_of(command, env, project)
    found = versions_for(python, env)
    missing = [name for name in ("torch", "numpy", "safetensors", "tokenizers") if name not in found]
    if "python" in found and missing:
        raise ProjectError(f"nanotrain's are missing: {', '.join(missing)}", hint=_install(missing, python))
    if "python" in found and not torch_build.is_new_enough(found["torch"]):
        what = f"nanotrain needs torch from {'.'.join(map(str, torch_build.MINIMUM))} on, and {python} has"
        raise ProjectError(f"{what} {found['torch']}", hint=_install(["torch"], python))


def _install(missing: Sequence[str], python: str) -> str:
    """The command that installs those packages; torch in the build that the driver runs, where a GPU is."""
    driver = torch_build.installed_driver() if "torch" in missing else None
    build = torch_build.fitting_build(driver) if driver else None
    rest = [name for name in missing if name != "torch" or build is None]
    lines = [torch_build.install(build, python)] if build else []
    lines += [invocation.install(*invocation.requirements("nanotrain", rest), python=python)] if rest else []
    return " && ".join(lines)


def _of_that_name(project: Path, path: str) -> list[Path]:
    name = posixpath.basename(path)
    return sorted(p for pattern in (name, f"*/{name}", f"*/*/{name}") for p in project.glob(pattern) if p.is_file())
