"""`set`: what a running session may be told to do differently; and `program`: what an edited program.md will change."""

from __future__ import annotations

import difflib
from argparse import Namespace
from pathlib import Path

from core.record import commands
from core.record.errors import AutoresearchError, CommandRefused, EngineError, UsageError
from tui.cli.output import Output
from tui.cli.session_names import session_of

KEYS = ("researcher", "model", "script", "hours", "experiments", "usd", "slots")
_BUDGET = ("hours", "experiments", "usd")


def change(arguments: Namespace, out: Output) -> int:
    """One request for each group of keys; 1 when any of them was refused. Raises UsageError, EngineError."""
    from core.client import request

    paths, asked = session_of(arguments), _requests(_pairs(arguments.settings))
    answers: list[commands.Reply] = []
    for command in asked:
        try:
            answers.append(request(paths, command))
        except EngineError as error:
            if not arguments.json:
                raise
            answers.append(commands.Reply(False, str(error)))
    refused = [answer.message for answer in answers if not answer.accepted]
    if arguments.json:
        out.json({"accepted": not refused, "message": "\n".join(answer.message for answer in answers)})
        return 1 if refused else 0
    for answer in answers:
        if answer.accepted:
            out.line(out.paint(answer.message, "text"))
    if refused:
        raise CommandRefused("\n".join(refused))
    return 0


def _pairs(words: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            hint = f"did you mean {near[0]}?" if near else f"the keys are: {', '.join(KEYS)}"
            raise UsageError(f"{key!r} is nothing that can be set in a running session", hint=hint)
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


def program(arguments: Namespace, out: Output) -> int:
    """What program.md will change at the next experiment; 1 when it will be refused."""
    from core.client import read_state
    from core.program.program import check_change, load, parse
    from core.program.toml_reader import NAME
    from core.session.options import session_overrides

    paths = session_of(arguments)
    old, path, overrides = read_state(paths).program, paths.project / NAME, session_overrides(paths)
    trouble = ""
    try:
        new = load(path, overrides)
        if new.text != old:
            check_change(parse(old, overrides), new)
    except AutoresearchError as error:
        trouble = str(error)
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    lines = difflib.unified_diff(old.splitlines(), text.splitlines(), "in force", NAME, lineterm="", n=3)
    diff = "\n".join(lines)
    if arguments.json:
        out.json({"changed": bool(diff), "diff": diff, "refused": trouble})
        return 1 if trouble else 0
    for line in diff.splitlines():
        role = "add" if line.startswith("+") else "remove" if line.startswith("-") else "text"
        out.line(out.paint(line, role))
    if trouble:
        raise CommandRefused(f"this will not take effect: {trouble}")
    out.say("it takes effect when the next experiment begins" if diff else f"{NAME} is in force as it stands")
    return 0
