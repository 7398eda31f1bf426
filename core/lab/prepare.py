"""The project's `prepare` command, run once before the first run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core.lab.harness_command import run_command
from core.record.errors import DataNotChosen, ProjectError

_MAX_TRAIN_FILES = 64


@dataclass(frozen=True, slots=True)
class PrepareResult:
    """Answer of `prepare`: files passed to runs (name → path), paths that runs may read, paths that they may not, and
    whether runs have the comments of the Python files that experiments change.
    """

    train: Mapping[str, str] = field(default_factory=dict)
    readable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    comments: bool = True


async def prepare(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str], on_line: Callable[[str], None] | None = None
) -> PrepareResult:
    """Run the command in `cwd`, a pristine checkout; `on_line` receives its progress.

    Raises ProjectError; DataNotChosen when the command asks which data it shall prepare.
    """

    def hear(line: str) -> None:
        if on_line and not line.startswith("{"):
            on_line(line)

    where = " ".join(argv)
    try:
        done = await run_command(argv, cwd=cwd, env=env, on_line=hear)
    except OSError as error:
        raise ProjectError(f"could not start `prepare`: {error.strerror}", where=argv[0]) from None
    answer = None
    with suppress(ValueError):
        answer = json.loads(done.last)
    if done.exit_code:
        said = replace(done, tail="\n".join(line for line in done.tail.splitlines() if line != done.last))
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if isinstance(choices, dict) and choices:
            named = {str(command): str(does) for command, does in choices.items()}
            raise DataNotChosen(f"`prepare` {said.failure}{said.excerpt(12)}", choices=named, where=where)
        raise ProjectError(f"`prepare` {done.failure}{done.excerpt(12)}", where=where)
    if not isinstance(answer, dict):
        raise ProjectError(f"the last line of `prepare` is not a JSON object{done.excerpt(12)}", where=where)
    return _checked(answer, where)


def _checked(answer: dict[str, Any], where: str) -> PrepareResult:
    train, info = answer.get("train", {}), answer.get("info", {})
    if not isinstance(train, dict) or not isinstance(info, dict):
        raise ProjectError("`train` and `info` in the answer of `prepare` must be objects", where=where)
    lists: dict[str, tuple[str, ...]] = {}
    for key in ("readable", "hidden"):
        value = answer.get(key, [])
        if not isinstance(value, list):
            raise ProjectError(f"`{key}` in the answer of `prepare` must be a list", where=where)
        lists[key] = tuple(_path(item, key, where) for item in value)
    files = {str(name): _path(path, "train", where) for name, path in train.items()}
    for name, path in files.items():
        if not Path(path).is_file():
            raise ProjectError(f"`prepare` names the training file {name}, which is not a file", where=path)
    if len(files) > _MAX_TRAIN_FILES:
        raise ProjectError(f"`prepare` names {len(files)} training files; the limit is {_MAX_TRAIN_FILES}", where=where)
    comments = answer.get("comments", True)
    if not isinstance(comments, bool):
        raise ProjectError("`comments` in the answer of `prepare` must be true or false", where=where)
    return PrepareResult(files, lists["readable"], lists["hidden"], info, comments)


def _path(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise ProjectError(f"{value!r} in `{key}` of the answer of `prepare` is not an absolute path", where=where)
    if not Path(value).exists():
        raise ProjectError(f"`prepare` names a path in `{key}` that does not exist", where=value)
    return value
