"""Draft of a program.md from a survey: its text, and why each line is as it is"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from core.program.printed_numbers import PrintedNumber
from core.program.survey import Launch, Survey
from core.text import toml_text

SEED = "$AUTORESEARCH_SEED"
MAX_OFFERED = 4  # other metrics, as comments


@dataclass(frozen=True, slots=True)
class DraftLine:
    """One setting of the draft: its key, its value as TOML, and the reason."""

    key: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Draft:
    text: str
    lines: tuple[DraftLine, ...]
    notes: tuple[str, ...]  # what a person should look at


def draft(found: Survey, template: str, prose: str = "", metric: int = 0) -> Draft:
    """The program.md for a survey, with its metric number `metric`. `prose`: what stands below the front matter."""
    launch = found.launches[0] if found.launches else Launch("python train.py", ("train.py",), "a guess", "train.py")
    notes = list(found.notes)
    if not found.launches:
        notes.insert(0, "no script, package.json, Cargo.toml or Makefile says how it runs: set `edit` and `run`")
    elif not launch.edit:
        notes.insert(0, "no file to edit was found: set `edit`")
    run = launch.run + (f" {found.seed} {SEED}" if found.seed else "")
    if found.seed_why and not found.seed:
        notes.append(found.seed_why)
    number = found.metrics[min(metric, len(found.metrics) - 1)] if found.metrics else None
    if number is not None:
        name, direction, pattern = number.name, number.direction, number.pattern
        why = f"{number.path}:{number.line} prints it: {number.code}"
        if number.before:
            notes.append(f"the value of `{number.before}` stands in front of this number: where several are printed, "
                         "put the one that counts in front of the pattern")  # fmt: skip
    elif launch.seconds:
        name, direction, pattern = "seconds", "min", r"^real\s+([\d.]+)"
        why = "no printed number was found: the run's duration is measured"
        build, _, last = run.rpartition(" && ")
        run = f"{build} && " * bool(build) + f"bash -c {shlex.quote('time -p ' + last)}"
    else:
        name, direction, pattern = "val_loss", "min", r"^val_loss:\s*(\S+)"
        why = "no printed number was found: an example"
        notes.append("no printed number was found: set the metric's name, direction and pattern")
    edit = json.dumps(list(launch.edit) or ["train.py"], ensure_ascii=False)
    lines = [
        DraftLine("edit", edit, launch.why),
        DraftLine("run", toml_text(run), launch.why + (f"; {found.seed_why}" if found.seed else "")),
    ]
    if found.inputs:
        shown = json.dumps(list(found.inputs), ensure_ascii=False)
        lines.insert(1, DraftLine("inputs", shown, "; ".join(dict.fromkeys(found.inputs.values()))))
    lines += [
        DraftLine("metric.name", toml_text(name), why),
        DraftLine("metric.direction", toml_text(direction), "by its name"),
        DraftLine("metric.pattern", toml_text(pattern, pattern=True), why),
    ]
    seconds, where = found.seconds
    if seconds:
        reason = f"{where}: the code trains for {seconds:g} s by itself, and the budget is a limit"
        lines.append(DraftLine("budget.run", f'"{max(2, round(seconds * 1.6 / 60))}m"', reason))
    if found.endless and not seconds and number is not None:
        reason = f"{found.endless}: it trains until it is stopped, so the last number printed in that time counts"
        lines.append(DraftLine("budget.at_limit", '"score"', reason))
    text = _filled(template, lines, launch)
    text = _offered(text, [other for other in found.metrics if other is not number])
    if prose:
        text = text[: text.index("+++\n", 4)] + "+++\n\n" + prose.lstrip("\n")
    return Draft(text, tuple(lines), tuple(notes))


def _filled(template: str, lines: list[DraftLine], launch: Launch) -> str:
    """The template with the values of `lines`, in their places; comments keep theirs."""
    text = template
    for line in lines:
        table, _, key = line.key.rpartition(".")
        start = text.index(f"[{table}]") if table else 0
        place = re.compile(rf"^#? ?{key} = (?:\[[^\]]*\]|\"[^\"]*\"|'[^']*')[ ]*", re.MULTILINE)
        filled = f"{key} = {line.value}"
        text = text[:start] + place.sub(lambda _, filled=filled: filled.ljust(31) + " ", text[start:], count=1)  # type: ignore[misc]
    text = re.sub(r"[ ]+$", "", text, flags=re.MULTILINE)
    return text.replace("@CODE@", launch.script or "train.py")


def _offered(text: str, others: Sequence[PrintedNumber]) -> str:
    """`text` with the other numbers that the project prints, as comments below the pattern."""
    if not others:
        return text
    said = ["# Other numbers that the code prints:"]
    said += [
        f"#   name = {toml_text(n.name)}, direction = {toml_text(n.direction)}, "
        f"pattern = {toml_text(n.pattern, pattern=True)}  # {n.path}:{n.line}"
        for n in others[:MAX_OFFERED]
    ]
    return re.sub(r"^(pattern = .*)$", lambda m: "\n".join([m[1].rstrip(), *said]), text, count=1, flags=re.MULTILINE)
