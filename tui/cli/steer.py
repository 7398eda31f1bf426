"""Steering: each of these asks the engine, and says what it answered."""

from __future__ import annotations

from argparse import Namespace

from core.record import commands
from core.record.errors import CommandRefused, EngineError, UsageError
from tui.cli.names import session_of
from tui.cli.output import Output


def _ask(arguments: Namespace, out: Output, command: commands.Command) -> int:
    """Print the engine's answer. Raises CommandRefused (exit 1) when it says no, EngineError when none is there."""
    from core.client import request

    paths = session_of(arguments)
    try:
        reply = request(paths, command)
    except EngineError as error:  # no engine, or one that does not answer: for a script that is a refusal too
        if not arguments.json:
            raise
        reply = commands.Reply(False, str(error))
    if arguments.json:
        out.json({"accepted": reply.accepted, "message": reply.message})
        return 0 if reply.accepted else 1
    if not reply.accepted:
        raise CommandRefused(reply.message)
    out.line(out.paint(reply.message, "text"))
    return 0


def pause(arguments: Namespace, out: Output) -> int:
    return _ask(arguments, out, commands.Pause())


def resume(arguments: Namespace, out: Output) -> int:
    return _ask(arguments, out, commands.Resume())


def skip(arguments: Namespace, out: Output) -> int:
    return _ask(arguments, out, commands.Skip(arguments.experiment))


def stop(arguments: Namespace, out: Output) -> int:
    return _ask(arguments, out, commands.Stop(now=arguments.now))


def steer(arguments: Namespace, out: Output) -> int:
    text = " ".join(arguments.text).strip()
    if not text:
        raise UsageError("there is nothing to say", mend='write autoresearch-tui steer "try a smaller batch"')
    return _ask(arguments, out, commands.Steer(text, now=arguments.now, standing=arguments.standing))


def approve(arguments: Namespace, out: Output) -> int:
    return _ask(arguments, out, commands.Approve(arguments.experiment))


def reject(arguments: Namespace, out: Output) -> int:
    return _ask(arguments, out, commands.Reject(arguments.experiment, arguments.reason))
