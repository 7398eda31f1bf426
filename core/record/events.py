"""Events: every fact of a session, as one union of frozen classes.

The same classes are written to disk, sent over the socket and folded into the State that the screen shows.
A new field with a default is compatible; any other change raises `PROTOCOL` in `wire.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SessionState = Literal["starting", "running", "paused", "stopping", "stopped", "finished", "crashed"]
Verdict = Literal["kept", "provisional", "discarded", "crashed", "pruned", "rejected", "skipped", "abandoned"]
VERDICTS: tuple[Verdict, ...] = (
    "kept", "provisional", "discarded", "crashed", "pruned", "rejected", "skipped", "abandoned",
)  # fmt: skip
RunKind = Literal[
    "warmup", "baseline", "reference", "candidate", "repeat", "ablation", "transfer", "certify", "reproduce"
]
RunPhase = Literal["starting", "checkout", "training", "saving", "scoring"]
Ended = Literal["done", "crashed", "overtime", "killed", "startup_timeout", "resources", "rejected", "abandoned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted:
    """First event of a session: its settings as resolved from program.md, the command line and the repository."""

    session: str
    project: str  # absolute path of the folder that holds program.md
    branch: str
    commit: str  # where the session's branch starts
    metric: str
    direction: str
    self_reported: bool
    run_budget: str
    budget: Mapping[str, float | int | None]
    edit: tuple[str, ...]
    seed: int
    version: str
    program: str = ""  # program.md as started
    prior_sigma: float = 0.0  # of one run in the earlier session `prior_from`, taken for `prior_df` repeats of this one
    prior_df: float = 0.0
    prior_from: str = ""
    timed: bool = False  # the metric is a time or a speed: candidates are measured beside the best
    threads: int = 0  # of a run; 0: one in a CPU slot, a share of the cores with a GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStarted:
    """An engine took the session. `sandbox`: letter of the tier; `sandbox_note`: what the tier does not cover."""

    pid: int
    boot_id: str
    researcher: str
    model: str | None
    slots: tuple[str, ...]
    sandbox: str
    sandbox_note: str = ""
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)  # of software that results may depend on
    conditions: tuple[str, ...] = ()  # of runs, in words: their threads, and what a time or a speed needs


@dataclass(frozen=True, slots=True)
class EngineStopped:
    reason: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """Repairs made by a starting engine, so that runs and git agree with the log after a crash."""

    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StateChanged:
    """`stop_at`: the session stops at so many experiments with a final verdict; 0: no such limit; None: unchanged."""

    state: SessionState
    reason: str = ""
    stop_at: int | None = None


@dataclass(frozen=True, slots=True)
class Preparing:
    """A long step before the first run (data, pristine checkout) began; "" once it is over.

    The end says what was sealed: a hash of it all, and of each place (`pristine`, or a path) by its name.
    """

    what: str
    seal: str = ""
    sealed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentStarted:
    """A researcher began to think. Experiment 0 is the baseline."""

    experiment: int
    parent: int
    parent_commit: str
    researcher: str
    model: str | None = None
    forked: bool = False  # built on the parent that a person chose; still judged against the best


@dataclass(frozen=True, slots=True, kw_only=True)
class ResearcherWaiting:
    """The researcher waits (rate limit, network); `seconds` until the next attempt."""

    experiment: int
    reason: str
    seconds: float
    attempt: int


@dataclass(frozen=True, slots=True)
class ProposalRefused:
    """A proposal was refused before it took any device time; the reason went back to the researcher."""

    experiment: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    experiment: int
    hypothesis: str
    rationale: str
    expected: float | None
    kind: str
    diff: str  # unified diff against the parent
    files: tuple[str, ...]
    added: int
    removed: int
    seconds: float  # spent thinking
    extra: Mapping[str, Any] = field(default_factory=dict)
    edits: tuple[Mapping[str, Any], ...] = ()
    model: str | None = None  # that answered; a default model is known only from its answer
    lines: int = 0  # change in lines of code, counted on the syntax tree; negative: simpler


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Tokens and dollars used for an experiment. `usd` None: price unknown."""

    experiment: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    usd: float | None


@dataclass(frozen=True, slots=True)
class Committed:
    """The change is a commit, reachable at refs/autoresearch/<session>/<experiment>."""

    experiment: int
    commit: str
    parent_commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Result of a short check before the run (parse, smoke, one of [checks]). A failure leads to a verdict."""

    experiment: int
    name: str
    ok: bool
    seconds: float
    output: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    run: int
    experiment: int
    kind: RunKind
    slot: str
    seed: int
    commit: str
    budget: str
    counts_as: float | None = None  # of a reference run: the number of the code that it measures again
    cut: float = 0.0  # seconds by which its clock is shorter than its budget, since it used more before


@dataclass(frozen=True, slots=True)
class RunPhaseChanged:
    run: int
    experiment: int
    phase: RunPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """A run ended. `seconds`: of its clock, whose kind is in its budget; `on_clock`: the same by the wall (None: as
    `seconds`); `wall_seconds`: from process start to score; `steps`: self-reported.
    """

    run: int
    experiment: int
    ended: Ended
    metric: float | None
    seconds: float
    wall_seconds: float
    exit_code: int | None = None
    steps: int | None = None
    tokens: int | None = None
    reason: str = ""
    log_tail: str = ""
    peak_memory: int | None = None  # bytes, of the process tree
    probes: Mapping[str, Any] = field(default_factory=dict)
    gap: float | None = None  # seconds between the previous run's end on this slot and this run's clock
    device: Mapping[str, Any] = field(default_factory=dict)
    printed: str = ""  # the self-reported metric as the run printed it, with its unit
    changed: tuple[str, ...] = ()  # what it changed in its worktree that experiments may not edit; `/`: below a folder
    share: float | None = None  # 0..1, of its processors that the rest of the machine left it on its clock
    used: float | None = None  # of its time budget: on its clock, or in processor seconds for each that it may use
    ended_at: float | None = None  # Unix seconds at which its process had ended
    on_clock: float | None = None
    before_clock: float | None = None  # processor seconds of all its processes
    new_names: int | None = None  # that the kernel learned meanwhile, its scoring included
    stopped_at: float | None = None  # share of its time at which it was found hopeless, and stopped
    audit: bool = False  # it was not stopped then: whether it was hopeless is seen at its end
    saved: float = 0.0  # seconds of its slot that the stop has saved

    @property
    def training_seconds(self) -> float:
        """Seconds by the wall on its clock."""
        return self.seconds if self.on_clock is None else self.on_clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """The baseline is known. `sigma` is the spread of `values` alone; the session's sigma is in NoiseEstimated."""

    metric: float
    sigma: float
    values: tuple[float, ...]
    timed: bool = False  # its unit shows that the metric is a time or a speed


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseEstimated:
    """Sigma of one run, pooled over every repeat so far, with its 90% interval and degrees of freedom."""

    sigma: float
    low: float
    high: float
    df: float


@dataclass(frozen=True, slots=True)
class RepairAsked:
    """A run crashed, and the researcher is given the end of its output to repair the change."""

    experiment: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class ProposalReturned:
    """A waiting proposal does not apply on the new parent of proposals: it goes back to the researcher."""

    experiment: int
    reason: str


@dataclass(frozen=True, slots=True)
class QueueMoved:
    """A waiting experiment got another place in the queue, counted from 1."""

    experiment: int
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenScored:
    """Score of a kept experiment on the hidden slice. `gap`: by how many sigma its gain is smaller there. It took
    `seconds` of a slot.
    """

    experiment: int
    metric: float | None
    gap: float | None
    warning: str = ""
    slot: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificationStarted:
    """A comparison of best and baseline on fresh seeds began, with at most `planned` runs of each, for an `expected`
    gain; `sigma` of one run is known with `df` degrees of freedom.
    """

    experiment: int
    planned: int
    reason: str = ""
    expected: float | None = None
    sigma: float | None = None
    df: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """Outcome of a certification: one-sided p, z, the gain with its interval; `file`: path of the certificate, `sha256`
    of its bytes.
    """

    experiment: int
    outcome: Literal["certified", "refuted", "undecided"]
    p: float | None
    z: float | None
    gain: float | None
    low: float | None
    high: float | None
    runs: int
    file: str = ""
    reason: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduced:
    """A recorded experiment was run again from its commit, with its seed and budget."""

    experiment: int
    metric: float | None
    recorded: float | None
    within_noise: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebased:
    """The best changed while this experiment ran: its change was re-applied on the new best and will run again.

    `waiting`: it had not run, and keeps its place in the queue; `forked`: the new parent is one that a person chose.
    """

    experiment: int
    parent: int
    parent_commit: str
    commit: str
    diff: str = ""
    waiting: bool = False
    forked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdict. `delta`: signed change of the metric against the best (or the parent) that it was compared with.

    `claim` is of a kept experiment: the number it may claim, corrected for selection, and how many runs that is worth.
    `best_claim` is of a discarded one: the number the best may claim given this result, how many runs that is worth,
    and how many of the best's results it includes. `overtook`: the best that was kept while this one ran, and that it
    beat as it stands; the two are merged next. 0: none.
    """

    experiment: int
    verdict: Verdict
    metric: float | None
    delta: float | None
    reason: str
    commit: str | None = None
    runs: int = 0  # number of results behind the verdict
    claim: float | None = None
    claim_runs: float = 0.0
    best_claim: float | None = None
    best_claim_runs: float = 0.0
    best_claim_results: int = 0
    overtook: int = 0


# What a person's requests cause: approvals, guidance, and changes of a running session.


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    experiment: int


@dataclass(frozen=True, slots=True)
class ApprovalGiven:
    experiment: int
    approved: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalModeChanged:
    """Whether each proposal waits for a person before it runs."""

    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidanceQueued:
    """Guidance for the researcher. `idea`: to be tried as an experiment of its own."""

    guidance: int
    text: str
    standing: bool = False
    idea: bool = False


@dataclass(frozen=True, slots=True)
class GuidanceEdited:
    guidance: int
    text: str


@dataclass(frozen=True, slots=True)
class GuidanceTaken:
    guidance: int
    experiment: int


@dataclass(frozen=True, slots=True)
class GuidanceWithdrawn:
    guidance: int


@dataclass(frozen=True, slots=True)
class BaseChanged:
    """Parent of the next proposals, kept or not. None: the best."""

    experiment: int | None


@dataclass(frozen=True, slots=True)
class PinChanged:
    """A pinned experiment is never a parent and never the best."""

    experiment: int
    pinned: bool


@dataclass(frozen=True, slots=True)
class BranchHeld:
    """The session's branch stays behind the best while the user has it checked out."""

    words: str  # where it is checked out, and the hint; "" once it is at the best again


@dataclass(frozen=True, slots=True)
class ResearcherChanged:
    """Researcher from the next experiment on."""

    researcher: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class BudgetChanged:
    """Budget of the session from now on: `hours`, `experiments`, `usd` (None: no limit), `device_usd_per_hour`."""

    budget: Mapping[str, float | int | None]


@dataclass(frozen=True, slots=True)
class SlotsChanged:
    """Slots from now on. `aside`: those whose card does not work, and why; they get no run until it works again.
    `quiet`: those that get none while a scoring needs the memory of their card.
    """

    slots: tuple[str, ...]
    aside: Mapping[str, str] = field(default_factory=dict)
    quiet: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProgramChanged:
    """program.md was edited while the session ran. `refused`: why the old one is still in force; "" when it is not."""

    diff: str
    program: str
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Noted:
    """A message for the person that changes no state: a warning, a refusal, a disk filling up."""

    level: Literal["info", "warning", "error"]
    text: str
    experiment: int | None = None


Body = (
    SessionStarted | EngineStarted | EngineStopped | Recovered | StateChanged | Preparing | ExperimentStarted
    | ResearcherWaiting | ProposalRefused | Proposed | Spent | Committed | Checked | RunStarted | RunPhaseChanged
    | RunFinished | Calibrated | NoiseEstimated | RepairAsked | HiddenScored | CertificationStarted | Certified
    | Reproduced | Rebased | Judged | ApprovalGiven | ApprovalModeChanged | ApprovalRequested | BaseChanged
    | BudgetChanged | GuidanceEdited | GuidanceQueued | GuidanceTaken | GuidanceWithdrawn | PinChanged
    | ProgramChanged | ProposalReturned | QueueMoved | ResearcherChanged | SlotsChanged | BranchHeld | Noted
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """One fact with its number in the log. `time`: Unix seconds."""

    seq: int
    time: float
    body: Body
