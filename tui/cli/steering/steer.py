"""Steering commands, which send a request to the engine, and `program`, which previews an edited program.md"""

from __future__ import annotations

import difflib
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core import invocation
from core.record import commands
from core.record.errors import AutoresearchError, CommandRefused, EngineError, UsageError
from core.session.paths import SessionPaths
from tui.cli.command import JSON, NAME, PROJECT, SESSION, Argument, argument, command, count, experiment_number, flag
from tui.cli.output import Output
from tui.cli.session_names import session_of

_ANSWER = "\nAnswered accepted or refused, with the reason. --session NAME picks another session than the newest."


def steering(
    name: str, asks: Callable[[Namespace], commands.Command], *arguments: Argument, help: str, examples: tuple[str, ...]
) -> None:
    """Declare a command that sends `asks(arguments)` to the engine of a session."""
    declare = command(name, SESSION, JSON, *arguments, PROJECT, help=help + _ANSWER, examples=examples)
    declare(lambda arguments, out: ask(arguments, out, asks(arguments)))


def ask(arguments: Namespace, out: Output, *asked: commands.Command) -> int:
    """Send each command and print the answers. Raises CommandRefused and EngineError; with --json both are answers."""
    from core.client import request

    paths = session_of(arguments)
    answers: list[commands.Reply] = []
    for each in asked:
        try:
            answers.append(request(paths, each))
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


def _numbered(help: str) -> Argument:
    return argument("experiment", metavar="N", type=experiment_number, help=help)


def _guidance(a: Namespace) -> commands.Command:
    if a.withdraw is not None:
        if a.text:
            hint = f"write: {invocation.call('steer', '--withdraw', str(a.withdraw))}"
            raise UsageError("--withdraw takes no TEXT", hint=hint)
        return commands.Withdraw(a.withdraw)
    text = _text(a, "steer", "try a smaller batch")
    if a.edit is not None:
        return commands.EditGuidance(a.edit, text)
    return commands.Steer(text, now=a.now, standing=a.standing)


def _text(a: Namespace, *example: str) -> str:
    text = " ".join(a.text).strip()
    if not text:
        raise UsageError("TEXT is empty", hint=f"write: {invocation.call(*example)}")
    return text


def _stop(a: Namespace) -> commands.Command:
    if a.now and a.after is not None:
        raise UsageError("--now and --after exclude each other")
    return commands.Stop(now=a.now, after=a.after)


def _proposal(a: Namespace) -> commands.Command:
    from core.record.proposal import KINDS, kind_of

    kind = kind_of(a.kind)
    if kind is None:
        raise UsageError(f"{a.kind!r} is not a kind of change", hint=f"one of: {', '.join(KINDS)}")
    return commands.Propose(hypothesis=a.hypothesis, kind=kind, patch=_patch(a.patch))


def _approval(a: Namespace) -> commands.Command:
    edits = () if a.patch is None else _edits(session_of(a), a.experiment, _patch(a.patch))
    return commands.Approve(a.experiment, all=a.all, edits=edits)


def _patch(name: str) -> str:
    """The text of a patch; `-` reads standard input. Raises UsageError when it cannot be read."""
    try:
        text = sys.stdin.buffer.read() if name == "-" else Path(name).expanduser().read_bytes()
    except OSError as error:
        what = f"the patch could not be read ({(error.strerror or 'unknown').lower()})"
        hint = "name a file that git diff wrote, or - for standard input"
        raise UsageError(what, where=name, hint=hint) from error
    try:
        patch = text.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError("the patch is not UTF-8 text", where=name) from None
    if not patch.strip():
        raise UsageError("the patch is empty", where=name, hint="write one with: git diff > mine.patch")
    return patch


def _edits(paths: SessionPaths, experiment: int, patch: str) -> tuple[dict[str, Any], ...]:
    """The edits of `patch` to the parent's files of a waiting proposal. Raises EditError or CommandRefused."""
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


steering(
    "pause", lambda a: commands.Pause(now=a.now),
    flag("--now", help="end the current runs; they are run again on resume"),
    help="Start nothing new; the current runs are finished and judged. --now ends them, to be run again later.",
    examples=("pause", "pause --now"),
)  # fmt: skip
steering(
    "resume", lambda _: commands.Resume(),
    help="Go on after a pause; in a running session: cancel `stop --after`. A researcher that could not work (its key\n"
    "was revoked) is connected again, with the key that its file now contains.",
    examples=("resume",),
)  # fmt: skip
steering(
    "skip", lambda a: commands.Skip(a.experiment),
    argument("experiment", metavar="EXPERIMENT", nargs="?", type=experiment_number,
             help="default: the longest running"),
    help="End an experiment now, while its proposal is made or while it runs; its verdict is skipped.",
    examples=("skip 12",),
)  # fmt: skip
steering(
    "stop", _stop, flag("--now", help="kill the current runs; they run again when the session resumes"),
    argument("--after", metavar="N", type=count, help="once N more experiments have their verdict"),
    help=f"End the session's engine once its current runs have ended. `{invocation.NAME} run` continues it later.",
    examples=("stop", "stop --after 3", "stop --now"),
)  # fmt: skip
steering(
    "steer", _guidance, argument("text", metavar="TEXT", nargs="*", help="what the researcher should know or do"),
    argument("--edit", metavar="ID", type=count, help="replace the text of queued guidance ID by TEXT"),
    argument("--withdraw", metavar="ID", type=count, help="withdraw guidance ID"),
    flag("--standing", help="applies to every experiment from now on"),
    flag("--now", help="interrupt the proposal that is being made"),
    help="Give the researcher guidance, which it reads before its next proposal. Until an experiment has taken it, it\n"
    "can be edited or withdrawn; --standing guidance stays in force until it is withdrawn.",
    examples=(
        'steer "the loss is batch-limited early: try smaller batches"', 'steer --standing "never touch the tokenizer"',
        'steer --now "-5% is enough"', 'steer --edit 3 "try larger batches"', "steer --withdraw 3",
    ),
)  # fmt: skip
steering(
    "idea", lambda a: commands.Idea(_text(a, "idea", "no warm-up")),
    argument("text", metavar="TEXT", nargs="*", help="what the next researcher should try as its experiment"),
    help="Queue an idea in words: the next researcher tries it as its experiment. One idea goes to one experiment.",
    examples=('idea "replace the learning-rate warm-up by a constant"',),
)  # fmt: skip
steering(
    "propose", _proposal,
    argument("patch", metavar="FILE.patch", help="a unified diff, as git diff writes it; - reads standard input"),
    argument("--hypothesis", metavar="TEXT", required=True, help="one sentence: what changes and why it should help"),
    argument("--kind", metavar="KIND", default="other", help="architecture, optimizer, schedule, … (default: other)"),
    help="Run an experiment of your own unchanged: a patch on the experiment that proposals build on. It is checked,\n"
    "run and judged like every other; one that does not apply or touches read-only files is refused with the place.",
    examples=(
        'propose wider.patch --hypothesis "width 96 pays for its slower steps"',
        f'git diff | {invocation.NAME} propose - --hypothesis "no bias terms"',
    ),
)  # fmt: skip
steering(
    "approve", _approval, _numbered("the experiment that waits for approval"),
    flag("--all", help="this one, all others that wait, and all that follow"),
    argument("--patch", metavar="FILE", help="with these edits instead (a diff against its parent)"),
    help="Run a proposal that waits for approval (approve-mode on, or approve = true in program.md).",
    examples=("approve 12", "approve 12 --all", "approve 12 --patch mine.patch"),
)  # fmt: skip
steering(
    "reject", lambda a: commands.Reject(a.experiment, a.reason), _numbered("the experiment that waits for approval"),
    argument("--reason", metavar="TEXT", default="", help="reported to the researcher"),
    help="Reject a proposal that waits for approval.",
    examples=('reject 12 --reason "too slow"',),
)  # fmt: skip
steering(
    "approve-mode", lambda a: commands.ApproveMode(a.mode == "on"),
    argument("mode", metavar="on|off", choices=["on", "off"], help="whether each proposal waits for approval"),
    help="Let each proposal wait for approval before it runs (on), or run at once (off: also those that wait).",
    examples=("approve-mode on",),
)  # fmt: skip
steering(
    "fork", lambda a: commands.Fork(a.experiment),
    argument("experiment", metavar="N|best", help="what proposals build on from now on",
             type=lambda text: None if text == "best" else experiment_number(text)),
    help="Build on another experiment from now on, kept or not; `best`: on the best again. Proposals are still judged\n"
    "against the best, and the fork moves to each experiment that is clearly better than its base.",
    examples=("fork 12", "fork best"),
)  # fmt: skip
steering(
    "pin", lambda a: commands.Pin(a.experiment, pinned=not a.off), _numbered("the experiment that is never built on"),
    flag("--off", help="remove the pin"),
    help="Never build on an experiment. A pinned experiment cannot be the best: the best of the others is.",
    examples=("pin 12", "pin 12 --off"),
)  # fmt: skip
steering(
    "repeat", lambda a: commands.Repeat(a.experiment), _numbered("its number; 0 is the baseline"),
    help="Run an experiment once more with a fresh seed; its results are pooled, its verdict stays.",
    examples=("repeat 12",),
)  # fmt: skip


KEYS = ("researcher", "model", "script", "hours", "experiments", "usd", "slots")
_BUDGET = ("hours", "experiments", "usd")


@command(
    "set", SESSION, JSON,
    argument("settings", metavar="KEY=VALUE", nargs="+",
             help="researcher, model, script, hours, experiments, usd, slots"), PROJECT,
    help="Change a running session: researcher, model and script from the next experiment on; hours, experiments and\n"
    "usd (the session's budget); slots (a removed slot finishes its run first). Later engines keep the change."
    + _ANSWER,
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
    out.diff(diff)
    if trouble:
        raise CommandRefused(f"this will not take effect: {trouble}")
    out.say("it takes effect when the next experiment begins" if diff else f"{PROGRAM_FILE} is in force unchanged")
    return 0
