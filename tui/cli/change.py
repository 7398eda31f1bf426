"""The commands `set` (changes a running session) and `program` (previews an edited program.md)"""

from __future__ import annotations

import difflib
from argparse import Namespace
from pathlib import Path

from core.record import commands
from core.record.errors import AutoresearchError, CommandRefused, UsageError
from tui.cli.command import JSON, NAME, PROJECT, argument, command
from tui.cli.output import Output
from tui.cli.session_names import session_of
from tui.cli.steer import ask, steering

KEYS = ("researcher", "model", "script", "hours", "experiments", "usd", "slots")
_BUDGET = ("hours", "experiments", "usd")


@steering(
    "set",
    argument("settings", metavar="KEY=VALUE", nargs="+",
             help="researcher, model, script, hours, experiments, usd, slots"),
    help="Change a running session: researcher, model and script from the next experiment on; hours, experiments and\n"
    "usd (the session's budget); slots (a removed slot finishes its run first). Later engines keep the change.",
    examples=("set experiments=200 usd=40", "set researcher=claude model=ID", "set slots=gpu:0,1"),
)  # fmt: skip
def change(arguments: Namespace, out: Output) -> int:
    """One request for each group of keys; 1 when one was refused. Raises UsageError, EngineError."""
    return ask(arguments, out, *_requests(_pairs(arguments.settings)))


def _pairs(words: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            hint = f"did you mean {near[0]}?" if near else f"the keys are: {', '.join(KEYS)}"
            raise UsageError(f"{key!r} cannot be set in a running session", hint=hint)
        if not equals or not value.strip():
            raise UsageError(f"{word!r} is not KEY=VALUE", hint=f"write {key}=…")
        pairs[key] = value.strip()
    return pairs


def _requests(pairs: dict[str, str]) -> list[commands.Command]:
    asked: list[commands.Command] = []
    if budget := {key: _number(key, pairs[key]) for key in _BUDGET if key in pairs}:
        asked.append(commands.ChangeBudget(**budget))  # type: ignore[arg-type]
    if "slots" in pairs:
        asked.append(commands.ChangeSlots(pairs["slots"]))
    if {"researcher", "model", "script"} & pairs.keys():
        script = pairs.get("script")
        name = pairs.get("researcher") or ("scripted" if script else "")
        whole = str(Path(script).expanduser().absolute()) if script else None
        asked.append(commands.ChangeResearcher(name, pairs.get("model"), whole))
    return asked


def _number(key: str, text: str) -> float | int:
    try:
        return int(text) if key == "experiments" else float(text.removeprefix("$"))
    except ValueError:
        kind = "a whole number" if key == "experiments" else "a number"
        raise UsageError(f"{key}={text} is not {kind}", hint=f"write {key}=20") from None


@command(
    "program", NAME, JSON, PROJECT,
    help="Show the edits of program.md that take effect at the next experiment, or why they will be refused. Works\n"
    "without an engine. Exit 1: they will be refused.",
    examples=("program",),
)  # fmt: skip
def program(arguments: Namespace, out: Output) -> int:
    """What program.md will change at the next experiment; 1 when it will be refused."""
    from core.client import read_state
    from core.program.program import check_change, load, parse
    from core.program.toml_reader import NAME as PROGRAM_FILE
    from core.session.options import session_overrides

    paths = session_of(arguments)
    old, path, overrides = read_state(paths).program, paths.project / PROGRAM_FILE, session_overrides(paths)
    trouble = ""
    try:
        new = load(path, overrides)
        if new.text != old:
            check_change(parse(old, overrides), new)
    except AutoresearchError as error:
        trouble = str(error)
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    lines = difflib.unified_diff(old.splitlines(), text.splitlines(), "in force", PROGRAM_FILE, lineterm="", n=3)
    diff = "\n".join(lines)
    if arguments.json:
        out.json({"changed": bool(diff), "diff": diff, "refused": trouble})
        return 1 if trouble else 0
    for line in diff.splitlines():
        role = "add" if line.startswith("+") else "remove" if line.startswith("-") else "text"
        out.line(out.paint(line, role))
    if trouble:
        raise CommandRefused(f"this will not take effect: {trouble}")
    out.say("it takes effect when the next experiment begins" if diff else f"{PROGRAM_FILE} is in force unchanged")
    return 0
