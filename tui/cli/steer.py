"""Steering: each of these asks the engine, and says what it answered."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from core import invocation
from core.record import commands
from core.record.errors import CommandRefused, EngineError, UsageError
from core.session.paths import SessionPaths
from tui.cli.output import Output
from tui.cli.session_names import session_of


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
    return _ask(arguments, out, commands.Pause(now=arguments.now))


def resume(arguments: Namespace, out: Output) -> int:
    return _ask(arguments, out, commands.Resume())


def skip(arguments: Namespace, out: Output) -> int:
    return _ask(arguments, out, commands.Skip(arguments.experiment))


def stop(arguments: Namespace, out: Output) -> int:
    if arguments.now and arguments.after is not None:
        raise UsageError("--now and --after exclude each other")
    return _ask(arguments, out, commands.Stop(now=arguments.now, after=arguments.after))


def steer(arguments: Namespace, out: Output) -> int:
    if arguments.withdraw is not None:
        if arguments.text:
            raise UsageError(
                "withdrawing takes no words",
                hint=f"write: {invocation.call('steer', '--withdraw', str(arguments.withdraw))}",
            )
        return _ask(arguments, out, commands.Withdraw(arguments.withdraw))
    text = _said(arguments, f"write: {invocation.call('steer', 'try a smaller batch')}")
    if arguments.edit is not None:
        return _ask(arguments, out, commands.EditGuidance(arguments.edit, text))
    return _ask(arguments, out, commands.Steer(text, now=arguments.now, standing=arguments.standing))


def approve(arguments: Namespace, out: Output) -> int:
    if arguments.patch is None:
        return _ask(arguments, out, commands.Approve(arguments.experiment, all=arguments.all))
    edits = _edits(session_of(arguments), arguments.experiment, _patch(arguments.patch))
    return _ask(arguments, out, commands.Approve(arguments.experiment, all=arguments.all, edits=edits))


def reject(arguments: Namespace, out: Output) -> int:
    return _ask(arguments, out, commands.Reject(arguments.experiment, arguments.reason))


def approve_mode(arguments: Namespace, out: Output) -> int:
    return _ask(arguments, out, commands.ApproveMode(arguments.mode == "on"))


def idea(arguments: Namespace, out: Output) -> int:
    text = _said(arguments, f"write: {invocation.call('idea', 'no warm-up')}")
    return _ask(arguments, out, commands.Idea(text))


def propose(arguments: Namespace, out: Output) -> int:
    from core.record.proposal import KINDS, kind_of

    kind = kind_of(arguments.kind)
    if kind is None:
        raise UsageError(f"{arguments.kind!r} is no kind of change", hint=f"one of: {', '.join(KINDS)}")
    command = commands.Propose(hypothesis=arguments.hypothesis, kind=kind, patch=_patch(arguments.patch))
    return _ask(arguments, out, command)


def fork(arguments: Namespace, out: Output) -> int:
    return _ask(arguments, out, commands.Fork(arguments.experiment))


def pin(arguments: Namespace, out: Output) -> int:
    return _ask(arguments, out, commands.Pin(arguments.experiment, pinned=not arguments.off))


def repeat(arguments: Namespace, out: Output) -> int:
    return _ask(arguments, out, commands.Repeat(arguments.experiment))


def _said(arguments: Namespace, hint: str) -> str:
    text = " ".join(arguments.text).strip()
    if not text:
        raise UsageError("there is nothing to say", hint=hint)
    return text


def _patch(name: str) -> str:
    """The text of a patch; `-` reads standard input. Raises UsageError when it cannot be read."""
    try:
        text = sys.stdin.buffer.read() if name == "-" else Path(name).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(
            f"the patch cannot be read ({(error.strerror or 'unknown').lower()})",
            where=name, hint="name a file that git diff wrote, or - for standard input",
        ) from error  # fmt: skip
    try:
        patch = text.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError("the patch is not UTF-8 text", where=name) from None
    if not patch.strip():
        raise UsageError("the patch is empty", where=name, hint="write one with: git diff > mine.patch")
    return patch


def _edits(paths: SessionPaths, experiment: int, patch: str) -> tuple[dict[str, Any], ...]:
    """What `patch` makes of the parent's files of a proposal that waits. Raises EditError or CommandRefused."""
    from core.client import read_state
    from core.client.committed_files import committed_files
    from core.edits.patch import edits_from_patch

    state = read_state(paths)
    x = state.experiments.get(experiment)
    if x is None or state.session is None:
        raise CommandRefused(f"there is no experiment {experiment}")
    files = committed_files(paths.project, x.parent_commit, state.session.edit)
    top = next((folder for folder in (paths.project, *paths.project.parents) if (folder / ".git").exists()), None)
    prefix = str(paths.project.relative_to(top)) if top else "."
    return tuple({"path": edit.path, "content": edit.content} for edit in edits_from_patch(patch, files, prefix))
