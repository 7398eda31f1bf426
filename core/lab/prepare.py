"""`prepare`: the project's own command that lays out data, once, before the first run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.lab.harness_command import Finished, run_command
from core.record.errors import ProjectError


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` laid out. `train`: name → file, handed to runs; `readable`: runs may read; `hidden`: never."""

    train: Mapping[str, str] = field(default_factory=dict)
    readable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)


async def prepare(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str], on_line: Callable[[str], None] | None = None
) -> Prepared:
    """Run the command in `cwd`, a pristine checkout; `on_line` hears its progress. Raises ProjectError."""

    def hear(line: str) -> None:
        if on_line and not line.startswith("{"):
            on_line(line)

    try:
        done = await run_command(argv, cwd=cwd, env=env, on_line=hear)
    except OSError as error:
        raise ProjectError(f"`prepare` cannot be started: {error.strerror}", where=argv[0]) from None
    if done.exit_code:
        raise _fault(f"`prepare` ended with code {done.exit_code}", argv, done)
    try:
        answer = json.loads(done.last)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise _fault("the last line of `prepare` is no JSON object", argv, done)
    return _checked(answer, argv)


def _checked(answer: dict[str, Any], argv: Sequence[str]) -> Prepared:
    where = " ".join(argv)
    train, info = answer.get("train", {}), answer.get("info", {})
    if not isinstance(train, dict) or not isinstance(info, dict):
        raise ProjectError("`prepare` answered with a `train` or `info` that is no object", where=where)
    lists: dict[str, tuple[str, ...]] = {}
    for key in ("readable", "hidden"):
        value = answer.get(key, [])
        if not isinstance(value, list):
            raise ProjectError(f"`prepare` answered with a `{key}` that is no list", where=where)
        lists[key] = tuple(_path(item, key, where) for item in value)
    files = {str(name): _path(path, "train", where) for name, path in train.items()}
    for name, path in files.items():
        if not Path(path).is_file():
            raise ProjectError(f"`prepare` names the training file {name}, and there is none", where=path)
    if len(files) > 64:
        raise ProjectError(f"`prepare` names {len(files)} training files; at most 64 can be handed over", where=where)
    return Prepared(files, lists["readable"], lists["hidden"], info)


def _path(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise ProjectError(f"`prepare` answered with {value!r} in `{key}`: an absolute path is needed", where=where)
    if not Path(value).exists():
        raise ProjectError(f"`prepare` names a path in `{key}` that does not exist", where=value)
    return value


def _fault(what: str, argv: Sequence[str], done: Finished) -> ProjectError:
    tail = "\n".join(done.tail.splitlines()[-15:])
    return ProjectError(f"{what}\n{tail}" if tail else what, where=" ".join(argv))
