"""The check of a device for the terminal: its progress, each step's findings as it ends, and the verdict"""

from __future__ import annotations

import asyncio
import contextlib
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.record.budget import format_seconds
from core.session.options import EngineOptions
from core.text import one_line
from tui.cli.output import Output

TITLES = {
    "machine": "the machine", "sandbox": "a start of CUDA in each sandbox tier", "run": "a shortened run",
}  # fmt: skip


def check_device(project: Path, arguments: Namespace, out: Output) -> int:
    """Check the device, and show it. Exit code 1 when something essential does not work."""
    report = asyncio.run(_report(project, arguments, _Progress(out, quiet=arguments.json)))
    if arguments.json:
        out.json(report)
    else:
        _verdict(report, out)
    return 0 if report["ok"] else 1


async def _report(project: Path, arguments: Namespace, shown: _Progress) -> dict[str, Any]:
    from core.client.trial_client import follow_device_check

    options = EngineOptions(slots=arguments.slots, overrides=tuple(arguments.overrides))
    report: dict[str, Any] = {}
    messages = follow_device_check(project, options, seconds=arguments.seconds)
    async with contextlib.aclosing(messages):
        try:
            async for message in messages:
                if "progress" in message:
                    shown.progress(message["progress"])
                elif "step" in message:
                    shown.step(message["step"])
                else:
                    report = message["report"]
        finally:
            shown.clear()
    return report


class _Progress:
    """One line that is written again on a terminal, else a line for each change; the findings of a finished step."""

    def __init__(self, out: Output, *, quiet: bool) -> None:
        self._out, self._quiet, self._said = out, quiet, ""

    def progress(self, progress: Mapping[str, Any]) -> None:
        out, words = self._out, one_line(str(progress["words"]), 200)
        if self._quiet or not progress["step"]:
            return
        title = f"{progress['number']}/{progress['of']} {TITLES[progress['step']]}"
        if out.tty:
            line = f"{title} {format_seconds(float(progress['seconds']))}{f': {words}' if words else ''}"
            out.write(f"\r\x1b[K{out.paint(line[: out.width - 1], 'dim')}")
            out.flush()
            return
        words = words.partition(": ")[0]
        if (line := f"{title}{f': {words}' if words else ''}") != self._said:
            self._said = line
            out.say(line)

    def step(self, step: Mapping[str, Any]) -> None:
        if self._quiet:
            return
        self.clear()
        out = self._out
        out.line(out.paint(f"{TITLES[step['step']]} ({format_seconds(float(step['seconds']))})", "bold"))
        for finding in step["findings"]:
            show_finding(finding, out)
        out.flush()

    def clear(self) -> None:
        if self._out.tty and not self._quiet:
            self._out.write("\r\x1b[K")


def show_finding(finding: Mapping[str, Any], out: Output) -> None:
    """A finding with its sign, and its hint where it is not in order."""
    word = {True: "finished", False: "crashed", None: "provisional"}[finding["ok"]]
    role = {True: "good", False: "bad", None: "warn"}[finding["ok"]]
    name, detail = str(finding["name"]).ljust(18), str(finding["detail"]).replace("\n", "\n" + " " * 23)
    out.line(f"  {out.paint(out.sign(word), role)} {out.paint(name, 'bold')}  {out.paint(detail, 'text')}")
    if finding["hint"] and finding["ok"] is not True:
        out.line(f"    {' ' * 18}  {out.paint('hint: ' + str(finding['hint']), 'warn')}")


def _verdict(report: Mapping[str, Any], out: Output) -> None:
    bad = [f["name"] for step in report["steps"] for f in step["findings"] if f["ok"] is False]
    out.line()
    out.line("device check: all works" if not bad else f"device check: not ready: {', '.join(dict.fromkeys(bad))}")
    if report["file"]:
        out.line(f"  kept in {out.paint(str(report['file']), 'text')}")
