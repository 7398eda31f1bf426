"""Command lines for hints: to call this program, and to install a package into its environment

They work as typed in the current folder. Standard library only and cheap to import. Text for other machines (a
certificate) uses NAME.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

NAME = "autoresearch-tui"
MADE_FROM = "AUTORESEARCH_MADE_FROM"  # set by `make run`: the folder in which make was called
_TAKE_PROJECT_WORD = ("run", "try", "doctor", "init")  # the others take -C DIR


def call(*words: str, project: Path | None = None) -> str:
    """The line that calls the program with `words`, with `project` unless that is the current folder.

    After `make run` it is `make run args='…'`; else the bare name if PATH finds this program by it, else the shorter of
    its relative and its full path.
    """
    if project is not None and not _same(project, Path()):
        words = _about(project, words)
    made = _make()
    if made and not words:
        return made
    if made:
        said = shlex.join(words).replace("$", "$$")
        plain = not set(said) & set('"$`\\!')
        return f'{made} args="{said}"' if plain else f"{made} args={shlex.quote(said)}"
    return " ".join((program(), *([shlex.join(words)] if words else [])))


def program() -> str:
    """The word by which a shell in the current folder finds this program."""
    own = _own_script()
    if own is None:
        return shlex.join([sys.executable, "-P", "-m", "tui.main"])
    named = _on_path(NAME)
    if named is not None and _same(named, own):
        return NAME
    return shlex.quote(_shortest(own))


def install(*requirements: str, python: str = "") -> str:
    """The line that installs `requirements` into the environment of `python` (default: this program's own)."""
    python = python or sys.executable
    here = _shortest(Path(python))
    line = shlex.join([here, "-m", "pip", "install", *requirements])
    if _has_pip(Path(python)):
        return line
    if _on_path("uv"):
        return shlex.join(["uv", "pip", "install", "--python", here, *requirements])
    return f"{shlex.quote(here)} -m ensurepip && {line}"


def requirements(extra: str, only: Iterable[str] = ()) -> list[str]:
    """Requirements of an extra ("": of the package itself), such as `openai>=3.5,<4`; only those named in `only`."""
    from importlib.metadata import PackageNotFoundError, requires

    wanted = set(only)
    try:
        stated = requires(NAME) or []
    except PackageNotFoundError:  # run from its source
        return sorted(wanted) or [extra]
    found = []
    for line in stated:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        name = requirement[: next((i for i, c in enumerate(requirement) if c in "[<>=!~ ("), len(requirement))]
        if marker.replace('"', "'") == (f"extra == '{extra}'" if extra else "") and (not wanted or name in wanted):
            found.append(requirement)
    return found


def _about(project: Path, words: tuple[str, ...]) -> tuple[str, ...]:
    if not words:
        return (_shortest(project),)
    if words[0] in _TAKE_PROJECT_WORD:
        return (words[0], _shortest(project), *words[1:])
    return (words[0], "-C", _shortest(project), *words[1:])


def _make() -> str | None:
    """`make run`, with -C where make was called from elsewhere; None when the program was not started by make."""
    made_from = os.environ.get(MADE_FROM)
    clone = Path(sys.prefix).parent
    if made_from is None or not (clone / "Makefile").is_file() or not _same(clone, Path()):
        return None
    return "make run" if _same(Path(made_from), clone) else f"make -C {shlex.quote(str(clone))} run"


def _own_script() -> Path | None:
    """The installed command of this process's environment, also when another module runs."""
    for path in (Path(sys.executable).with_name(NAME), Path(sys.argv[0])):
        if path.name == NAME and path.is_file() and os.access(path, os.X_OK):
            return path.absolute()
    return None


def _shortest(path: Path) -> str:
    """The path relative to the current folder where it lies below it, else in full. Links in it are not followed.

    In / it is in full: an engine works there, but the reader of its messages does not.
    """
    try:
        here = Path.cwd()
        return str(path.absolute() if here == Path("/") else path.absolute().relative_to(here))
    except (OSError, ValueError):  # the current folder is gone, or is no parent
        return str(path)


def _on_path(name: str) -> Path | None:
    """The program that a shell finds by `name`. (shutil.which costs `status` an import.)"""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        path = Path(folder) / name
        if os.access(path, os.X_OK) and path.is_file():  # in this order: is_file raises in a folder that is closed
            return path
    return None


def _same(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:
        return False


def _has_pip(python: Path) -> bool:
    if str(python) == sys.executable:
        import importlib.util

        return importlib.util.find_spec("pip") is not None
    return not (python.parent.parent / "pyvenv.cfg").is_file() or any(
        python.parent.parent.glob("lib/python3*/site-packages/pip")
    )
