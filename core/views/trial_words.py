"""Words of a trial: its progress on one line, and its report as lines with colour roles"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from core.record.budget import format_seconds
from core.text import clean, one_line

_SIGNS = {True: ("finished", "good"), False: ("crashed", "bad"), None: ("provisional", "warn")}
EXPECTED = "a session can be expected to reach a verdict"


class TrialLine(NamedTuple):
    """One line of a report. `sign`: a word of `core.views.signs`, or ""; `name`: what a finding is about."""

    role: str
    text: str
    sign: str = ""
    name: str = ""


def trial_progress(progress: Mapping[str, Any]) -> str:
    """`running 4.2s of 20s: iter 50: loss 2.1`."""
    phase, seconds, budget = str(progress["phase"]), progress["seconds"], progress["budget"]
    words = phase
    if seconds is not None:
        words += f" {format_seconds(float(seconds))}"
        words += f" of {format_seconds(float(budget))}" if budget else ""
    line = one_line(str(progress["line"]), 200)
    return f"{words}: {line}" if line else words


def trial_lines(report: Mapping[str, Any]) -> list[TrialLine]:
    """The report from what was tried to what to type; without the verdict, which is `trial_verdict`."""
    lines: list[TrialLine] = []
    if report["started"]:
        commit, command = str(report["commit"])[:10], one_line(str(report["command"]))
        lines.append(TrialLine("bold", f"{command}   (HEAD {commit}, sandbox tier {report['sandbox']})"))
        lines += [TrialLine("dim", f"  {clean(line).rstrip()}") for line in report["output"]]
        if not report["output"]:
            lines.append(TrialLine("dim", "  it printed nothing"))
    for finding in report["findings"]:
        sign, role = _SIGNS[finding["ok"]]
        first, *more = clean(str(finding["detail"])).splitlines() or [""]
        lines.append(TrialLine(role, first, sign, str(finding["name"])))
        lines += [TrialLine("text", line, name=" ") for line in more]
        if finding["hint"] and finding["ok"] is not True:
            lines.append(TrialLine("warn", f"hint: {one_line(str(finding['hint']))}", name=" "))
    return lines


def trial_verdict(report: Mapping[str, Any]) -> str:
    """One sentence: whether a session would work."""
    if report["ok"]:
        return EXPECTED
    bad = _failed(report["findings"])
    if not bad:
        return "nothing speaks against a session so far, but no number was seen"
    return f"a session would reach no verdict: {', '.join(bad)}"


def _failed(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(finding["name"]) for finding in findings if finding["ok"] is False]
