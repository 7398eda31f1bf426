"""State: what a session is, folded from its events by `core.record.fold`.

The same events give the same State on disk, in the engine and on every screen. Long texts (diff, rationale, end of
log) stay in the events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.record import events as e
from core.record.events import SessionState, Verdict
from core.record.evidence import Claim, Prior, Sample
from core.record.metric import Metric
from core.record.proposal import KINDS, kind_of

BASELINE = 0  # the experiment number of the unchanged code
HUMAN = "human"  # the researcher of a person's own experiments


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
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
    forked: bool = False  # built on what a person chose; judged against the best all the same
    mends: int = 0
    chosen_on: int = 0  # how many of its results made it lead; the later ones are free of that luck
    claim: float | None = None  # what it may claim, how many runs that is worth, and how many of its results it holds
    claim_runs: float = 0.0
    claim_results: int = 0
    lines: int = 0  # change in lines of code against the parent
    hidden: float | None = None  # the metric on the hidden slice, which decides nothing
    hidden_gap: float | None = None
    certified: str = ""  # certified, refuted or undecided, once asked
    ended: float | None = None
    usd: float = 0.0
    usd_unknown: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    runs: tuple[Run, ...] = ()
    extra: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:  # a log of before, with `optimiser`, counts together with those of today
            object.__setattr__(self, "kind", kind_of(self.kind) or self.kind)

    @property
    def run_seconds(self) -> float:
        return sum(r.seconds for r in self.runs)

    @property
    def values(self) -> tuple[float, ...]:
        """The results that count for its present commit: all of them, pooled, never the best of them."""
        kinds = ("baseline", "candidate", "repeat")
        return tuple(
            r.metric for r in self.runs if r.metric is not None and r.kind in kinds and r.commit == self.commit
        )

    @property
    def sample(self) -> Sample:
        """Those results as the decision rule takes them. Raises ValueError without any."""
        claim = None if self.claim is None else Claim(self.claim, self.claim_runs, self.claim_results)
        return Sample(self.values, self.chosen_on, claim)

    @property
    def has_result(self) -> bool:
        """Whether the last run of its present commit ended with something to judge."""
        runs = [r for r in self.runs if r.commit == self.commit]
        return bool(runs) and runs[-1].phase is None and runs[-1].ended not in (None, "abandoned")

    @property
    def live_run(self) -> Run | None:
        return next((r for r in reversed(self.runs) if r.phase is not None), None)


@dataclass(frozen=True, slots=True)
class Baseline:
    metric: float
    sigma: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseLevel:
    """σ with its interval and degrees of freedom, pooled over every repeat so far."""

    sigma: float
    low: float
    high: float
    df: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """Words from the person. Taken guidance that is `standing` stays in force until withdrawn.

    An `idea` is to be tried as an experiment of its own.
    """

    id: int
    text: str
    standing: bool
    queued: float
    taken_by: int | None = None
    idea: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    time: float
    level: str
    text: str
    experiment: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(slots=True, kw_only=True)
class State:
    """Everything a screen, a prompt or the loop may ask about a session. Times are Unix seconds."""

    seq: int = 0
    time: float = 0.0
    started: float = 0.0
    session: e.SessionStarted | None = None
    state: SessionState = "starting"
    reason: str = ""
    preparing: str = ""
    stop_at: int | None = None  # a person wants it to stop once so many experiments have their last word
    engine: EngineInfo | None = None  # the engine that last held the session; alive or not is asked of its lock
    engine_seconds: float = 0.0  # of engines that ended
    engine_open: bool = False  # started, and no stop was logged
    baseline: Baseline | None = None
    noise: NoiseLevel | None = None
    best: int = BASELINE
    best_metric: float | None = None
    best_commit: str | None = None
    stood: int = 0  # candidates with a result that the best has stood against
    experiments: dict[int, Experiment] = field(default_factory=dict)
    guidance: dict[int, Guidance] = field(default_factory=dict)
    approvals: tuple[int, ...] = ()
    approve: bool = False  # each proposal waits for a person
    base: int | None = None  # what proposals build on by a person's choice; None: on the best
    pinned: frozenset[int] = frozenset()  # never built on
    branch_held: str = ""  # why the session's branch is not at the best
    program_changes: int = 0
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
    running: dict[int, int] = field(default_factory=dict)  # run -> experiment, of runs that have not ended
    live: tuple[int, ...] = ()  # experiments without a verdict (the baseline too until it is calibrated)

    @property
    def metric(self) -> Metric:
        if self.session is None:
            return Metric("metric")
        direction: Any = self.session.direction
        return Metric(self.session.metric, direction, self.session.self_reported)

    @property
    def researcher(self) -> str:
        """Who proposes; "" before an engine has said."""
        return self.engine.researcher if self.engine else ""

    @property
    def model(self) -> str | None:
        return self.engine.model if self.engine else None

    @property
    def slots(self) -> tuple[str, ...]:
        return self.engine.slots if self.engine else ()

    @property
    def program(self) -> str:
        """program.md as it holds now."""
        return self.session.program if self.session else ""

    @property
    def budget(self) -> Mapping[str, float | int | None]:
        """What the session may spend as it holds now: `hours`, `experiments`, `usd`; None is no limit."""
        return self.session.budget if self.session else {}

    @property
    def parent(self) -> int:
        """The experiment that the next proposal builds on."""
        return self.best if self.base is None else self.base

    @property
    def sigma(self) -> float | None:
        """The noise as known by now; the baseline's own spread until repeats refine it."""
        if self.noise is not None:
            return self.noise.sigma
        return self.baseline.sigma if self.baseline else None

    @property
    def prior(self) -> Prior | None:
        """What an earlier session knew of the noise."""
        known = self.session is not None and self.session.prior_df > 0
        return Prior(self.session.prior_sigma, self.session.prior_df) if self.session and known else None

    @property
    def next_experiment(self) -> int:
        return max(self.experiments, default=BASELINE) + 1

    @property
    def judged(self) -> int:
        """Experiments with their last word."""
        return sum(n for verdict, n in self.verdicts.items() if verdict != "provisional")

    @property
    def total(self) -> int:
        """Experiments begun, the baseline not counted."""
        return len(self.experiments) - (BASELINE in self.experiments)

    def seconds(self, now: float) -> float:
        """Time an engine has held this session, up to `now` if one still does."""
        running = max(0.0, now - self.engine.started) if self.engine and self.engine_open else 0.0
        return self.engine_seconds + running

    def live_runs(self) -> list[Run]:
        return [
            r for n in dict.fromkeys(self.running.values()) for r in self.experiments[n].runs if r.phase is not None
        ]

    def in_force(self) -> list[Guidance]:
        """What the next proposal must heed: guidance that is queued or standing, and the oldest idea not tried yet.

        Ideas go one at a time: each is an experiment of its own.
        """
        heard = [g for g in self.guidance.values() if g.taken_by is None or g.standing]
        first = next((g.id for g in heard if g.idea), None)
        return [g for g in heard if not g.idea or g.id == first]


def who(experiment: int) -> str:
    """An experiment as sentences name it."""
    return "the baseline" if experiment == BASELINE else f"#{experiment}"
