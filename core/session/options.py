"""A session's options: what was asked for at its starts, kept in `settings.json` beside the log.

Engine, app and command line read and write that file through this module only. A budget or approval mode changed while
the session runs is in the State and not here; a changed researcher or changed slots are here too, since the next engine
needs them before it writes to the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_type_hints

from core.session.disk import read_json, write_json
from core.session.paths import SessionPaths


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What the command line and the launch screen may ask. None leaves it to program.md or to the earlier start."""

    researcher: str | None = None
    model: str | None = None
    script: str | None = None  # path of a scripted researcher's file
    slots: str | None = None
    seed: int | None = None
    experiments: int | None = None
    hours: float | None = None
    usd: float | None = None
    run_budget: str | None = None
    overrides: tuple[str, ...] = ()  # KEY=VALUE, of program.md's front matter
    errand: str | None = None  # "certify:5", "reproduce:3": do this one thing and end; for this start only
    from_head: bool = False  # run from HEAD though the files that may be edited have uncommitted changes


# Options that are short for a key of program.md.
SHORTHANDS: Mapping[str, str] = {
    "run_budget": "budget.run", "experiments": "budget.experiments", "hours": "budget.hours", "usd": "budget.usd",
    "seed": "seed",
}  # fmt: skip
ONE_START = ("errand", "from_head")  # options that no later start inherits


def overrides_of(options: EngineOptions) -> tuple[str, ...]:
    """Every KEY=VALUE that overrides program.md, the shorthands last; for `core.program.program.load` and `parse`."""
    given = ((key, getattr(options, name)) for name, key in SHORTHANDS.items())
    texts = [f'{key}="{v}"' if isinstance(v, str) else f"{key}={v}" for key, v in given if v is not None]
    return (*options.overrides, *texts)


def key_of(override: str) -> str:
    """The key that a KEY=VALUE is about."""
    return override.partition("=")[0].strip()


def merge(old: EngineOptions, new: EngineOptions) -> EngineOptions:
    """The options of a start that asks for `new` in a session whose earlier starts left `old`; `new` has precedence.

    Shorthands become overrides, so that `--set budget.hours=5` replaces an earlier `--hours 3`, and the reverse.
    """
    names = (f.name for f in fields(new) if f.name not in (*SHORTHANDS, "overrides"))
    asked: dict[str, Any] = {name: value for name in names if (value := getattr(new, name)) is not None}
    if new.script is not None and new.researcher is None:
        asked["researcher"] = "scripted"
    if asked.get("researcher") not in (None, old.researcher):
        asked["model"] = new.model  # the old one's model is not the new one's
    newest: dict[str, str] = {}
    for override in (*overrides_of(old), *overrides_of(new)):
        newest.pop(key_of(override), None)  # it takes its place at the end
        newest[key_of(override)] = override
    asked |= dict.fromkeys(SHORTHANDS)
    return replace(old, **asked, overrides=tuple(newest.values()))


def save_options(paths: SessionPaths, options: EngineOptions) -> None:
    """Keep the options for the session's next start. Raises OSError."""
    write_json(paths.settings, {"options": {k: v for k, v in asdict(options).items() if k not in ONE_START}})


def load_options(paths: SessionPaths) -> EngineOptions | None:
    """The options kept by the last start; None where the file is missing or holds none."""
    plain = read_json(paths.settings).get("options")
    return replace(options_from(plain), errand=None, from_head=False) if isinstance(plain, dict) else None


def session_overrides(paths: SessionPaths) -> tuple[str, ...]:
    """Every KEY=VALUE that overrides program.md in this session; none where the options cannot be read."""
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
