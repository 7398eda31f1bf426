"""State: what a session is, folded from its events.

`fold(state, event)` is deterministic and does no I/O: the same events give the same State on disk, in the engine and
on every screen. It owns the State it is given and returns it changed; experiments and runs inside are frozen and
replaced, so a reader may hold on to one. Long texts (diff, rationale, end of log) stay in the events.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from core.record import events as e
from core.record.events import Event, SessionState, Verdict
from core.record.metric import Metric

BASELINE = 0  # the experiment number of the unchanged code


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of the training command. `phase` is None once it has ended."""

    run: int
    experiment: int
    kind: e.RunKind
    slot: str
    seed: int
    commit: str
    budget: str
    started: float
    phase: e.RunPhase | None = "starting"
    clock_started: float | None = None
    ended: e.Ended | None = None
    metric: float | None = None
    seconds: float = 0.0
    wall_seconds: float = 0.0
    steps: int | None = None
    tokens: int | None = None
    reason: str = ""
    peak_memory: int | None = None
    gap: float | None = None


@dataclass(frozen=True, slots=True)
class Experiment:
    """One hypothesis, its change, its runs and its verdict. `phase` is a word for the screen until a verdict falls."""

    number: int
    parent: int
    parent_commit: str
    researcher: str
    model: str | None
    started: float
    phase: str = "thinking"  # thinking, waiting, checking, approval, queued, running, judged
    verdict: Verdict | None = None
    hypothesis: str = ""
    kind: str = "other"
    expected: float | None = None
    added: int = 0
    removed: int = 0
    files: tuple[str, ...] = ()
    thinking_seconds: float = 0.0
    commit: str | None = None
    metric: float | None = None
    sigma: float | None = None
    delta: float | None = None
    reason: str = ""
    refusals: int = 0
    rebased: int = 0
    ended: float | None = None
    usd: float = 0.0
    usd_unknown: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    runs: tuple[Run, ...] = ()
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def run_seconds(self) -> float:
        return sum(r.seconds for r in self.runs)

    @property
    def live_run(self) -> Run | None:
        return next((r for r in reversed(self.runs) if r.phase is not None), None)


@dataclass(frozen=True, slots=True)
class Baseline:
    metric: float
    sigma: float
    n: int


@dataclass(frozen=True, slots=True)
class Guidance:
    """Words from the person. Taken guidance that is `standing` stays in force until withdrawn."""

    id: int
    text: str
    standing: bool
    queued: float
    taken_by: int | None = None


@dataclass(frozen=True, slots=True)
class Note:
    time: float
    level: str
    text: str
    experiment: int | None = None


@dataclass(frozen=True, slots=True)
class EngineInfo:
    pid: int
    boot_id: str
    researcher: str
    model: str | None
    slots: tuple[str, ...]
    sandbox: str
    sandbox_note: str
    device: str
    started: float


NOTES_KEPT = 100


@dataclass(slots=True)
class State:
    """Everything a screen, a prompt or the loop may ask about a session. Times are Unix seconds."""

    seq: int = 0
    time: float = 0.0
    started: float = 0.0
    session: e.SessionStarted | None = None
    state: SessionState = "starting"
    reason: str = ""
    preparing: str = ""
    engine: EngineInfo | None = None  # the engine that last held the session; alive or not is asked of its lock
    engine_seconds: float = 0.0  # of engines that ended
    engine_open: bool = False  # started, and no stop was logged
    baseline: Baseline | None = None
    best: int = BASELINE
    best_metric: float | None = None
    best_commit: str | None = None
    experiments: dict[int, Experiment] = field(default_factory=dict)
    guidance: dict[int, Guidance] = field(default_factory=dict)
    approvals: tuple[int, ...] = ()
    notes: tuple[Note, ...] = ()
    next_run: int = 1
    next_guidance: int = 1
    verdicts: dict[str, int] = field(default_factory=dict)
    usd: float = 0.0
    usd_unknown: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    busy_seconds: float = 0.0  # clock seconds of ended runs, over all slots
    live: tuple[int, ...] = ()  # experiments without a verdict (the baseline too until it is calibrated)

    @property
    def metric(self) -> Metric:
        if self.session is None:
            return Metric("metric")
        direction: Any = self.session.direction
        return Metric(self.session.metric, direction, self.session.self_reported)

    @property
    def sigma(self) -> float | None:
        return self.baseline.sigma if self.baseline else None

    @property
    def next_experiment(self) -> int:
        return max(self.experiments, default=BASELINE) + 1

    @property
    def total(self) -> int:
        """Experiments begun, the baseline not counted."""
        return len(self.experiments) - (BASELINE in self.experiments)

    def seconds(self, now: float) -> float:
        """Time an engine has held this session, up to `now` if one still does."""
        running = max(0.0, now - self.engine.started) if self.engine and self.engine_open else 0.0
        return self.engine_seconds + running

    def live_runs(self) -> list[Run]:
        return [r for n in self.live for r in self.experiments[n].runs if r.phase is not None]

    def in_force(self) -> list[Guidance]:
        """Guidance that the next proposal must heed: queued, or standing."""
        return [g for g in self.guidance.values() if g.taken_by is None or g.standing]


def fold(state: State, event: Event) -> State:
    """Apply one event. Events already applied (by number) are ignored, so a tail may overlap its prefix."""
    if event.seq <= state.seq:
        return state
    state.seq, state.time = event.seq, event.time
    _HANDLERS[type(event.body)](state, event.body, event.time)
    return state


def _put(state: State, experiment: Experiment) -> None:
    state.experiments[experiment.number] = experiment


def _change(state: State, number: int, **changes: object) -> Experiment:
    experiment = replace(state.experiments[number], **changes)  # type: ignore[arg-type]
    _put(state, experiment)
    return experiment


def _session_started(state: State, b: e.SessionStarted, time: float) -> None:
    state.session, state.started = b, time
    state.best_commit = b.commit


def _engine_started(state: State, b: e.EngineStarted, time: float) -> None:
    if state.engine_open and state.engine:
        # The last engine died without a word: it is credited up to the last thing it said.
        state.engine_seconds += max(0.0, state_last_word(state) - state.engine.started)
    state.engine = EngineInfo(
        b.pid, b.boot_id, b.researcher, b.model, b.slots, b.sandbox, b.sandbox_note, b.device, time
    )
    state.engine_open, state.state, state.reason = True, "starting", ""


def state_last_word(state: State) -> float:
    """Time of the newest thing known to have happened under the engine that is recorded as open."""
    times = [x.ended or x.started for x in list(state.experiments.values())[-4:]]
    times += [r.started + r.wall_seconds for x in list(state.experiments.values())[-4:] for r in x.runs]
    return max([state.engine.started if state.engine else 0.0, *times])


def _engine_stopped(state: State, b: e.EngineStopped, time: float) -> None:
    if state.engine and state.engine_open:
        state.engine_seconds += max(0.0, time - state.engine.started)
    state.engine_open = False
    if state.state not in ("finished", "crashed"):
        state.state, state.reason = "stopped", b.reason


def _recovered(state: State, b: e.Recovered, time: float) -> None:
    for action in b.actions:
        _note(state, Note(time, "info", action))


def _state_changed(state: State, b: e.StateChanged, time: float) -> None:
    state.state, state.reason, state.preparing = b.state, b.reason, ""


def _preparing(state: State, b: e.Preparing, time: float) -> None:
    state.preparing = b.what


def _experiment_started(state: State, b: e.ExperimentStarted, time: float) -> None:
    if b.experiment in state.live:  # begun by an engine that died while thinking: what it cost stays counted
        changes = {"parent": b.parent, "parent_commit": b.parent_commit, "researcher": b.researcher, "model": b.model}
        _change(state, b.experiment, phase="thinking", reason="", **changes)
        return
    phase = "running" if b.experiment == BASELINE else "thinking"
    hypothesis = "the unchanged code" if b.experiment == BASELINE else ""
    _put(
        state,
        Experiment(b.experiment, b.parent, b.parent_commit, b.researcher, b.model, time, phase, hypothesis=hypothesis),
    )
    if b.experiment not in state.live:
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
        added=b.added, removed=b.removed, files=b.files, thinking_seconds=b.seconds, reason="", extra=dict(b.extra),
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
    run = Run(b.run, b.experiment, b.kind, b.slot, b.seed, b.commit, b.budget, time)
    _change(state, b.experiment, phase="running", runs=(*state.experiments[b.experiment].runs, run))
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
    if state.experiments[b.experiment].verdict is None:
        _change(state, b.experiment, phase="running" if b.experiment == BASELINE else "queued")


def _calibrated(state: State, b: e.Calibrated, time: float) -> None:
    state.baseline = Baseline(b.metric, b.sigma, len(b.values))
    if state.best == BASELINE:
        state.best_metric = b.metric
    _change(state, BASELINE, metric=b.metric, sigma=b.sigma, delta=0.0, phase="judged", ended=time,
            commit=state.session.commit if state.session else None)  # fmt: skip
    state.live = tuple(n for n in state.live if n != BASELINE)


def _rebased(state: State, b: e.Rebased, time: float) -> None:
    old = state.experiments[b.experiment]
    _change(state, b.experiment, parent=b.parent, parent_commit=b.parent_commit, commit=b.commit, phase="queued",
            rebased=old.rebased + 1)  # fmt: skip


def _judged(state: State, b: e.Judged, time: float) -> None:
    old = state.experiments[b.experiment]
    _change(
        state, b.experiment, verdict=b.verdict, metric=b.metric, delta=b.delta, reason=b.reason, phase="judged",
        ended=time, commit=b.commit or old.commit, sigma=state.sigma if b.metric is not None else None,
    )  # fmt: skip
    if old.verdict:
        state.verdicts[old.verdict] -= 1
    state.verdicts[b.verdict] = state.verdicts.get(b.verdict, 0) + 1
    state.live = tuple(n for n in state.live if n != b.experiment)
    state.approvals = tuple(n for n in state.approvals if n != b.experiment)
    if b.verdict == "kept" and b.metric is not None:
        state.best, state.best_metric = b.experiment, b.metric
        state.best_commit = b.commit or old.commit


def _guidance_queued(state: State, b: e.GuidanceQueued, time: float) -> None:
    state.guidance[b.guidance] = Guidance(b.guidance, b.text, b.standing, time)
    state.next_guidance = max(state.next_guidance, b.guidance + 1)


def _guidance_taken(state: State, b: e.GuidanceTaken, time: float) -> None:
    old = state.guidance.get(b.guidance)
    if old:
        state.guidance[b.guidance] = replace(old, taken_by=b.experiment)


def _guidance_withdrawn(state: State, b: e.GuidanceWithdrawn, time: float) -> None:
    state.guidance.pop(b.guidance, None)


def _noted(state: State, b: e.Noted, time: float) -> None:
    _note(state, Note(time, b.level, b.text, b.experiment))


def _note(state: State, note: Note) -> None:
    state.notes = (*state.notes[-(NOTES_KEPT - 1) :], note)


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
    e.Rebased: _rebased,
    e.Judged: _judged,
    e.GuidanceQueued: _guidance_queued,
    e.GuidanceTaken: _guidance_taken,
    e.GuidanceWithdrawn: _guidance_withdrawn,
    e.Noted: _noted,
}
