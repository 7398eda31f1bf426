"""Options of a session, given at its starts and kept in `settings.json`

Engine, app and command line read and write that file only through this module. A budget or approval mode that changes
while the session runs is in the State alone; a changed researcher and changed slots are also kept here, since the next
engine needs them before it writes to the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_type_hints

from core.session.disk import read_json, write_json
from core.session.paths import SessionPaths


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Options of one start, from the command line or the launch screen. None: as in program.md or at the last start."""

    researcher: str | None = None
    model: str | None = None
    script: str | None = None  # path, for the scripted researcher
    slots: str | None = None
    seed: int | None = None
    experiments: int | None = None
    hours: float | None = None
    usd: float | None = None
    run_budget: str | None = None
    overrides: tuple[str, ...] = ()  # KEY=VALUE, for keys of program.md
    only_task: str | None = None  # "certify:5", "reproduce:3": do only this, then end; for this start
    from_head: bool = False  # run from HEAD although editable files have uncommitted changes


# Options that stand for a key of program.md.
SHORTHANDS: Mapping[str, str] = {
    "run_budget": "budget.run", "experiments": "budget.experiments", "hours": "budget.hours", "usd": "budget.usd",
    "seed": "seed",
}  # fmt: skip
ONE_START = ("only_task", "from_head")  # not inherited by later starts


def overrides_of(options: EngineOptions) -> tuple[str, ...]:
    """Every KEY=VALUE that overrides program.md, the shorthands last; for `core.program.program.load` and `parse`."""
    given = ((key, getattr(options, name)) for name, key in SHORTHANDS.items())
    texts = [f'{key}="{v}"' if isinstance(v, str) else f"{key}={v}" for key, v in given if v is not None]
    return (*options.overrides, *texts)


def key_of(override: str) -> str:
    """The key of a KEY=VALUE."""
    return override.partition("=")[0].strip()


def merge(old: EngineOptions, new: EngineOptions) -> EngineOptions:
    """Options of a start with `new` in a session with the kept options `old`; `new` has precedence.

    Shorthands become overrides, so that `--set budget.hours=5` replaces an earlier `--hours 3`, and the reverse.
    """
    names = (f.name for f in fields(new) if f.name not in (*SHORTHANDS, "overrides"))
    asked: dict[str, Any] = {name: value for name in names if (value := getattr(new, name)) is not None}
    if new.script is not None and new.researcher is None:
        asked["researcher"] = "scripted"
    if asked.get("researcher") not in (None, old.researcher):
        asked["model"] = new.model  # a model belongs to its researcher
    newest: dict[str, str] = {}
    for override in (*overrides_of(old), *overrides_of(new)):
        newest.pop(key_of(override), None)  # it moves to the end
        newest[key_of(override)] = override
    asked |= dict.fromkeys(SHORTHANDS)
    return replace(old, **asked, overrides=tuple(newest.values()))


def save_options(paths: SessionPaths, options: EngineOptions) -> None:
    """Keep the options for the session's next start. Raises OSError."""
    write_json(paths.settings, {"options": {k: v for k, v in asdict(options).items() if k not in ONE_START}})


def load_options(paths: SessionPaths) -> EngineOptions | None:
    """The kept options; None where the file is missing or holds none."""
    plain = read_json(paths.settings).get("options")
    return replace(options_from(plain), only_task=None, from_head=False) if isinstance(plain, dict) else None


def session_overrides(paths: SessionPaths) -> tuple[str, ...]:
    """Every KEY=VALUE that overrides program.md in this session; empty where no options are kept."""
    return overrides_of(load_options(paths) or EngineOptions())


def options_from(plain: Mapping[str, Any]) -> EngineOptions:
    """Options from their JSON. Unknown names and values of the wrong type are ignored."""
    types = get_type_hints(EngineOptions)
    overrides = plain.get("overrides")
    texts = tuple(text for text in overrides if isinstance(text, str)) if isinstance(overrides, (list, tuple)) else ()
    known = {name: value for name, value in plain.items() if name in types and name != "overrides"}
    return EngineOptions(**{n: v for n, v in known.items() if _fits(v, types[n])}, overrides=texts)


def _fits(value: object, kind: Any) -> bool:
    return isinstance(value, kind) or (isinstance(value, int) and kind == float | None)
