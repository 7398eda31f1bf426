"""Check of a device, in three steps: the machine, CUDA in each sandbox tier, a shortened run of the project"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core import invocation
from core.engine.device_check import cuda_tiers, machine_facts
from core.engine.device_check.card_facts import CardFacts, facts_of
from core.engine.device_check.measured_run import measure
from core.engine.device_check.run_python import RunPython, python_words, run_python
from core.engine.finding import Finding, failed
from core.engine.startup.setup import product_version
from core.engine.trial.forecast import without_place
from core.engine.trial.trial import Say, TrialRequest
from core.lab import device, environment
from core.lab.gpu import cards, torch_build
from core.lab.gpu.card_locks import holder_of
from core.lab.gpu.torch_build import FoundTorch
from core.lab.sandbox import tiers
from core.program.program import Program, load
from core.record.errors import AutoresearchError, CardsTaken
from core.session.device_record import last_device_check, note_device_check
from core.session.lock import running_session
from core.session.options import EngineOptions, overrides_of

STEPS = ("machine", "sandbox", "run")
PROGRESS_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """What to check: the first free one of the slots of `options`. `seconds`: of training, in place of 30."""

    project: Path
    options: EngineOptions
    seconds: float | None = None


@dataclass(slots=True)
class StepTeller:
    """Tells a client the present step, how long it has taken, and each finished step with its findings."""

    say: Say
    steps: tuple[str, ...] = STEPS
    step: str = ""
    words: str = ""
    begun: float = field(default_factory=time.monotonic)
    done: list[dict[str, Any]] = field(default_factory=list)

    def now(self, words: str) -> None:
        self.words = words
        self.tell()

    def tell(self) -> None:
        seconds = round(time.monotonic() - self.begun, 1)
        number = self.steps.index(self.step) + 1 if self.step else 0
        self.say({"progress": {
            "step": self.step, "number": number, "of": len(self.steps), "seconds": seconds, "words": self.words,
        }})  # fmt: skip

    async def keep_telling(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            self.tell()

    @contextlib.contextmanager
    def during(self, step: str) -> Iterator[list[Finding]]:
        """One step: its findings go into the list, and are told at its end."""
        self.step, self.words, self.begun = step, "", time.monotonic()
        findings: list[Finding] = []
        self.tell()
        yield findings
        seconds = round(time.monotonic() - self.begun, 1)
        self.done.append({"step": step, "seconds": seconds, "findings": [asdict(found) for found in findings]})
        self.say({"step": self.done[-1]})


async def check_device(request: CheckRequest, say: Say) -> dict[str, Any]:
    """Check the device, tell each step, keep the report. Nothing else remains, also after a cancellation."""
    teller = StepTeller(say)
    telling = asyncio.create_task(teller.keep_telling())
    report: dict[str, Any] = {
        "project": str(request.project),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": product_version(),
        "machine": platform.node(),
        "device": device.Devices().describe(),
        "driver": device.driver(),
        "slot": None,
        "card": None,
        "python": None,
        "torch": None,
        "cuda_start": [],
        "run": None,
    }  # fmt: skip
    try:
        await _steps(request, teller, report)
    finally:
        telling.cancel()
    found = [finding for step in teller.done for finding in step["findings"]]
    report |= {"steps": teller.done, "ok": all(finding["ok"] is not False for finding in found)}
    report["file"] = note_device_check(_identity(report), report) if report["slot"] else ""
    return report


def _identity(report: Mapping[str, Any]) -> str:
    return str(report["card"]["identity"] if report["card"] else "cpu")


async def _steps(request: CheckRequest, teller: StepTeller, report: dict[str, Any]) -> None:
    found: list[Finding] = []
    slot, card = _slot(request, found)
    if card is None:
        teller.steps = ("machine", "run")
    with teller.during("machine") as findings:
        findings += found
        if slot is None:
            return
        report |= {"slot": slot, "card": {**asdict(card), "identity": card.identity} if card else None}
        program, python, torch = await _machine(request, slot, card, teller, findings)
        report["python"] = asdict(python) if isinstance(python, RunPython) else None
        report["torch"] = asdict(torch) if torch else None
    starts: list[Finding] = []
    if card is not None:
        with teller.during("sandbox") as findings:
            report["cuda_start"], starts = await asyncio.to_thread(cuda_tiers.start_everywhere, slot, teller.now)
            findings += starts
    if program is None:
        return
    with teller.during("run") as findings:
        if any(finding.ok is False for finding in starts):
            findings.append(Finding("run", None, "not tried: CUDA does not start here, as told above"))
        else:
            report["run"] = await _run(request, program, slot, card, teller, findings)


def _slot(request: CheckRequest, findings: list[Finding]) -> tuple[str | None, CardFacts | None]:
    """The slot to check, and its card; without one when a card was meant and there is none."""
    asked = request.options.slots
    try:
        if (asked or "gpu").lower().startswith("gpu") and not cards.allowed().slots:
            findings.append(machine_facts.no_card(request.project))
            return None, None
        slots = device.parse_slots(asked) if asked else cards.allowed().slots
    except AutoresearchError as error:
        findings.append(failed("slots", error))
        return None, None
    free = next((slot for slot in slots if not holder_of(slot)), slots[0])
    return free, facts_of(free)


async def _machine(
    request: CheckRequest, slot: str, card: CardFacts | None, teller: StepTeller, findings: list[Finding]
) -> tuple[Program | None, RunPython | str, FoundTorch | None]:
    """The first step: facts that need no run."""
    if card is not None:
        findings.append(machine_facts.driver_finding(card))
        findings += [Finding("driver", None, words) for words in cards.allowed().left_out]
    program: Program | None = None
    torch: FoundTorch | None = None
    python: RunPython | str = "there is no program.md that names a training command"
    env = {**environment.run_environment(request.project), **device.slot_environment(slot)}
    try:
        program = load(request.project / "program.md", overrides_of(request.options))
        first, *rest = environment.resolve_command(program.run, env, request.project)
        words = python_words([str(request.project / first), *rest])  # it is asked in another folder
        python = await run_python(words, env) if words else "the training command does not name its Python"
        if isinstance(python, RunPython):
            teller.now("importing torch with the Python of the training command")
            torch = await asyncio.to_thread(torch_build.torch_of, python.executable, env)
    except AutoresearchError as error:
        findings.append(failed("program.md", error))
        program = None
    teller.now("compiler, memory, folders")
    again = invocation.call("doctor", "--device", project=request.project)
    tier = (await asyncio.to_thread(tiers.probe, cuda=card is not None)).tier
    findings.append(machine_facts.torch_finding(torch, python, card, again))
    findings.append(machine_facts.compiler_finding(python, env, cuda=torch is not None and bool(torch.cuda)))
    findings += machine_facts.memory_findings(card, tier) + machine_facts.folder_findings(request.project)
    return program, python, torch


async def _run(
    request: CheckRequest, program: Program, slot: str, card: CardFacts | None, teller: StepTeller,
    findings: list[Finding],
) -> Mapping[str, Any] | None:  # fmt: skip
    """The third step."""
    if running := running_session(request.project):
        hint = f"{invocation.call('stop', '--session', running.name, project=request.project)}, then check again"
        said = f"not tried: session {running.name} runs here, and would be disturbed"
        findings.append(Finding("run", None, said, hint))
        return None
    asked = TrialRequest(project=request.project, options=request.options, seconds=request.seconds)

    def tell(message: Mapping[str, Any]) -> None:
        progress = message["progress"]
        line = f": {progress['line']}" if progress["line"] else ""
        teller.words = f"{progress['phase']}{line}"

    try:
        run = await measure(asked, program, slot, card, tell)
    except CardsTaken as error:
        findings.append(Finding("run", None, f"not tried: {error.what}", error.hint))
        return None
    except AutoresearchError as error:
        start = failed("start", error)
        findings.append(Finding(start.name, False, without_place(start.detail).partition("\n")[0], start.hint))
        return None
    findings += run.findings
    return run.report


def device_check_finding(project: Path, slots: tuple[str, ...]) -> list[Finding]:
    """When the cards of these slots were last checked here and what that found; nothing for CPU slots."""
    own = tuple(card.identity for slot in slots if (card := facts_of(slot)) is not None)
    if not own:
        return []
    hint = invocation.call("doctor", "--device", project=project)
    last = last_device_check(own)
    if last is None:
        return [Finding("device check", None, "never run here", hint)]
    when = f"{str(last.get('date', ''))[:10]}, version {last.get('version', '?')}, on {last['card']['name']}"
    if (driver := device.driver()) != last.get("driver"):
        return [Finding("device check", None, f"{when}: with another driver, {last.get('driver')}", hint)]
    found = [finding for step in last.get("steps", []) for finding in step["findings"]]
    bad = [str(finding["name"]) for finding in found if finding["ok"] is False]
    if bad:
        return [Finding("device check", None, f"{when}: not ready: {', '.join(dict.fromkeys(bad))}", hint)]
    remarks = sum(finding["ok"] is None for finding in found)
    said = f"{when}: all well" + (f", {remarks} remark{'s' * (remarks > 1)}" if remarks else "")
    return [Finding("device check", True, said + (f"; driver {driver}" if driver else ""))]
