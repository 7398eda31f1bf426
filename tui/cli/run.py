"""The commands `run` and `attach`, and the program without a command"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path

from core import invocation, views
from core.record.errors import NoSuchSession, SessionBusy, UncommittedChanges, UsageError
from core.record.state import State
from core.session.lock import engine_alive, lock_holder, running_session
from core.session.options import EngineOptions
from core.session.paths import SessionPaths, check_name
from tui.cli.command import NAME, PROJECT, PROJECT_FOLDER, argument, command, count, flag, positive_number, whole_number
from tui.cli.output import Output, need_terminal
from tui.cli.session_names import project_of, session_of


def open_app(arguments: argparse.Namespace, out: Output) -> int:
    """Attach to the running session, else open the launch screen."""
    project = project_of(arguments)
    watch, start = (invocation.call(*words, project=project) for words in (["status"], ["run", "--headless"]))
    need_terminal("the app", f"watch without a screen with: {watch}; or start with: {start}")
    return _app(project, running_session(project), out)


@command(
    "attach", NAME, PROJECT,
    help="Open the app on a session, running or not. Without an engine it shows the session as recorded in its log.",
    examples=("attach", "attach nov23"),
)  # fmt: skip
def attach(arguments: argparse.Namespace, out: Output) -> int:
    paths = session_of(arguments)
    read = invocation.call("status", paths.name, project=paths.project)
    follow = invocation.call("events", "--follow", paths.name, project=paths.project)
    need_terminal("the app", f"read it without a screen with: {read}; or follow with: {follow}")
    return _app(paths.project, paths, out)


def _app(project: Path, paths: SessionPaths | None, out: Output) -> int:
    from tui.app import run_app

    return run_app(project, paths, out)


def _run_budget(text: str) -> str:
    from core.record.budget import parse_run_budget

    try:
        return str(parse_run_budget(text)) and text
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


@command(
    "run", PROJECT_FOLDER,
    flag("--headless", help="no screen: wait for the end, a line for each event"),
    flag("--json", help="with --headless: one JSON event a line"),
    argument("--session", metavar="NAME",
             help="name of the session; an existing one is continued (default: today's date)"),
    argument("--researcher", metavar="NAME",
             help="claude, openai, command, human, control, scripted (default: by key)"),
    argument("--model", metavar="ID", help="the researcher's model; for command: claude, codex … or a command line"),
    argument("--script", metavar="FILE.jsonl", help="proposals for --researcher scripted, one JSON object a line"),
    argument("--experiments", metavar="N", type=count, help="stop after N experiments"),
    argument("--hours", metavar="H", type=positive_number, help="stop after H hours"),
    argument("--usd", metavar="X", type=positive_number, help="stop after X dollars"),
    argument("--run-budget", metavar="20s|400steps", type=_run_budget, help="time budget of one run"),
    argument("--slots", metavar="cpu:2|gpu:0,1",
             help="where runs go (default: one for each GPU, else two CPU shares; one for a time or a speed)"),
    argument("--seed", metavar="N", type=whole_number, help="the session's random seed"),
    argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
             help="override a key of program.md"),
    flag("--from-head", help="run from HEAD although editable files have uncommitted changes"),
    help="Start a session's engine in the background, and watch it. The engine outlives this terminal: detach with q\n"
    f"(or ctrl-c when headless) and come back with `{invocation.NAME}`. An existing --session is continued; without\n"
    "--session a stopped newest session is continued, otherwise a new one begins.",
    examples=(
        "run", "run --headless --experiments 5 --run-budget 20s",
        "run ~/my-model --researcher claude --hours 8 --usd 10",
        "run --set decide.keep=3 --set 'sandbox.memory_gb=4'",
    ),
    note="--headless exits 0 when the session finished or was stopped, 1 when it crashed.",
)  # fmt: skip
def run(arguments: argparse.Namespace, out: Output) -> int:
    if arguments.json and not arguments.headless:
        hint = f"add --headless, or use: {invocation.call('events', '--json')}"
        raise UsageError("--json goes with --headless", hint=hint)
    project = project_of(arguments)
    options = _options(arguments)
    if not arguments.headless:
        need_terminal("the app", "add --headless to run without a screen")
    paths = _choose(project, arguments.session, out)
    since = _last_seq(paths)
    _start(paths, options, out)
    if not arguments.headless:
        return _app(project, paths, out)
    return _headless(paths, since, arguments.json, out)


def _options(arguments: argparse.Namespace) -> EngineOptions:
    script = None
    if arguments.script is not None:
        path = Path(arguments.script).expanduser().absolute()
        if not path.is_file():
            raise UsageError("there is no such file", where=str(path), hint="--script takes a file of JSON lines")
        script = str(path)
    if arguments.researcher == "scripted" and script is None:
        raise UsageError("the scripted researcher needs a script", hint="add --script FILE.jsonl")
    given = {field.name: getattr(arguments, field.name) for field in fields(EngineOptions) if field.name in arguments}
    return EngineOptions(**{**given, "script": script, "overrides": tuple(arguments.overrides)})


def _choose(project: Path, name: str | None, out: Output) -> SessionPaths:
    """The session to start: the named one, else an unfinished newest, else a new one. Raises SessionBusy."""
    if name is not None:
        check_name(name)
        paths = SessionPaths(project, name)
    else:
        from tui.launch_form import fresh_name  # with asyncio, which nothing else here needs

        running = running_session(project)
        paths = running or _unfinished(project) or SessionPaths(project, fresh_name(project))
        if running is None and paths.database.exists():
            out.say(f"continuing session {paths.name} (for another one add --session NAME)")
    if engine_alive(paths):
        pid = lock_holder(paths)
        attach = invocation.call("attach", paths.name, project=project)
        hint = f"attach to it with: {attach}; or start another one with --session NAME"
        raise SessionBusy(f"session {paths.name!r} runs already, in the engine with pid {pid}", pid=pid, hint=hint)
    return paths


def _unfinished(project: Path) -> SessionPaths | None:
    """The newest session, when it was stopped or its engine died; not when it is finished or crashed."""
    from core.session.choice import newest_session, read_head

    newest = newest_session(project)
    state = read_head(newest) if newest else None
    return newest if state is not None and state.state not in ("finished", "crashed") else None


def _last_seq(paths: SessionPaths) -> int:
    from core.client import read_state
    from core.session.log import is_blank

    return read_state(paths).seq if paths.database.exists() and not is_blank(paths.database) else 0


def _start(paths: SessionPaths, options: EngineOptions, out: Output) -> None:
    """Start the engine. Uncommitted changes are a question on a terminal, else an error with a hint."""
    from core.client import start_engine

    try:
        start_engine(paths, options)
    except UncommittedChanges as error:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        out.say(str(error))
        out.say("[r] run from HEAD, without them   [s] stop, to commit them first")
        if not _wants_head():
            raise
        start_engine(paths, replace(options, from_head=True))


def _wants_head() -> bool:
    while True:
        sys.stderr.write("r or s? ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if not answer or answer.strip().lower() in ("s", "stop", "n", "q"):
            return False
        if answer.strip().lower() in ("r", "run"):
            return True


def _headless(paths: SessionPaths, since: int, as_json: bool, out: Output) -> int:
    """A line for each event until the engine has ended. 0: finished or stopped; 1: crashed; 130: ctrl-c."""
    from core.client import follow, read_state
    from tui.cli.follow import disk_reporter
    from tui.cli.look import print_event

    def report(trouble: str) -> None:
        out.say(f"{trouble}; it continues when there is space" if trouble else "there is space on the disk again")

    name, metric = paths.name, None
    try:
        for event in follow(paths, since, idle=disk_reporter(paths, report)):
            metric = metric or read_state(paths).metric
            print_event(event, metric, as_json, out)
    except (KeyboardInterrupt, OSError) as end:
        if engine_alive(paths) and not isinstance(end, BrokenPipeError):
            out.say(
                "\nthe engine continues in the background\n"
                f"  attach with: {invocation.call('attach', name, project=paths.project)}\n"
                f"  end it with: {invocation.call('stop', '--session', name, project=paths.project)}"
            )
        if isinstance(end, OSError):
            raise
        return 130
    state = read_state(paths)
    if state.session is None:
        raise NoSuchSession(f"session {name!r} ended before its first event", hint=f"read {paths.engine_log}")
    return _verdict(paths, state, out)


def _verdict(paths: SessionPaths, state: State, out: Output) -> int:
    again = f"continue with: {invocation.call('run', '--session', paths.name, project=paths.project)}"
    if state.state == "crashed":
        reason = views.without_hint(state.reason)[0] or "no reason was given"
        step = views.next_step(state, paths.project, paths.name)
        out.error(f"session {paths.name} crashed: {reason}\n  hint: {step}")
        return 1
    if state.state not in ("finished", "stopped") or state.engine_open:
        what = f"the engine of session {paths.name} ended without a report; read {paths.engine_log}"
        out.error(f"{what}\n  hint: {again}")
        return 1
    return 0
