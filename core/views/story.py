"""Sentence for each event, an experiment in full, and a summary since a person left"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from core import invocation
from core.record import events as e
from core.record.budget import format_seconds
from core.record.events import Event
from core.record.metric import Metric, format_metric
from core.record.state import BASELINE, Experiment, Note, State
from core.text import clean, one_line, plural
from core.views.tables import experiment_table
from core.views.trust import no_noise, trust_table


def sentence(event: Event, metric: Metric | None = None) -> str | None:
    """One line about an event, or None for an event that is not for display."""
    text = _SENTENCES[type(event.body)](event.body, metric or Metric("metric"))
    return None if text is None else one_line(text)


def _who(experiment: int) -> str:
    return "baseline" if experiment == BASELINE else f"#{experiment}"


def in_short(reason: str) -> str:
    """The first line of a reason, and its hint (`mend:` in logs of version 0.1)."""
    first, *more = reason.strip().splitlines() or [""]
    first = first.partition("; the nearest lines are")[0].rstrip(": ")
    hints = (line.strip()[6:] for line in more if line.strip().startswith(("hint: ", "mend: ")))
    return first + "".join(f"; hint: {hint}" for hint in list(hints)[:1]) if first else ""


def _failure(x: Experiment) -> str:
    """Why the baseline, which gets no verdict, has no result."""
    failed = [run.reason for run in x.runs if run.reason and run.ended not in ("done", "abandoned")]
    return failed[0] if failed and x.number == BASELINE and x.metric is None else ""


def _because(reason: str) -> str:
    short = in_short(reason)
    return f": {short}" if short else ""


def _session_started(b: e.SessionStarted, m: Metric) -> str:
    better = "lower" if b.direction == "min" else "higher"
    own = ", self-reported" if b.self_reported else ""
    return f"session {b.session} on branch {b.branch}: {b.metric} ({better} is better{own}), {b.run_budget} a run" + (
        f"; noise at first as in {b.prior_from}: σ {format_metric(b.prior_sigma)}" if b.prior_from else ""
    )


def _engine_started(b: e.EngineStarted, m: Metric) -> str:
    model = f" ({b.model})" if b.model else ""
    head = f"engine {b.pid}: researcher {b.researcher}{model}, slots {' '.join(b.slots)}, sandbox {b.sandbox}"
    return "; ".join([head, *b.conditions])


def _experiment_started(b: e.ExperimentStarted, m: Metric) -> str:
    if b.experiment == BASELINE:
        return "baseline: the unchanged code runs first"
    return f"#{b.experiment} thinking, from {_who(b.parent)}"


def _checked(b: e.Checked, m: Metric) -> str | None:
    if b.ok:
        return None
    last = one_line(clean(b.output).strip().rpartition("\n")[2], 200)
    return f"{_who(b.experiment)} failed its check {b.name}{_because(last)}"


def _run_started(b: e.RunStarted, m: Metric) -> str:
    return f"{_who(b.experiment)} run {b.run} ({b.kind}) starts on {b.slot}: {b.budget}, seed {b.seed}"


def _run_finished(b: e.RunFinished, m: Metric) -> str:
    head = f"{_who(b.experiment)} run {b.run}"
    if b.ended == "done" and b.metric is not None:
        steps = f", {plural(b.steps, 'step')}" if b.steps is not None else ""
        audit = f"; an audit: it was far behind at {b.stopped_at:.0%}, and went on" if b.audit and b.stopped_at else ""
        return f"{head} done: {m.name} {format_metric(b.metric)} in {format_seconds(b.seconds)}{steps}{audit}"
    if b.stopped_at is not None and not b.audit:
        return f"{head} {b.reason}"
    return f"{head} {b.ended.replace('_', ' ')} after {format_seconds(b.seconds)}{_because(b.reason)}"


def _calibrated(b: e.Calibrated, m: Metric) -> str:
    sigma = format_metric(b.sigma) if b.sigma else "?"
    return f"baseline {m.name} {format_metric(b.metric)} ±{sigma} ({plural(len(b.values), 'run')})"


def _noise(b: e.NoiseEstimated, m: Metric) -> str:
    if b.sigma == 0:
        return f"noise: unknown, {no_noise(b.df)}"
    return f"noise: σ {format_metric(b.sigma)} ({format_metric(b.low)} to {_high(b.high)})"


def _judged(b: e.Judged, m: Metric) -> str:
    value = f" {m.name} {format_metric(b.metric)}" if b.metric is not None else ""
    return f"#{b.experiment} {b.verdict}{value}{_because(b.reason)}"


def _approval_given(b: e.ApprovalGiven, m: Metric) -> str:
    return f"#{b.experiment} {'approved' if b.approved else 'not approved'}{_because(b.reason)}"


def _guidance_queued(b: e.GuidanceQueued, m: Metric) -> str:
    if b.idea:
        return f"idea {b.guidance}: {b.text}"
    return f"{'standing ' * b.standing}guidance {b.guidance}: {b.text}"


def _base_changed(b: e.BaseChanged, m: Metric) -> str:
    return f"proposals build on {'the best again' if b.experiment is None else _who(b.experiment)}"


def _budget_changed(b: e.BudgetChanged, m: Metric) -> str:
    words = {
        "hours": "{:g} hours", "experiments": "{} experiments", "usd": "${:.2f}",
        "device_usd_per_hour": "a device at ${:.2f} an hour",
    }  # fmt: skip
    given = [words[key].format(value) for key, value in b.budget.items() if value is not None and key in words]
    return f"budget: {', '.join(given) or 'no limit'}"


def _slots_changed(b: e.SlotsChanged, m: Metric) -> str:
    used = [name for name in b.slots if name not in b.aside and name not in b.quiet]
    waits = f"; {' '.join(b.quiet)} waits until a scoring has had its card's memory" if b.quiet else ""
    return f"runs go to {' '.join(used) or 'no slot'}{waits}"


def _program_changed(b: e.ProgramChanged, m: Metric) -> str:
    if b.refused:
        return f"warning: the edited program.md is not in force{_because(b.refused)}"
    lines = b.diff.splitlines()
    added = sum(line.startswith("+") and not line.startswith("+++") for line in lines)
    removed = sum(line.startswith("-") and not line.startswith("---") for line in lines)
    return f"program.md was edited (+{added} −{removed}), in force from the next experiment on"


def _high(value: float | None) -> str:
    return "unknown" if value is None or value == float("inf") else format_metric(value)


def _certified(b: e.Certified, m: Metric) -> str:
    p = "" if b.p is None else f" (p {b.p:.2g})"
    return f"#{b.experiment} {b.outcome}{p}{_because(b.reason)}" + (f"; certificate: {b.file}" if b.file else "")


_SENTENCES: dict[type, Callable[[Any, Metric], str | None]] = {
    e.SessionStarted: _session_started,
    e.EngineStarted: _engine_started,
    e.EngineStopped: lambda b, m: f"engine ended{_because(b.reason)}",
    e.Recovered: lambda b, m: f"recovered: {'; '.join(b.actions)}" if b.actions else None,
    e.StateChanged: lambda b, m: f"session {b.state}{_because(b.reason)}",
    e.Preparing: lambda b, m: f"preparing {b.what}" if b.what else None,
    e.ExperimentStarted: _experiment_started,
    e.ResearcherWaiting: lambda b, m: (
        f"{_who(b.experiment)} waits {format_seconds(b.seconds)}: {b.reason} (try {b.attempt})"
    ),
    e.ProposalRefused: lambda b, m: f"{_who(b.experiment)} proposal {b.attempt} refused{_because(b.reason)}",
    e.Proposed: lambda b, m: f"#{b.experiment} proposed (+{b.added} −{b.removed}): {b.hypothesis}",
    e.Spent: lambda b, m: None,
    e.Committed: lambda b, m: None,
    e.Checked: _checked,
    e.ApprovalRequested: lambda b, m: f"#{b.experiment} waits for you: {invocation.call('approve', str(b.experiment))}",
    e.ApprovalGiven: _approval_given,
    e.RunStarted: _run_started,
    e.RunPhaseChanged: lambda b, m: f"{_who(b.experiment)} run {b.run} {b.phase}" if b.phase == "training" else None,
    e.RunFinished: _run_finished,
    e.Calibrated: _calibrated,
    e.NoiseEstimated: _noise,
    e.RepairAsked: lambda b, m: f"#{b.experiment} goes back for a repair ({b.attempt}){_because(b.reason)}",
    e.HiddenScored: lambda b, m: (
        f"{_who(b.experiment)} on the hidden slice: {format_metric(b.metric)}" + (f"; {b.warning}" if b.warning else "")
    ),
    e.CertificationStarted: lambda b, m: f"#{b.experiment} certification begins: {b.planned} runs of each planned",
    e.Certified: _certified,
    e.Reproduced: lambda b, m: b.reason,
    e.Rebased: lambda b, m: (
        f"#{b.experiment} waits for its run, re-applied on {_who(b.parent)}"
        if b.waiting
        else f"#{b.experiment} re-applied on {_who(b.parent)}, the new best, and runs again"
    ),
    e.ProposalReturned: lambda b, m: f"#{b.experiment} goes back to the researcher{_because(b.reason)}",
    e.QueueMoved: lambda b, m: f"#{b.experiment} moved to place {b.place} in the queue",
    e.Judged: _judged,
    e.GuidanceQueued: _guidance_queued,
    e.GuidanceEdited: lambda b, m: f"guidance {b.guidance} now reads: {b.text}",
    e.GuidanceTaken: lambda b, m: f"guidance {b.guidance} goes to #{b.experiment}",
    e.GuidanceWithdrawn: lambda b, m: f"guidance {b.guidance} withdrawn",
    e.ApprovalModeChanged: lambda b, m: (
        "each proposal waits for you from now on" if b.on else "proposals run without waiting for you"
    ),
    e.BaseChanged: _base_changed,
    e.PinChanged: lambda b, m: (
        f"{_who(b.experiment)} is pinned: never a parent" if b.pinned else f"{_who(b.experiment)} is no longer pinned"
    ),
    e.ResearcherChanged: lambda b, m: f"researcher {b.researcher}{f' ({b.model})' if b.model else ''} from now on",
    e.BudgetChanged: _budget_changed,
    e.SlotsChanged: _slots_changed,
    e.ProgramChanged: _program_changed,
    e.BranchHeld: lambda b, m: f"warning: {b.words}" if b.words else "the branch is at the best again",
    e.Noted: lambda b, m: f"{'' if b.level == 'info' else b.level + ': '}{b.text}",
}


def show(state: State, number: int, events: Iterable[Event], stream: str = "") -> dict[str, Any]:
    """Output of `show N --json`. `events`: of the experiment; `stream`: the researcher's text.

    Raises KeyError for an unknown experiment.
    """
    x = state.experiments[number]
    diff = rationale = ""
    devices: dict[int, dict[str, Any]] = {}
    own = list(events)
    for event in own:
        if isinstance(event.body, e.Proposed):
            diff, rationale = event.body.diff, event.body.rationale
        elif isinstance(event.body, e.Rebased) and event.body.diff:
            diff = event.body.diff
        elif isinstance(event.body, e.RunFinished):
            devices[event.body.run] = dict(event.body.device)
    reasoning = "\n\n".join(part for part in (clean(stream).strip(), clean(rationale).strip()) if part)
    return {
        **experiment_table(x),
        "diff": clean(diff),
        "reasoning": reasoning,
        "runs": [
            {
                "kind": r.kind,
                "metric": r.metric,
                "self_reported": state.metric.self_reported,
                "seconds": round(r.seconds, 3),
                "steps": r.steps,
                "seed": r.seed,
                "ended": r.ended,
                "stopped_at": r.stopped_at,
                "audit": r.audit,
                "run": r.run,
                "commit": r.commit,
                "budget": r.budget,
                "slot": r.slot,
                "device": devices.get(r.run),
            }
            for r in x.runs
        ],
        "reason": x.reason or _failure(x),
        **trust_table(state, x, own),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """Summary of a period. `kept`: (experiment, hypothesis, delta), largest gain first."""

    seconds: float
    experiments: int
    kept: tuple[tuple[int, str, float | None], ...]
    best_before: float | None
    best_after: float | None
    usd: float
    usd_unknown: bool
    waiting: tuple[int, ...]  # proposals that wait for approval
    notes: tuple[Note, ...]  # warnings and errors

    @property
    def worth_saying(self) -> bool:
        return bool(self.experiments or self.waiting or self.notes)


def away(state: State, since: float, now: float) -> Away:
    """Summary since `since` (Unix seconds), by the ends of experiments."""
    ended = [x for x in state.experiments.values() if x.number != BASELINE and x.ended is not None]
    new = [x for x in ended if x.ended is not None and x.ended > since]
    metric = state.metric
    before = [x for x in ended if x.verdict == "kept" and x.ended is not None and x.ended <= since]
    last = max(before, key=lambda x: x.ended or 0.0, default=None)
    baseline = state.experiments.get(BASELINE)
    known = baseline is not None and baseline.ended is not None and baseline.ended <= since
    best_before = last.metric if last else baseline.metric if baseline and known else None
    kept = [x for x in new if x.verdict == "kept"]
    kept.sort(key=lambda x: metric.gain(0.0, x.delta or 0.0), reverse=True)
    return Away(
        seconds=max(0.0, now - since),
        experiments=len(new),
        kept=tuple((x.number, one_line(x.hypothesis), x.delta) for x in kept),
        best_before=best_before,
        best_after=state.best_metric,
        usd=sum(x.usd for x in new),
        usd_unknown=any(x.usd_unknown for x in new),
        waiting=state.approvals,
        notes=tuple(n for n in state.notes if n.time > since and n.level != "info"),
    )
