"""State of a session, folded from its events by `core.record.fold`.

The same events give the same State on disk, in the engine and on every screen. Long texts (diff, rationale, end of
a run's output) stay in the events.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from core.ordered import Order, Ordered
from core.record import events as e
from core.record.events import SessionState, Verdict
from core.record.metric import Metric
from core.record.proposal import KINDS, kind_of
from core.record.sample import Claim, Prior, Sample

BASELINE = 0  # experiment number of the unchanged code
COUNTS = 1.0  # sigmas by which a first result must be better to count: what gains less is discarded at once
NO_BASELINE = "the baseline gave no number that counts, so there is nothing to compare with"  # reason of a crash
HUMAN = "human"  # researcher of a person's own experiments
MAX_NOTES = 100


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
    on_clock: float = 0.0  # the same by the wall
    wall_seconds: float = 0.0
    steps: int | None = None
    tokens: int | None = None
    reason: str = ""
    peak_memory: int | None = None
    gap: float | None = None
    printed: str = ""
    counts_as: float | None = None  # of a reference run: the number of the code that it measures again
    share: float | None = None  # of its processors that the rest of the machine left it on its clock
    used: float | None = None  # seconds of its time budget
    before_clock: float | None = None  # processor seconds
    new_names: int | None = None  # that the kernel learned while it ran and was scored
    cut: float = 0.0  # seconds by which its clock was shorter than its budget
    stopped_at: float | None = None  # share of its time after which it was, or as an audit would have been, stopped
    audit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One hypothesis, its change, its runs and its verdict. `phase` is for the screen, until there is a verdict."""

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
    forked: bool = False  # built on the parent that a person chose; still judged against the best
    repairs: int = 0  # proposals after a crash of its run
    returns: int = 0  # how often it went back to the researcher from the queue, since the best had changed
    chosen_on: int = 0  # how many of its results it was kept on; the later ones have no selection bias
    claim: float | None = None  # number it may claim, its worth in runs, and how many of its results it includes
    claim_runs: float = 0.0
    claim_results: int = 0
    overtook: int = 0  # the best that it beat as it stands, kept while it ran: to be merged with it; 0: none
    lines: int = 0  # change in lines of code against the parent
    hidden: float | None = None  # the metric on the hidden slice
    hidden_gap: float | None = None
    certified: str = ""  # certified, refuted or undecided, once tested
    ended: float | None = None
    usd: float = 0.0
    usd_unknown: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    runs: tuple[Run, ...] = ()
    extra: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:  # an older log may have `optimiser`
            object.__setattr__(self, "kind", kind_of(self.kind) or self.kind)

    @property
    def run_seconds(self) -> float:
        """Of its runs' clocks, which may be processor seconds."""
        return sum(r.seconds for r in self.runs)

    @property
    def values(self) -> tuple[float, ...]:
        """The results that count for its present commit: all of them, as `counted`."""
        kinds = ("baseline", "candidate", "repeat")
        return tuple(
            self.counted(r, r.metric)
            for r in self.runs
            if r.metric is not None and r.kind in kinds and r.commit == self.commit
        )

    def counted(self, run: Run, metric: float) -> float:
        """A run's result, as it counts. Of a time or a speed: what it would have been beside the earlier runs of the
        code in its reference run, the last one before it in its slot. What slows both down cancels.
        """
        reference: Run | None = None
        for other in self.runs:
            if other.run >= run.run:
                break
            if other.kind == "reference" and other.slot == run.slot:
                reference = other
        if reference is None or not reference.metric or reference.counts_as is None:
            return metric
        return reference.counts_as * metric / reference.metric

    @property
    def sample(self) -> Sample:
        """Those results for the decision rule. Raises ValueError without any."""
        claim = None if self.claim is None else Claim(self.claim, self.claim_runs, self.claim_results)
        return Sample(self.values, self.chosen_on, claim)

    @property
    def has_result(self) -> bool:
        """Whether the last run of its present commit ended, and can be judged."""
        runs = [r for r in self.runs if r.commit == self.commit]
        return bool(runs) and runs[-1].phase is None and runs[-1].ended not in (None, "abandoned")

    @property
    def live_run(self) -> Run | None:
        return next((r for r in reversed(self.runs) if r.phase is not None), None)


def _kept(x: Experiment, sign: int) -> float | None:
    return sign * x.metric if x.verdict == "kept" and x.metric is not None and x.metric == x.metric else None


# Orders of experiments: the kept ones, the best result first, by the direction of the metric; and those that came to a
# change or were refused one.
KEPT: Mapping[str, Order[Experiment]] = {
    "min": Order(lambda x: _kept(x, 1)),
    "max": Order(lambda x: _kept(x, -1)),
}
TRIED: Order[Experiment] = Order(
    lambda x: 0 if x.number != BASELINE and (x.commit or x.verdict not in (None, "abandoned", "skipped")) else None
)


@dataclass(frozen=True, slots=True)
class Baseline:
    metric: float
    sigma: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """Guidance from the person. `standing`: in force until withdrawn; `idea`: to be tried as its own experiment."""

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
    conditions: tuple[str, ...] = ()
    aside: Mapping[str, str] = field(default_factory=dict)  # slots whose card does not work, and why
    quiet: tuple[str, ...] = ()  # slots that get no run while something else needs the memory of their card


@dataclass(slots=True, kw_only=True)
class HeldTime:
    """Seconds that a live run has taken of its slot, by what they were spent on. `unseen`: while no engine watched, up
    to `unseen_until` (Unix seconds).
    """

    spent: dict[str, float] = field(default_factory=dict)
    unseen: dict[str, float] = field(default_factory=dict)
    unseen_until: float = 0.0


@dataclass(slots=True, kw_only=True)
class SlotTime:
    """Seconds of a slot by what they were spent on (`core.record.slot_time`), without those of its live runs, which
    are `held` by run.
    """

    spent: dict[str, float] = field(default_factory=dict)
    held: dict[int, HeldTime] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class State:
    """A session as screens, prompts and the loop read it. Times are Unix seconds."""

    seq: int = 0
    time: float = 0.0
    started: float = 0.0
    session: e.SessionStarted | None = None
    state: SessionState = "starting"
    reason: str = ""
    preparing: str = ""
    stop_at: int | None = None  # stop at so many experiments with a final verdict
    engine: EngineInfo | None = None  # the last one; the session's lock shows whether it is alive
    engine_seconds: float = 0.0  # of engines that ended
    engine_open: bool = False  # started, and no stop was logged
    baseline: Baseline | None = None
    timed: bool = False  # the metric is a time or a speed
    noise: e.NoiseEstimated | None = None
    best: int = BASELINE
    best_metric: float | None = None
    best_commit: str | None = None
    stood: int = 0  # candidates with a result since the best was kept
    experiments: Ordered[Experiment] = field(default_factory=Ordered)
    guidance: dict[int, Guidance] = field(default_factory=dict)
    approvals: tuple[int, ...] = ()
    approve: bool = False  # each proposal waits for a person
    base: int | None = None  # parent of proposals by a person's choice; None: the best
    pinned: frozenset[int] = frozenset()  # never a parent, never the best
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
    slot_times: dict[str, SlotTime] = field(default_factory=dict)  # by slot, as of the last event
    device_hours: float = 0.0  # of all devices, while engines held the session
    device_usd: float = 0.0  # what they cost at the price of program.md
    stopped_early: int = 0  # runs stopped as hopeless
    saved_seconds: float = 0.0  # of the slots, by these stops
    audited: int = 0  # hopeless runs that were run to their end, and gave a number
    audits_wrong: int = 0  # of these, how many ended better than what they were made from, by COUNTS sigmas
    running: dict[int, int] = field(default_factory=dict)  # run -> experiment, of runs that have not ended
    live: tuple[int, ...] = ()  # experiments without a verdict (the baseline too until it is calibrated)
    queue: tuple[int, ...] = ()  # committed experiments that have not run, in the order in which slots take them

    @property
    def metric(self) -> Metric:
        if self.session is None:
            return Metric("metric")
        direction: Any = self.session.direction
        return Metric(self.session.metric, direction, self.session.self_reported)

    @property
    def researcher(self) -> str:
        """Name of the researcher; "" before an engine has started."""
        return self.engine.researcher if self.engine else ""

    @property
    def model(self) -> str | None:
        return self.engine.model if self.engine else None

    @property
    def slots(self) -> tuple[str, ...]:
        return self.engine.slots if self.engine else ()

    @property
    def aside(self) -> Mapping[str, str]:
        """Slots that get no run because their card does not work, and why."""
        return self.engine.aside if self.engine else {}

    @property
    def program(self) -> str:
        """Text of the program.md in force."""
        return self.session.program if self.session else ""

    @property
    def budget(self) -> Mapping[str, float | int | None]:
        """Budget in force: `hours`, `experiments`, `usd` (None: no limit), and the price `device_usd_per_hour`."""
        return self.session.budget if self.session else {}

    @property
    def parent(self) -> int:
        """The experiment that the next proposal builds on."""
        return self.best if self.base is None else self.base

    @property
    def ready(self) -> tuple[int, ...]:
        """The queue without the experiments that wait for a person's approval."""
        return tuple(n for n in self.queue if n not in self.approvals)

    @property
    def sigma(self) -> float | None:
        """Sigma of one run, pooled over every repeat so far; None before the baseline is known."""
        return self.noise.sigma if self.noise else None

    @property
    def prior(self) -> Prior | None:
        """Prior of sigma from an earlier session."""
        session = self.session
        return Prior(session.prior_sigma, session.prior_df) if session and session.prior_df > 0 else None

    @property
    def next_experiment(self) -> int:
        return max(BASELINE, self.experiments.highest) + 1

    @property
    def judged(self) -> int:
        """Number of experiments with a final verdict."""
        return sum(n for verdict, n in self.verdicts.items() if verdict != "provisional")

    @property
    def total(self) -> int:
        """Number of experiments begun, without the baseline."""
        return self.experiments.size - (BASELINE in self.experiments)

    @property
    def tried(self) -> int:
        """Number of experiments that came to a change or were refused one; none before there is a baseline."""
        return len(self.experiments.places(TRIED)) if self.baseline is not None else 0

    @property
    def failed_start(self) -> bool:
        """Whether the session crashed before its first verdict: there is nothing to show, export or build on."""
        judged = any(n for word, n in self.verdicts.items() if word != "abandoned")
        return self.state == "crashed" and (self.baseline is None or not judged)

    def copy(self) -> State:
        """A State that stays the same while this one is folded: its records are frozen, its tables are copied."""
        return replace(
            self,
            experiments=self.experiments.copy(),
            guidance=dict(self.guidance),
            verdicts=dict(self.verdicts),
            running=dict(self.running),
            slot_times=deepcopy(self.slot_times),
        )

    def seconds(self, now: float) -> float:
        """Seconds that engines held this session, up to `now` if one still does."""
        running = max(0.0, now - self.engine.started) if self.engine and self.engine_open else 0.0
        return self.engine_seconds + running

    def live_runs(self) -> list[Run]:
        return [
            r for n in dict.fromkeys(self.running.values()) for r in self.experiments[n].runs if r.phase is not None
        ]

    def leader(self, *, apart_from: int | None = None) -> Experiment | None:
        """The best of the baseline and the kept experiments that are not pinned; `apart_from`: without this one."""
        found = self.experiments.get(BASELINE)
        metric = self.baseline.metric if self.baseline else None
        kept = self.experiments.places(KEPT[self.metric.direction])
        number = next((n for _, n in kept if n not in self.pinned and n != apart_from), None)
        best = None if number is None else self.experiments[number]
        if best is not None and best.metric is not None:
            return best if metric is None or self.metric.gain(metric, best.metric) > 0 else found
        return found

    def in_force(self, held: Collection[int] = ()) -> list[Guidance]:
        """Guidance for the next proposal: queued or standing, and the oldest idea that no experiment has taken.

        Ideas go one at a time: each is an experiment of its own. `held`: guidance that is not standing, and that a
        proposal in the making has.
        """
        found = [g for g in self.guidance.values() if g.standing or (g.taken_by is None and g.id not in held)]
        idea = next((g for g in found if g.idea), None)
        return [g for g in found if g is idea or not g.idea]


def who(experiment: int) -> str:
    """Name of an experiment within a sentence."""
    return "the baseline" if experiment == BASELINE else f"#{experiment}"
