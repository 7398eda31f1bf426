"""Preparation of a project's data before a session: its `prepare`, or the command that a person chose instead"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.lab import device, environment, prepare
from core.program.program import load
from core.record.errors import AutoresearchError, DataNotChosen
from core.session.options import EngineOptions, overrides_of


async def prepare_data(
    project: Path, options: EngineOptions, chosen: str | None, say: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    """Run `chosen`, or `prepare` for the device of the slots, in the project's folder; `say` receives the progress.

    The report: `ok`, and `info` of what was prepared; or `what`, `hint`, and `choices`: commands to choose from, each
    with what it does. Cancelling ends the command.
    """
    try:
        program = load(project / "program.md", overrides_of(options))
        slots = device.parse_slots(options.slots) if options.slots else device.default_slots(alone=program.timed)
        kind = device.kind_of(slots)
        command = chosen or program.prepare(kind)
        if command is None:
            return {"ok": True, "info": {}}
        env = {**environment.trusted_environment(project), "AUTORESEARCH_DEVICE": kind}
        argv = environment.resolve_command(command, env, project)
        done = await prepare.prepare(argv, project, env, lambda line: say({"progress": line[:200]}))
    except AutoresearchError as error:
        what, *said = error.what.splitlines()
        hint = error.hint or next((line.strip()[6:] for line in said if line.strip().startswith("hint: ")), "")
        choices = dict(error.choices) if isinstance(error, DataNotChosen) else {}
        return {"ok": False, "what": what, "hint": hint, "choices": choices}
    return {"ok": True, "info": dict(done.info)}
