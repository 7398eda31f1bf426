"""The command `try`: one run of a program.md without a session, and what a session would make of it"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core import invocation, views
from core.session.options import EngineOptions
from tui.cli.command import JSON, PROJECT_FOLDER, argument, command, flag, positive_number
from tui.cli.output import Output
from tui.cli.session_names import project_of

NAME_WIDTH = 9


@command(
    "try", PROJECT_FOLDER, JSON,
    argument("--seconds", metavar="N", type=positive_number, help="only the first N seconds of the run"),
    flag("--full", help="also a second run with another seed, however long the first took"),
    argument("--slots", metavar="cpu:2|gpu:0,1", help="as in `run`: the run gets the first of them"),
    argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
             help="override a key of program.md"),
    help="Try a program.md: one run of HEAD as a session's baseline, in the same sandbox and with the same limits,\n"
    "but without a session. Shows what it printed, what the pattern (or the scorer) makes of it, whether the seed has\n"
    "an effect, files written, time, threads and memory; then what would go wrong in a session, and what to write.\n"
    "A short run is repeated with another seed. Nothing stays in the repository.",
    examples=("try", "try ~/my-model --seconds 20", "try --set 'run=python train.py --steps 50'"),
    note="Exits 0 when a session can be expected to reach a verdict, else 1.",
)  # fmt: skip
def try_run(arguments: Namespace, out: Output) -> int:
    project = project_of(arguments)
    options = EngineOptions(slots=arguments.slots, overrides=tuple(arguments.overrides))
    with _progress(out, quiet=arguments.json) as tell:
        report = asyncio.run(_report(project, options, arguments, tell))
    if arguments.json:
        out.json(report)
        return 0 if report["ok"] else 1
    _show(report, out)
    if report.get("at_limit"):
        _offer_at_limit(project, out)
    return 0 if report["ok"] else 1


def offer_trial(project: Path, out: Output) -> None:
    """Ask on a terminal whether to try the program.md that was written just now."""
    if out.agreed("try one run of it now?"):
        try_run(Namespace(directory=str(project), json=False, seconds=None, full=False, slots=None, overrides=[]), out)


async def _report(project: Path, options: EngineOptions, arguments: Namespace, tell: Any) -> dict[str, Any]:
    from core.client.trial_client import follow_trial

    report: dict[str, Any] = {}
    trial = follow_trial(project, options, seconds=arguments.seconds, full=arguments.full)
    async with contextlib.aclosing(trial):
        async for message in trial:
            if "progress" in message:
                tell(message["progress"])
            else:
                report = message["report"]
    return report


@contextlib.contextmanager
def _progress(out: Output, *, quiet: bool) -> Iterator[Any]:
    """What shows the progress: one line that is written again on a terminal, else a line for each phase."""
    shown = ""

    def tell(progress: dict[str, Any]) -> None:
        nonlocal shown
        words = views.trial_progress(progress)
        if out.tty:
            words = out.paint(words[: out.width - 1], "dim")
            out.write(f"\r\x1b[K{words}")
            out.flush()
        elif progress["phase"] != shown:
            out.say(views.trial_progress({**progress, "seconds": None, "line": ""}))
        shown = progress["phase"]

    def silent(progress: dict[str, Any]) -> None:
        pass

    try:
        yield silent if quiet else tell
    finally:
        if out.tty and not quiet and shown:
            out.write("\r\x1b[K")


def _show(report: dict[str, Any], out: Output) -> None:
    in_findings = False
    for line in views.trial_lines(report):
        if line.name and not in_findings:
            in_findings = True
            out.line()
        if not line.name:
            out.line(out.paint(line.text, line.role))
            continue
        sign = out.paint(out.sign(line.sign), line.role) if line.sign else " "
        role = "text" if line.sign else line.role
        out.line(f"  {sign} {out.paint(line.name.ljust(NAME_WIDTH), 'bold')} {out.paint(line.text, role)}")
    out.line()
    out.line(views.trial_verdict(report))
    if report["ok"]:
        out.line(f"  start one with: {invocation.call('run', project=Path(report['project']))}")


def _offer_at_limit(project: Path, out: Output) -> None:
    """Ask on a terminal whether to write the line that makes the last number count."""
    if not (out.tty and sys.stdin.isatty() and out.agreed('write at_limit = "score" into program.md?')):
        return
    from core.program.toml_edit import write_key

    write_key(project / "program.md", "budget", "at_limit", '"score"')
    out.line(f"wrote it; now {invocation.call('try', project=project)} takes the last number printed")
