"""Fold of events into the State: deterministic, no I/O.

`fold` changes the State it is given; the experiments and runs inside are frozen and replaced, so a reader may keep one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core.record import events as e
from core.record.events import Event
from core.record.state import BASELINE, MAX_NOTES, Baseline, EngineInfo, Experiment, Guidance, Note, Run, State


def fold(state: State, event: Event) -> State:
    """Apply one event. An event already applied (by its number) is ignored, so a tail may overlap its prefix."""
    if event.seq <= state.seq:
        return state
    state.seq, state.time = event.seq, event.time
    _HANDLERS[type(event.body)](state, event.body, event.time)
    return state


def _change(state: State, number: int, **changes: object) -> Experiment:
    state.experiments[number] = replace(state.experiments[number], **changes)  # type: ignore[arg-type]
    return state.experiments[number]


def _session_started(state: State, b: e.SessionStarted, time: float) -> None:
    state.session, state.started = b, time
    state.best_commit = b.commit


def _engine_started(state: State, b: e.EngineStarted, time: float) -> None:
    if state.engine_open and state.engine:
        # The last engine was killed: its time counts up to the last thing known of it.
        state.engine_seconds += max(0.0, _last_known_time(state) - state.engine.started)
    state.engine = EngineInfo(
        pid=b.pid, boot_id=b.boot_id, researcher=b.researcher, model=b.model, slots=b.slots,
        sandbox=b.sandbox, sandbox_note=b.sandbox_note, device=b.device, started=time,
    )  # fmt: skip
    state.engine_open, state.state, state.reason = True, "starting", ""


def _last_known_time(state: State) -> float:
    """Time of the newest fact known under the engine that is recorded as open."""
    newest = list(state.experiments.values())[-4:]
    times = [x.ended or x.started for x in newest]
    times += [r.started + r.wall_seconds for x in newest for r in x.runs]
    return max([state.engine.started if state.engine else 0.0, *times])


def _engine_stopped(state: State, b: e.EngineStopped, time: float) -> None:
    if state.engine and state.engine_open:
        state.engine_seconds += max(0.0, time - state.engine.started)
    state.engine_open = False
    if state.state not in ("finished", "crashed", "stopped"):
        state.state, state.reason = "stopped", b.reason


def _recovered(state: State, b: e.Recovered, time: float) -> None:
    for action in b.actions:
        _note(state, time, "info", action)


def _state_changed(state: State, b: e.StateChanged, time: float) -> None:
    state.state, state.reason, state.preparing = b.state, b.reason, ""
    if b.stop_at is not None or b.state in ("stopped", "finished"):
        state.stop_at = b.stop_at or None


def _preparing(state: State, b: e.Preparing, time: float) -> None:
    state.preparing = b.what


def _experiment_started(state: State, b: e.ExperimentStarted, time: float) -> None:
    if b.experiment in state.live:  # begun by an engine that died while thinking: its cost stays counted
        changes = {"parent": b.parent, "parent_commit": b.parent_commit, "researcher": b.researcher, "model": b.model}
        _change(state, b.experiment, phase="thinking", reason="", forked=b.forked, **changes)
        return
    baseline = b.experiment == BASELINE
    state.experiments[b.experiment] = Experiment(
        number=b.experiment, parent=b.parent, parent_commit=b.parent_commit, researcher=b.researcher, model=b.model,
        started=time, phase="running" if baseline else "thinking", hypothesis="the unchanged code" if baseline else "",
        forked=b.forked,
    )  # fmt: skip
    state.live = (*state.live, b.experiment)


def _waiting(state: State, b: e.ResearcherWaiting, time: float) -> None:
    _change(state, b.experiment, phase="waiting", reason=b.reason)


def _refused(state: State, b: e.ProposalRefused, time: float) -> None:
    old = state.experiments[b.experiment]
    _change(state, b.experiment, phase="thinking", refusals=old.refusals + 1, reason=b.reason)


def _proposed(state: State, b: e.Proposed, time: float) -> None:
    model = b.model or state.experiments[b.experiment].model
    if state.engine and model:
        state.engine = replace(state.engine, model=model)
    _change(
        state, b.experiment, phase="checking", hypothesis=b.hypothesis, kind=b.kind, expected=b.expected, model=model,
        added=b.added, removed=b.removed, lines=b.lines, files=b.files,
        thinking_seconds=b.seconds, reason="", extra=dict(b.extra),
    )  # fmt: skip


def _spent(state: State, b: e.Spent, time: float) -> None:
    old = state.experiments[b.experiment]
    _change(
        state, b.experiment,
        usd=old.usd + (b.usd or 0.0), usd_unknown=old.usd_unknown or b.usd is None,
        input_tokens=old.input_tokens + b.input_tokens, output_tokens=old.output_tokens + b.output_tokens,
        cached_tokens=old.cached_tokens + b.cached_tokens,
    )  # fmt: skip
    state.usd += b.usd or 0.0
    state.usd_unknown = state.usd_unknown or b.usd is None
    state.input_tokens += b.input_tokens
    state.output_tokens += b.output_tokens
    state.cached_tokens += b.cached_tokens


def _committed(state: State, b: e.Committed, time: float) -> None:
    _change(state, b.experiment, commit=b.commit, parent_commit=b.parent_commit, phase="checking")


def _checked(state: State, b: e.Checked, time: float) -> None:
    if b.ok:
        _change(state, b.experiment, phase="queued")


def _approval_requested(state: State, b: e.ApprovalRequested, time: float) -> None:
    _change(state, b.experiment, phase="approval")
    state.approvals = (*state.approvals, b.experiment)


def _approval_given(state: State, b: e.ApprovalGiven, time: float) -> None:
    state.approvals = tuple(n for n in state.approvals if n != b.experiment)
    if b.approved:
        _change(state, b.experiment, phase="queued")


def _run_started(state: State, b: e.RunStarted, time: float) -> None:
    run = Run(
        run=b.run, experiment=b.experiment, kind=b.kind, slot=b.slot, seed=b.seed, commit=b.commit, budget=b.budget,
        started=time,
    )  # fmt: skip
    changes: dict[str, object] = {"phase": "running"} if b.experiment in state.live else {}
    _change(state, b.experiment, runs=(*state.experiments[b.experiment].runs, run), **changes)
    state.running[b.run] = b.experiment
    state.next_run = max(state.next_run, b.run + 1)


def _with_run(state: State, experiment: int, number: int, **changes: object) -> None:
    runs = state.experiments[experiment].runs
    new = tuple(replace(r, **changes) if r.run == number else r for r in runs)  # type: ignore[arg-type]
    _change(state, experiment, runs=new)


def _run_phase(state: State, b: e.RunPhaseChanged, time: float) -> None:
    changes: dict[str, object] = {"phase": b.phase}
    if b.phase == "training":
        changes["clock_started"] = time
    _with_run(state, b.experiment, b.run, **changes)


def _run_finished(state: State, b: e.RunFinished, time: float) -> None:
    _with_run(
        state, b.experiment, b.run, phase=None, ended=b.ended, metric=b.metric, seconds=b.seconds,
        wall_seconds=b.wall_seconds, steps=b.steps, tokens=b.tokens, reason=b.reason,
        peak_memory=b.peak_memory, gap=b.gap,
    )  # fmt: skip
    state.busy_seconds += b.seconds
    state.running.pop(b.run, None)
    x = state.experiments[b.experiment]
    if b.experiment in state.live:
        others = any(r.phase is not None for r in x.runs)
        _change(state, b.experiment, phase="running" if others or b.experiment == BASELINE else "queued")
    elif x.values and b.metric is not None:
        # A repeat of the best or of the baseline: its number is pooled from the results that it was not chosen on.
        number = x.sample.number
        _change(state, b.experiment, metric=number)
        if b.experiment == state.best:
            state.best_metric = number
        if b.experiment == BASELINE and state.baseline:
            state.baseline = replace(state.baseline, metric=number, n=len(x.values))


def _calibrated(state: State, b: e.Calibrated, time: float) -> None:
    state.baseline = Baseline(b.metric, b.sigma, len(b.values))
    if state.best == BASELINE:
        state.best_metric = b.metric
    _change(state, BASELINE, metric=b.metric, sigma=b.sigma, delta=0.0, phase="judged", ended=time,
            commit=state.session.commit if state.session else None)  # fmt: skip
    state.live = tuple(n for n in state.live if n != BASELINE)


def _noise_estimated(state: State, b: e.NoiseEstimated, time: float) -> None:
    state.noise = b


def _repair_asked(state: State, b: e.RepairAsked, time: float) -> None:
    _change(state, b.experiment, phase="thinking", commit=None, repairs=b.attempt, reason=b.reason)


def _hidden_scored(state: State, b: e.HiddenScored, time: float) -> None:
    _change(state, b.experiment, hidden=b.metric, hidden_gap=b.gap)
    if b.warning:
        _note(state, time, "warning", b.warning, b.experiment)


def _certification_started(state: State, b: e.CertificationStarted, time: float) -> None:
    _note(state, time, "info", f"certifying #{b.experiment}: {b.planned} runs of each planned", b.experiment)


def _certified(state: State, b: e.Certified, time: float) -> None:
    _change(state, b.experiment, certified=b.outcome)
    _note(state, time, "info", f"#{b.experiment} {b.outcome}: {b.reason}", b.experiment)


def _reproduced(state: State, b: e.Reproduced, time: float) -> None:
    _note(state, time, "info" if b.within_noise else "warning", b.reason, b.experiment)


def _rebased(state: State, b: e.Rebased, time: float) -> None:
    old = state.experiments[b.experiment]
    _change(state, b.experiment, parent=b.parent, parent_commit=b.parent_commit, commit=b.commit, phase="queued",
            rebased=old.rebased + 1)  # fmt: skip


def _judged(state: State, b: e.Judged, time: float) -> None:
    old = state.experiments[b.experiment]
    _change(
        state, b.experiment, verdict=b.verdict, metric=b.metric, delta=b.delta, reason=b.reason, phase="judged",
        ended=time, commit=b.commit or old.commit, chosen_on=b.runs,
        claim=b.claim, claim_runs=b.claim_runs, claim_results=b.runs,
        sigma=state.sigma if b.metric is not None else None,
    )  # fmt: skip
    if old.verdict:
        state.verdicts[old.verdict] -= 1
    state.verdicts[b.verdict] = state.verdicts.get(b.verdict, 0) + 1
    if b.verdict == "provisional":  # not final: it is repeated
        _change(state, b.experiment, phase="queued")
        return
    state.live = tuple(n for n in state.live if n != b.experiment)
    state.approvals = tuple(n for n in state.approvals if n != b.experiment)
    state.stood += b.metric is not None
    if b.verdict == "kept" and b.metric is not None and b.experiment not in state.pinned:
        state.stood = 0
        state.best, state.best_metric = b.experiment, b.metric
        state.best_commit = b.commit or old.commit
        if old.forked and old.parent == state.base:
            state.base = None  # the fork is the best, which proposals build on anyway
    if b.best_claim is not None:  # a candidate after the best corrects what the best may claim
        held = {"claim": b.best_claim, "claim_runs": b.best_claim_runs, "claim_results": b.best_claim_results}
        number = _change(state, state.best, **held).sample.number
        _change(state, state.best, metric=number)
        state.best_metric = number


def _guidance_queued(state: State, b: e.GuidanceQueued, time: float) -> None:
    state.guidance[b.guidance] = Guidance(id=b.guidance, text=b.text, standing=b.standing, queued=time, idea=b.idea)
    state.next_guidance = max(state.next_guidance, b.guidance + 1)


def _guidance_edited(state: State, b: e.GuidanceEdited, time: float) -> None:
    if old := state.guidance.get(b.guidance):
        state.guidance[b.guidance] = replace(old, text=b.text)


def _guidance_taken(state: State, b: e.GuidanceTaken, time: float) -> None:
    if old := state.guidance.get(b.guidance):
        state.guidance[b.guidance] = replace(old, taken_by=b.experiment)


def _guidance_withdrawn(state: State, b: e.GuidanceWithdrawn, time: float) -> None:
    state.guidance.pop(b.guidance, None)


def _approval_mode(state: State, b: e.ApprovalModeChanged, time: float) -> None:
    state.approve = b.on


def _base_changed(state: State, b: e.BaseChanged, time: float) -> None:
    state.base = b.experiment


def _pin_changed(state: State, b: e.PinChanged, time: float) -> None:
    """The best is chosen among the experiments that are not pinned; an unpinned one may be the best again."""
    state.pinned = state.pinned | {b.experiment} if b.pinned else state.pinned - {b.experiment}
    if state.base in state.pinned:
        state.base = None
    best, metric = state.experiments.get(state.best), state.best_metric
    if b.pinned and b.experiment == state.best:
        best, metric = state.experiments.get(BASELINE), state.baseline.metric if state.baseline else None
    for x in state.experiments.values():
        eligible = x.verdict == "kept" and x.metric is not None and x.number not in state.pinned
        if eligible and (metric is None or state.metric.gain(metric, x.metric or 0.0) > 0):
            best, metric = x, x.metric
    if best is not None and best.number != state.best:
        state.best, state.best_metric, state.stood = best.number, metric, 0
        state.best_commit = best.commit or (state.session.commit if state.session else None)


def _researcher_changed(state: State, b: e.ResearcherChanged, time: float) -> None:
    if state.engine:
        state.engine = replace(state.engine, researcher=b.researcher, model=b.model)


def _budget_changed(state: State, b: e.BudgetChanged, time: float) -> None:
    if state.session:
        state.session = replace(state.session, budget=dict(b.budget))


def _slots_changed(state: State, b: e.SlotsChanged, time: float) -> None:
    if state.engine:
        state.engine = replace(state.engine, slots=b.slots)


def _program_changed(state: State, b: e.ProgramChanged, time: float) -> None:
    if b.refused:
        _note(state, time, "warning", f"the edited program.md is not in force: {b.refused}")
    elif state.session:
        state.session = replace(state.session, program=b.program)
        state.program_changes += 1


def _branch_held(state: State, b: e.BranchHeld, time: float) -> None:
    state.branch_held = b.words
    if b.words:
        _note(state, time, "warning", b.words)


def _noted(state: State, b: e.Noted, time: float) -> None:
    _note(state, time, b.level, b.text, b.experiment)


def _note(state: State, time: float, level: str, text: str, experiment: int | None = None) -> None:
    note = Note(time=time, level=level, text=text, experiment=experiment)
    state.notes = (*state.notes[-(MAX_NOTES - 1) :], note)


_HANDLERS: dict[type, Any] = {
    e.SessionStarted: _session_started,
    e.EngineStarted: _engine_started,
    e.EngineStopped: _engine_stopped,
    e.Recovered: _recovered,
    e.StateChanged: _state_changed,
    e.Preparing: _preparing,
    e.ExperimentStarted: _experiment_started,
    e.ResearcherWaiting: _waiting,
    e.ProposalRefused: _refused,
    e.Proposed: _proposed,
    e.Spent: _spent,
    e.Committed: _committed,
    e.Checked: _checked,
    e.ApprovalRequested: _approval_requested,
    e.ApprovalGiven: _approval_given,
    e.RunStarted: _run_started,
    e.RunPhaseChanged: _run_phase,
    e.RunFinished: _run_finished,
    e.Calibrated: _calibrated,
    e.NoiseEstimated: _noise_estimated,
    e.RepairAsked: _repair_asked,
    e.HiddenScored: _hidden_scored,
    e.CertificationStarted: _certification_started,
    e.Certified: _certified,
    e.Reproduced: _reproduced,
    e.Rebased: _rebased,
    e.Judged: _judged,
    e.GuidanceQueued: _guidance_queued,
    e.GuidanceEdited: _guidance_edited,
    e.GuidanceTaken: _guidance_taken,
    e.GuidanceWithdrawn: _guidance_withdrawn,
    e.ApprovalModeChanged: _approval_mode,
    e.BaseChanged: _base_changed,
    e.PinChanged: _pin_changed,
    e.ResearcherChanged: _researcher_changed,
    e.BudgetChanged: _budget_changed,
    e.SlotsChanged: _slots_changed,
    e.ProgramChanged: _program_changed,
    e.BranchHeld: _branch_held,
    e.Noted: _noted,
}
