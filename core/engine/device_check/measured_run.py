"""Third step of a device check: a shortened run of the project, and what its phases and numbers say of a session"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from core import invocation
from core.engine.device_check.card_facts import CardFacts, used_memory
from core.engine.finding import Finding
from core.engine.startup.setup import Start
from core.engine.trial.forecast import Outcome, how_it_ended
from core.engine.trial.trial import Say, TrialRequest, tried
from core.lab import device
from core.program.program import Program
from core.record.budget import RunBudget, format_seconds
from core.record.metric import format_metric

SHORT_SECONDS = 30.0  # of training, at most
SHORT_STEPS = 10  # a step budget is divided by this
FULL_CARD = 0.92  # of the memory that was free: a run of slightly larger shapes would not fit
LITTLE_OF_PEAK = 0.1
LOW_BUSY_SHARE = 0.8
EARLY = 0.9  # of its budget: a run that takes less ends by itself
_COMPILES = re.compile(r"compiles (\d+) before the clock, (\d+) on it")  # as nanotrain prints them
_SPEED = re.compile(r"([\d.e+-]+) TFLOP/s")
NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """Seconds of each phase of a run; None for one that it does not have."""

    checkout: float | None
    start: float | None  # of its processes, with compiling and warming up; None where it is on the clock
    training: float
    end: float  # after the clock: saving, leaving
    scoring: float | None

    def gap(self, *, beside: bool) -> float:
        """Seconds between two clocks of a slot. `beside`: a run starts while the one before is scored."""
        before, after = (self.checkout or 0.0) + (self.start or 0.0), self.scoring or 0.0
        return self.end + (max(before, after) if beside else before + after)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """What the shortened run gave."""

    report: Mapping[str, Any]
    findings: tuple[Finding, ...]


def shortened(program: Program, kind: str, seconds: float | None) -> tuple[RunBudget, bool]:
    """The budget of the check's run, and whether the run is told of it: one without a scorer holds its own length."""
    real = program.run_budget(kind)
    if program.score is not None and real.steps is not None:
        return RunBudget(steps=max(1, real.steps // SHORT_STEPS)), True
    short = seconds or SHORT_SECONDS
    return RunBudget(seconds=min(short, real.seconds or short)), program.score is not None


async def measure(request: TrialRequest, program: Program, slot: str, card: CardFacts | None, say: Say) -> MeasuredRun:
    """Make a shortened run in the slot, as `try` makes it. Raises what refuses a session's start."""
    kind = "cuda" if card else "cpu"
    budget, told = shortened(program, kind, request.seconds)
    options = replace(request.options, slots=device.option_of(slot), run_budget=budget.written if told else None)
    asked = TrialRequest(project=request.project, options=options, once=True,
                         seconds=None if told else budget.seconds)  # fmt: skip
    before, most = used_memory(slot), 0

    def watching(message: Mapping[str, Any]) -> None:
        nonlocal most
        most = max(most, used_memory(slot) or 0)
        say(message)

    start, outcome = await tried(asked, watching)
    peak = most - before if before is not None and most else None
    real = program.run_budget(kind)
    return _measured(start, outcome, card, peak, real, full_clock(outcome, budget, real))


def full_clock(outcome: Outcome, short: RunBudget, real: RunBudget) -> RunBudget:
    """What a run of the real budget spends on its clock, by the wall: all of it, unless the run ended by itself before
    the short one.
    """
    finished = outcome.finished
    if short.seconds is None or real.seconds is None:
        return real
    if outcome.cut or finished.seconds > EARLY * short.seconds:
        return RunBudget(seconds=real.seconds * finished.training_seconds / (finished.seconds or 1.0))
    return RunBudget(seconds=finished.training_seconds)


def phases_of(outcome: Outcome) -> Phases | None:
    """The phases from the times at which each began; None for a run that never trained."""
    begun = dict(outcome.phases)
    if "ended" not in begun or "training" not in begun:
        return None
    finished, plain = outcome.finished, outcome.program.score is None
    checkout = outcome.checkout_seconds
    start = max(0.0, begun["training"] - _first(outcome, "starting") - (checkout or 0.0))
    last = begun.get("scoring", begun["ended"])
    end = max(0.0, last - begun["training"] - finished.training_seconds)
    scoring = begun["ended"] - begun["scoring"] if "scoring" in begun else None
    return Phases(
        checkout=checkout, start=None if plain else start, training=finished.training_seconds, end=end, scoring=scoring
    )  # fmt: skip


def _first(outcome: Outcome, phase: str) -> float:
    return next(time for name, time in outcome.phases if name == phase)


def _measured(
    start: Start, o: Outcome, card: CardFacts | None, peak: int | None, real: RunBudget, clock: RunBudget
) -> MeasuredRun:
    phases, text = phases_of(o), "\n".join(o.lines)
    speed, compiles = _SPEED.search(text), _COMPILES.search(text)
    finished = o.finished
    tokens = finished.tokens / finished.training_seconds if finished.tokens and finished.training_seconds else None
    teraflops = float(speed[1]) if speed else None
    share = teraflops / card.peak_tflops if teraflops and card and card.peak_tflops else None
    look = f"see its output: {invocation.call('try', project=start.setup.project)}"
    ended = _ended(o, look)
    findings: list[Finding | None] = [ended]
    findings += [Finding("run", None, note) for note in o.notes]
    findings += [_phases(o, phases), _memory(o, card, peak)]
    if ended.ok is not False:
        findings += [
            _speed(o, tokens, teraflops, share, card),
            _compiles(compiles),
            *_score(o, look),
            _busy(o, phases, clock),
        ]
    report = {
        "command": o.program.run, "commit": start.setup.commit, "slot": o.slots[0], "sandbox": o.tier,
        "budget": str(real), "ended": finished.ended, "reason": finished.reason, "output": list(o.lines),
        "notes": list(o.notes),
        "phases": None if phases is None else {
            "checkout": phases.checkout, "start": phases.start, "training": phases.training, "end": phases.end,
            "scoring": phases.scoring,
        },
        "steps": finished.steps, "tokens_per_second": tokens, "tflops": teraflops, "share_of_peak": share,
        "memory": {"card_peak": peak, "card_free": card.free if card else None, "peak": finished.peak_memory,
                   "limit": o.memory_limit},
        "compiles": {"before_clock": int(compiles[1]), "on_clock": int(compiles[2])} if compiles else None,
        "metric": {"name": o.program.metric.name, "value": o.counts}, "probes": dict(finished.probes or {}),
        "busy_share": busy_share(o, phases, clock),
    }  # fmt: skip
    return MeasuredRun(report=report, findings=tuple(found for found in findings if found is not None))


def _ended(o: Outcome, look: str) -> Finding:
    """`look`: the hint where nothing better is known."""
    found = how_it_ended(o)
    if found.ok is not False or found.hint:
        return found
    detail, _, hint = found.detail.partition("; hint: ")
    return replace(found, detail=detail, hint=hint or look)


def _phases(o: Outcome, phases: Phases | None) -> Finding | None:
    if phases is None:
        return None
    parts = {
        "checkout": phases.checkout, "start-up": phases.start, "training": phases.training, "end": phases.end,
        "scoring": phases.scoring,
    }  # fmt: skip
    said = " · ".join(f"{name} {format_seconds(value)}" for name, value in parts.items() if value is not None)
    return Finding("phases", True, said if phases.start is not None else f"{said}; its start-up is on its clock")


def _speed(
    o: Outcome, tokens: float | None, teraflops: float | None, share: float | None, card: CardFacts | None
) -> Finding:
    if tokens is None:
        steps, seconds = o.finished.steps, o.finished.training_seconds
        said = f"{steps / seconds:.3g} steps a second; " if steps and seconds else ""
        return Finding("speed", True, f"{said}tokens a second {NOT_KNOWN}: the run reports none")
    said = f"{tokens:,.0f} tokens a second"
    if teraflops is None and card is None:
        return Finding("speed", True, said)
    if teraflops is None:
        return Finding("speed", True, f"{said}; share of the card's peak {NOT_KNOWN}: it prints no TFLOP/s")
    said += f", {teraflops:.3g} TFLOP/s"
    if share is None:
        of = f"; peak of {card.name} unknown" if card else ""
        return Finding("speed", True, said + of)
    said += f", {share:.0%} of the {card.peak_tflops:g} of this card" if card else ""
    return Finding("speed", True if share >= LITTLE_OF_PEAK else None, said)


def _memory(o: Outcome, card: CardFacts | None, peak: int | None) -> Finding:
    main = o.finished.peak_memory
    said = f"{main / 2**30:.1f} GB of main memory at peak" if main else f"main memory {NOT_KNOWN}"
    said += f" of {o.memory_limit / 2**30:.1f} GB that a run may have" if main and o.memory_limit else ""
    if card is None:
        return Finding("memory", True, said)
    if not peak or card.free is None:
        return Finding("memory", True, f"{said}; of the card {NOT_KNOWN}: the driver does not count it")
    said += f"; {peak / 2**30:.1f} GB of the card's {card.free / 2**30:.1f} GB that were free"
    return Finding("memory", True if peak < FULL_CARD * card.free else None, said)


def _compiles(found: re.Match[str] | None) -> Finding:
    if found is None:
        return Finding("compiles", True, f"{NOT_KNOWN}: the run prints no `compiles N before the clock, N on it`")
    said = f"{found[1]} before the clock, {found[2]} on it"
    return Finding("compiles", True if found[2] == "0" else None, said)


def _score(o: Outcome, look: str) -> list[Finding]:
    """The number, and each probe of the scorer against its limit; `look`: the hint where the scorer rejects."""
    name, finished = o.program.metric.name, o.finished
    if finished.ended == "rejected":
        found = [Finding("score", False, f"the scorer rejects the unchanged code: {finished.reason}", look)]
    elif o.counts is not None:
        found = [Finding("score", True, f"{name} {format_metric(o.counts)} (of this short run)")]
    else:
        found = [Finding("score", None, f"{name} {NOT_KNOWN}: no number was seen in this short run")]
    probes = [_probe_words(probe, value) for probe, value in (finished.probes or {}).items()]
    bad = [words for words, ok in probes if not ok]
    if probes:
        found.append(Finding("probes", not bad, "; ".join(words for words, _ in probes), look if bad else ""))
    return found


def _probe_words(name: str, probe: Any) -> tuple[str, bool]:
    if not isinstance(probe, Mapping):
        return f"{name} {probe}", True
    value, limit = probe.get("value"), probe.get("limit")
    said = f"{name} {value:.3g}" if isinstance(value, (int, float)) else name
    said += f" of {limit:g}" if isinstance(limit, (int, float)) else ""
    return said, probe.get("ok") is not False


def busy_share(o: Outcome, phases: Phases | None, real: RunBudget) -> float | None:
    """Share of a session's time in which a run of the real budget is on its clock, by the phases measured."""
    if phases is None or real.seconds is None:
        return None
    return real.seconds / (real.seconds + phases.gap(beside=o.overlaps))


def _busy(o: Outcome, phases: Phases | None, real: RunBudget) -> Finding | None:
    share = busy_share(o, phases, real)
    if phases is None:
        return None
    if share is None:
        return Finding("busy share", True, f"{NOT_KNOWN}: the budget of a run is {real}")
    gap, before = f"end {phases.end:.1f}", (phases.checkout or 0.0) + (phases.start or 0.0)
    if o.overlaps:
        gap += f" + the longer of start {before:.1f} and scoring {phases.scoring or 0.0:.1f}"
    else:
        gap += f" + start {before:.1f}" + (f" + scoring {phases.scoring:.1f}" if phases.scoring else "")
    clock = f"{real.seconds or 0.0:.3g}"
    said = f"{share:.0%} with {real} on the clock: {clock} s of {clock} + {gap}"
    return Finding("busy share", True if share >= LOW_BUSY_SHARE else None, said)
