"""Fold of events into the State: deterministic, no I/O.

`fold` changes the State it is given; the experiments and runs inside are frozen and replaced, so a reader may keep one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from core.record import events as e
from core.record import slot_time
from core.record.events import Body, Event
from core.record.state import (
    BASELINE,
    COUNTS,
    HUMAN,
    MAX_NOTES,
    Baseline,
    EngineInfo,
    Experiment,
    Guidance,
    Note,
    Run,
    State,
)


def fold(state: State, event: Event) -> State:
    """Apply one event. An event already applied (by its number) is ignored, so a tail may overlap its prefix."""
    if event.seq > state.seq:
        slot_time.spend(state, event.time, event.body)
        if isinstance(event.body, e.EngineStarted):
            _engine_killed(state)
        state.seq, state.time = event.seq, event.time
        _fold_session(state, event.body, event.time)
    return state


def _fold_session(state: State, b: Body, time: float) -> None:
    match b:
        case e.SessionStarted():
            state.session, state.started, state.best_commit, state.timed = b, time, b.commit, b.timed
        case e.EngineStarted():
            _engine_started(state, b, time)
        case e.EngineStopped():
            if state.engine and state.engine_open:
                state.engine_seconds += max(0.0, time - state.engine.started)
            state.engine_open = False
            if state.state not in ("finished", "crashed", "stopped"):
                state.state, state.reason = "stopped", b.reason
        case e.Recovered():
            for action in b.actions:
                _note(state, time, "info", action)
        case e.StateChanged():
            state.state, state.reason, state.preparing = b.state, b.reason, ""
            if b.stop_at is not None or b.state in ("stopped", "finished"):
                state.stop_at = b.stop_at or None
        case e.Preparing():
            state.preparing = b.what
        case e.NoiseEstimated():
            state.noise = b
        case e.ApprovalModeChanged():
            state.approve = b.on
        case e.BaseChanged():
            state.base = b.experiment
        case e.PinChanged():
            _pin_changed(state, b)
        case e.BudgetChanged():
            if state.session:
                state.session = replace(state.session, budget=dict(b.budget))
        case e.ResearcherChanged():
            if state.engine:
                state.engine = replace(state.engine, researcher=b.researcher, model=b.model)
        case e.SlotsChanged():
            if state.engine:
                state.engine = replace(state.engine, slots=b.slots, aside=dict(b.aside), quiet=b.quiet)
        case e.ProgramChanged():
            if b.refused:
                _note(state, time, "warning", f"the edited program.md is not in force: {b.refused}")
            elif state.session:
                state.session = replace(state.session, program=b.program)
                state.program_changes += 1
        case e.BranchHeld():
            state.branch_held = b.words
            if b.words:
                _note(state, time, "warning", b.words)
        case e.Noted():
            _note(state, time, b.level, b.text, b.experiment)
        case e.GuidanceQueued() | e.GuidanceEdited() | e.GuidanceTaken() | e.GuidanceWithdrawn():
            _fold_guidance(state, b, time)
        case _:
            _fold_experiment(state, b, time)


def _engine_started(state: State, b: e.EngineStarted, time: float) -> None:
    state.engine = EngineInfo(
        pid=b.pid, boot_id=b.boot_id, researcher=b.researcher, model=b.model, slots=b.slots,
        sandbox=b.sandbox, sandbox_note=b.sandbox_note, device=b.device, started=time,
        conditions=b.conditions,
    )  # fmt: skip
    state.engine_open, state.state, state.reason = True, "starting", ""


def _engine_killed(state: State) -> None:
    """The time of an engine that was killed counts up to its last event."""
    if state.engine_open and state.engine:
        state.engine_seconds += max(0.0, state.time - state.engine.started)


def _pin_changed(state: State, b: e.PinChanged) -> None:
    """The best is chosen among the experiments that are not pinned; an unpinned one may be the best again."""
    state.pinned = state.pinned | {b.experiment} if b.pinned else state.pinned - {b.experiment}
    if state.base in state.pinned:
        state.base = None
    best, metric = state.leader(), state.best_metric
    better = best is not None and (metric is None or state.metric.gain(metric, best.metric or 0.0) > 0)
    if better or (b.pinned and b.experiment == state.best):
        _lead(state, best)


def _lead(state: State, best: Experiment | None) -> None:
    """Make `best` the best, as it is after the one so far is no longer."""
    if best is None or best.number == state.best:
        return
    baseline = state.baseline.metric if state.baseline else None
    state.best, state.best_metric, state.stood = best.number, best.metric, 0
    if best.number == BASELINE:
        state.best_metric = baseline
    state.best_commit = best.commit or (state.session.commit if state.session else None)


def _note(state: State, time: float, level: str, text: str, experiment: int | None = None) -> None:
    note = Note(time=time, level=level, text=text, experiment=experiment)
    state.notes = (*state.notes[-(MAX_NOTES - 1) :], note)


_Guidance = e.GuidanceQueued | e.GuidanceEdited | e.GuidanceTaken | e.GuidanceWithdrawn


def _fold_guidance(state: State, b: _Guidance, time: float) -> None:
    old = state.guidance.get(b.guidance)
    match b:
        case e.GuidanceQueued(guidance=number):
            state.guidance[number] = Guidance(id=number, text=b.text, standing=b.standing, queued=time, idea=b.idea)
            state.next_guidance = max(state.next_guidance, number + 1)
        case e.GuidanceWithdrawn():
            state.guidance.pop(b.guidance, None)
        case e.GuidanceEdited() if old:
            state.guidance[b.guidance] = replace(old, text=b.text)
        case e.GuidanceTaken() if old:
            state.guidance[b.guidance] = replace(old, taken_by=b.experiment)


_OfExperiment = (
    e.ExperimentStarted | e.ResearcherWaiting | e.ProposalRefused | e.Proposed | e.Spent | e.Committed | e.Checked
    | e.ApprovalRequested | e.ApprovalGiven | e.RunStarted | e.RunPhaseChanged | e.RunFinished | e.Calibrated
    | e.RepairAsked | e.ProposalReturned | e.QueueMoved | e.HiddenScored | e.CertificationStarted | e.Certified
    | e.Reproduced | e.Rebased | e.Judged
)  # fmt: skip


def _fold_experiment(state: State, b: _OfExperiment, time: float) -> None:
    if isinstance(b, e.Calibrated):
        _calibrated(state, b, time)
        return
    n = b.experiment
    match b:
        case e.ExperimentStarted():
            _experiment_started(state, b, time)
        case e.ResearcherWaiting():
            _change(state, n, phase="waiting", reason=b.reason)
        case e.ProposalRefused():
            _change(state, n, phase="thinking", refusals=state.experiments[n].refusals + 1, reason=b.reason)
        case e.Proposed():
            _proposed(state, b)
        case e.Spent():
            _spent(state, b)
        case e.Committed():
            _change(state, n, commit=b.commit, parent_commit=b.parent_commit, phase="checking")
            _enqueue(state, n)
        case e.Checked():
            if b.ok:
                _change(state, n, phase="queued")
        case e.ApprovalRequested():
            _change(state, n, phase="approval")
            state.approvals = (*state.approvals, n)
        case e.ApprovalGiven():
            state.approvals = tuple(a for a in state.approvals if a != n)
            if b.approved:
                _change(state, n, phase="queued")
        case e.RunStarted():
            _run_started(state, b, time)
        case e.RunPhaseChanged():
            clock: dict[str, object] = {"clock_started": time} if b.phase == "training" else {}
            _with_run(state, b, phase=b.phase, **clock)
        case e.RunFinished():
            _run_finished(state, b, time)
        case e.RepairAsked():
            _change(state, n, phase="thinking", commit=None, repairs=b.attempt, reason=b.reason)
            _dequeue(state, n)
        case e.ProposalReturned():
            returns = state.experiments[n].returns + 1
            _change(state, n, phase="thinking", commit=None, returns=returns, reason=b.reason)
            _dequeue(state, n)
        case e.QueueMoved():
            if n in state.queue:
                _dequeue(state, n)
                state.queue = (*state.queue[: b.place - 1], n, *state.queue[b.place - 1 :])
        case e.Rebased():
            _rebased(state, b)
        case e.Judged():
            _judged(state, b, time)
        case e.HiddenScored():
            _change(state, n, hidden=b.metric, hidden_gap=b.gap)
            slot_time.hidden_scored(state, b)
            if b.warning:
                _note(state, time, "warning", b.warning, n)
        case e.CertificationStarted():
            _note(state, time, "info", f"certifying #{n}: {b.planned} runs of each planned", n)
        case e.Certified():
            _change(state, n, certified=b.outcome)
            _note(state, time, "info", f"#{n} {b.outcome}: {b.reason}", n)
        case e.Reproduced():
            _note(state, time, "info" if b.within_noise else "warning", b.reason, n)
        case _:
            assert_never(b)


def _enqueue(state: State, number: int) -> None:
    """Put an experiment at the end of the queue; a person's own one before those of researchers."""
    if number in state.queue:
        return
    place = len(state.queue)
    if state.experiments[number].researcher == HUMAN:
        place = next((i for i, n in enumerate(state.queue) if state.experiments[n].researcher != HUMAN), place)
    state.queue = (*state.queue[:place], number, *state.queue[place:])


def _dequeue(state: State, number: int) -> None:
    state.queue = tuple(n for n in state.queue if n != number)


def _change(state: State, number: int, **changes: object) -> Experiment:
    state.experiments[number] = replace(state.experiments[number], **changes)  # type: ignore[arg-type]
    return state.experiments[number]


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


def _proposed(state: State, b: e.Proposed) -> None:
    model = b.model or state.experiments[b.experiment].model
    if state.engine and model:
        state.engine = replace(state.engine, model=model)
    _change(
        state, b.experiment, phase="checking", hypothesis=b.hypothesis, kind=b.kind, expected=b.expected, model=model,
        added=b.added, removed=b.removed, lines=b.lines, files=b.files,
        thinking_seconds=b.seconds, reason="", extra=dict(b.extra),
    )  # fmt: skip


def _spent(state: State, b: e.Spent) -> None:
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


def _run_started(state: State, b: e.RunStarted, time: float) -> None:
    run = Run(
        run=b.run, experiment=b.experiment, kind=b.kind, slot=b.slot, seed=b.seed, commit=b.commit, budget=b.budget,
        started=time, counts_as=b.counts_as, cut=b.cut,
    )  # fmt: skip
    changes: dict[str, object] = {"phase": "running"} if b.experiment in state.live else {}
    _change(state, b.experiment, runs=(*state.experiments[b.experiment].runs, run), **changes)
    _dequeue(state, b.experiment)
    state.running[b.run] = b.experiment
    state.next_run = max(state.next_run, b.run + 1)


def _with_run(state: State, b: e.RunPhaseChanged | e.RunFinished, **changes: object) -> None:
    runs = state.experiments[b.experiment].runs
    new = tuple(replace(r, **changes) if r.run == b.run else r for r in runs)  # type: ignore[arg-type]
    _change(state, b.experiment, runs=new)


def _run_finished(state: State, b: e.RunFinished, time: float) -> None:
    run = next(r for r in state.experiments[b.experiment].runs if r.run == b.run)
    slot_time.run_ended(state, b, run, time)
    _with_run(
        state, b, phase=None, ended=b.ended, metric=b.metric, seconds=b.seconds, on_clock=b.training_seconds,
        wall_seconds=b.wall_seconds, steps=b.steps, tokens=b.tokens, reason=b.reason,
        peak_memory=b.peak_memory, gap=b.gap, printed=b.printed, share=b.share, used=b.used,
        before_clock=b.before_clock, new_names=b.new_names, stopped_at=b.stopped_at, audit=b.audit,
    )  # fmt: skip
    if b.stopped_at is not None:
        _stopped_early(state, b)
    state.running.pop(b.run, None)
    x = state.experiments[b.experiment]
    if b.experiment in state.live:
        others = any(r.phase is not None for r in x.runs)
        _change(state, b.experiment, phase="running" if others or b.experiment == BASELINE else "queued")
        ran = any(r.ended != "abandoned" and r.kind != "reference" for r in x.runs)
        if b.ended == "abandoned" and b.experiment != BASELINE and not (others or ran):
            # It was cut off, and is the first to run again, after those that were cut off before it.
            place = next((i for i, n in enumerate(state.queue) if not state.experiments[n].runs), len(state.queue))
            state.queue = (*state.queue[:place], b.experiment, *state.queue[place:])
    elif x.values and b.metric is not None:
        # A repeat of the best or of the baseline: its number is pooled from the results that it was not chosen on.
        number = x.sample.number
        _change(state, b.experiment, metric=number)
        if b.experiment == state.best:
            state.best_metric = number
        if b.experiment == BASELINE and state.baseline:
            state.baseline = replace(state.baseline, metric=number, n=len(x.values))


def _stopped_early(state: State, b: e.RunFinished) -> None:
    """Count a run that was stopped as hopeless, or that was run to its end to see whether it was."""
    if not b.audit:
        state.stopped_early += 1
        state.saved_seconds += b.saved
    elif b.metric is not None:
        parent = state.experiments[state.experiments[b.experiment].parent]
        state.audited += 1
        least = COUNTS * (state.sigma or 0.0)
        state.audits_wrong += parent.metric is not None and state.metric.gain(parent.metric, b.metric) > least


def _calibrated(state: State, b: e.Calibrated, time: float) -> None:
    state.baseline = Baseline(b.metric, b.sigma, len(b.values))
    state.timed = state.timed or b.timed
    if state.best == BASELINE:
        state.best_metric = b.metric
    _change(state, BASELINE, metric=b.metric, sigma=b.sigma, delta=0.0, phase="judged", ended=time,
            commit=state.session.commit if state.session else None)  # fmt: skip
    state.live = tuple(n for n in state.live if n != BASELINE)


def _rebased(state: State, b: e.Rebased) -> None:
    old = state.experiments[b.experiment]
    _change(state, b.experiment, parent=b.parent, parent_commit=b.parent_commit, commit=b.commit,
            phase="checking" if b.waiting else "queued", rebased=old.rebased + 1,
            forked=b.forked if b.waiting else old.forked)  # fmt: skip
    if b.experiment not in state.live:  # it was discarded, against a best that was taken back
        state.verdicts[old.verdict or ""] -= 1
        _change(state, b.experiment, verdict=None, ended=None)
        state.live = (*state.live, b.experiment)


def _judged(state: State, b: e.Judged, time: float) -> None:
    old = state.experiments[b.experiment]
    _change(
        state, b.experiment, verdict=b.verdict, metric=b.metric, delta=b.delta, reason=b.reason, phase="judged",
        ended=time, commit=b.commit or old.commit, chosen_on=b.runs,
        claim=b.claim, claim_runs=b.claim_runs, claim_results=b.runs, overtook=b.overtook,
        sigma=state.sigma if b.metric is not None else None,
    )  # fmt: skip
    if old.verdict:
        state.verdicts[old.verdict] -= 1
    state.verdicts[b.verdict] = state.verdicts.get(b.verdict, 0) + 1
    if b.verdict == "provisional":  # not final: it is repeated
        _change(state, b.experiment, phase="queued")
        if b.experiment not in state.live:
            state.live = (*state.live, b.experiment)  # it was discarded, and is judged again
        return
    state.live = tuple(n for n in state.live if n != b.experiment)
    _dequeue(state, b.experiment)
    state.approvals = tuple(n for n in state.approvals if n != b.experiment)
    state.stood += b.metric is not None
    if b.experiment == state.best and b.verdict != "kept":  # its own runs, looked at again, do not bear it out
        _lead(state, state.leader(apart_from=b.experiment))
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
