"""Data of the launch screen: readiness of this machine, the form's values, and the engine options from them"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.program.program import Program, load
from core.record.budget import parse_run_budget
from core.record.errors import AutoresearchError, UsageError
from core.session.git_files import git_folders, packed_refs
from core.session.options import EngineOptions
from core.session.paths import check_name, list_sessions
from core.views import clean

DOCTOR_SECONDS = 60.0
MAX_LIMIT = 1e9  # of experiments, hours or dollars
KILL_SECONDS = 2.0  # a killed doctor's own children may hold its pipes a little longer


@dataclass(frozen=True, slots=True)
class ReadinessFinding:
    """One check of the doctor. `ok` None: a remark."""

    name: str
    ok: bool | None
    detail: str
    hint: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """The doctor's report. `researchers` are (name, ready, note)."""

    findings: tuple[ReadinessFinding, ...] = ()
    slots: tuple[str, ...] = ()
    researchers: tuple[tuple[str, bool, str], ...] = ()
    default: str = ""
    sandbox: str = ""
    device: str = ""
    error: str = ""

    @property
    def kind(self) -> str:
        """`cuda` or `cpu`: that of the first slot."""
        return "cuda" if self.slots and self.slots[0].startswith("gpu") else "cpu"


async def examine(project: Path) -> Readiness:
    """Run the doctor in a process of its own, so that the app loads neither torch nor an SDK."""
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "core.engine", "doctor", "--json", "--quick", str(project),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        return Readiness(error=f"the doctor could not be started ({error.strerror})")
    try:
        out, err = await asyncio.wait_for(process.communicate(), DOCTOR_SECONDS)
        return readiness(json.loads(out))
    except TimeoutError:
        return Readiness(error=f"the doctor gave no answer in {DOCTOR_SECONDS:g} s")
    except (ValueError, KeyError, TypeError):
        words = clean(err.decode(errors="replace")).strip().rpartition("\n")[2]
        return Readiness(error=f"the doctor failed: {words or 'no message'}")
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the process and wait until its pipes are closed: a loop that closes before them prints warnings."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.communicate(), KILL_SECONDS)
    await asyncio.sleep(0)  # asyncio closes its transport one iteration later


def readiness(report: Mapping[str, Any]) -> Readiness:
    """Readiness from the doctor's JSON. Raises KeyError or TypeError when it has another form."""
    found = report["findings"]
    return Readiness(
        tuple(ReadinessFinding(str(f["name"]), f["ok"], str(f["detail"]), str(f.get("hint", ""))) for f in found),
        tuple(str(s) for s in report["slots"]),
        tuple((str(r["name"]), bool(r["ready"]), str(r["note"])) for r in report["researchers"]),
        str(report.get("default_researcher") or ""),
        str(report["sandbox"]["tier"]),
        str(report["device"]),
    )


def read_program(project: Path) -> Program | str:
    """The program of program.md, or the error."""
    try:
        return load(project / "program.md")
    except AutoresearchError as error:
        return str(error)


@dataclass(slots=True)
class Form:
    """The fields as text. Empty: as program.md says."""

    session: str
    researcher: str = ""
    model: str = ""
    script: str = ""
    slots: str = ""
    run_budget: str = ""
    experiments: str = ""
    hours: str = ""
    usd: str = ""

    def options(self, from_head: bool = False) -> EngineOptions:
        """Raises UsageError that names the field and the hint."""
        check_name(self.session.strip())
        if budget := self.run_budget.strip():
            try:
                parse_run_budget(budget)
            except ValueError as error:
                raise UsageError(str(error), where="time budget") from error
        experiments = number("experiments", self.experiments)
        script = self.script.strip()
        if self.researcher == "scripted":
            if not Path(script).expanduser().is_file():
                raise UsageError(f"there is no file {script!r}", where="script", hint="name a file of JSON lines")
            script = str(Path(script).expanduser().absolute())
        return EngineOptions(
            researcher=self.researcher or None,
            model=self.model.strip() or None,
            script=script if self.researcher == "scripted" else None,
            slots=self.slots.strip().replace(" ", "") or None,
            experiments=None if experiments is None else int(experiments),
            hours=number("hours", self.hours),
            usd=number("dollars", self.usd),
            run_budget=budget or None,
            from_head=from_head,
        )


def number(name: str, text: str) -> float | None:
    """A number above zero, None for an empty text. Raises UsageError that names the field."""
    text = text.strip().lstrip("$")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < MAX_LIMIT:
        raise UsageError(f"{text!r} is not a number above zero", where=name, hint="leave the field empty for no limit")
    return value


def fresh_name(project: Path, now: float | None = None) -> str:
    """A name for a new session: today's date, such as nov23, with a number when that is taken."""
    base = time.strftime("%b%d", time.localtime(now)).lower()
    taken = {paths.name for paths in list_sessions(project)} | _branches(project)
    number = 1
    while (name := base if number == 1 else f"{base}-{number}") in taken or (project / "sessions" / name).exists():
        number += 1
    return name


def _branches(project: Path) -> set[str]:
    """Session names of branches that exist, though their folders may be gone."""
    prefix = "refs/heads/autoresearch/"
    with contextlib.suppress(OSError):
        if folders := git_folders(project):
            own = {path.name for path in (folders[1] / prefix).glob("*")}
            return own | {ref.removeprefix(prefix) for ref in packed_refs(folders[1]) if ref.startswith(prefix)}
    return set()
