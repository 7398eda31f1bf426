"""Every fact of a session, as one union of frozen classes.

The same vocabulary is written to disk, sent over the socket and folded into the State that the screen shows.
Adding a field with a default is compatible; anything else raises `PROTOCOL` in `wire.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from core.record.steering import ApprovalGiven as ApprovalGiven
from core.record.steering import ApprovalModeChanged as ApprovalModeChanged
from core.record.steering import ApprovalRequested as ApprovalRequested
from core.record.steering import BaseChanged as BaseChanged
from core.record.steering import BranchHeld as BranchHeld
from core.record.steering import BudgetChanged as BudgetChanged
from core.record.steering import GuidanceEdited as GuidanceEdited
from core.record.steering import GuidanceQueued as GuidanceQueued
from core.record.steering import GuidanceTaken as GuidanceTaken
from core.record.steering import GuidanceWithdrawn as GuidanceWithdrawn
from core.record.steering import PinChanged as PinChanged
from core.record.steering import ProgramChanged as ProgramChanged
from core.record.steering import ResearcherChanged as ResearcherChanged
from core.record.steering import SlotsChanged as SlotsChanged

SessionState = Literal["starting", "running", "paused", "stopping", "stopped", "finished", "crashed"]
Verdict = Literal["kept", "provisional", "discarded", "crashed", "pruned", "rejected", "skipped", "abandoned"]
VERDICTS: tuple[Verdict, ...] = (
    "kept", "provisional", "discarded", "crashed", "pruned", "rejected", "skipped", "abandoned",
)  # fmt: skip
RunKind = Literal["baseline", "candidate", "repeat", "ablation", "transfer", "certify", "reproduce"]
RunPhase = Literal["starting", "training", "saving", "scoring"]
Ended = Literal["done", "crashed", "overtime", "killed", "startup_timeout", "resources", "rejected", "abandoned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted:
    """The first event: what the session is, as resolved from program.md, the command line and the repository."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStarted:
    """An engine took the session. `sandbox` is the tier's letter; `sandbox_note` what it does not cover."""

    pid: int
    boot_id: str
    researcher: str
    model: str | None
    slots: tuple[str, ...]
    sandbox: str
    sandbox_note: str = ""
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)  # of what a number may depend on


@dataclass(frozen=True, slots=True)
class EngineStopped:
    reason: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a starting engine did to make runs and git agree with the log after a crash."""

    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StateChanged:
    """`stop_at`: the session stops once so many experiments have their last word; 0 takes that back, None leaves it."""

    state: SessionState
    reason: str = ""
    stop_at: int | None = None


@dataclass(frozen=True, slots=True)
class Preparing:
    """A long step before the first run (data, pristine checkout), said so that no wait is silent."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentStarted:
    """A researcher began to think. Experiment 0 is the baseline."""

    experiment: int
    parent: int
    parent_commit: str
    researcher: str
    model: str | None = None
    forked: bool = False  # it builds on what a person chose, and is judged against the best all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class ResearcherWaiting:
    """Thinking is held up (rate limit, network): visible, cancellable; `seconds` until the next try."""

    experiment: int
    reason: str
    seconds: float
    attempt: int


@dataclass(frozen=True, slots=True)
class ProposalRefused:
    """A proposal was turned down before any device time; the reason went back to the researcher."""

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
    model: str | None = None  # which answered; a default model is known only then
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
    """The change stands as a commit, reachable at refs/autoresearch/<session>/<experiment>."""

    experiment: int
    commit: str
    parent_commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A cheap check before the run (parse, smoke, one of [checks]). A failure ends in a verdict."""

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


@dataclass(frozen=True, slots=True)
class RunPhaseChanged:
    run: int
    experiment: int
    phase: RunPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """A run ended. `seconds` is its clock, `wall_seconds` from process start to score. `steps` is self-reported."""

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


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The baseline is known. `sigma` is the sample standard deviation of `values`."""

    metric: float
    sigma: float
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseEstimated:
    """What is known of the noise by now: pooled over every repeat, with its interval and degrees of freedom."""

    sigma: float
    low: float
    high: float
    df: float


@dataclass(frozen=True, slots=True)
class MendAsked:
    """The run crashed: the researcher gets the end of its output and may mend the same idea."""

    experiment: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenScored:
    """A kept experiment's score on the slice that decides nothing. `gap`: how much smaller its gain is there, in σ."""

    experiment: int
    metric: float | None
    gap: float | None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class CertificationStarted:
    """Best against baseline on fresh seeds: `planned` runs of each, from the gain and the noise."""

    experiment: int
    planned: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """The outcome, with its one-sided p, z and the gain's interval; `file` is the certificate."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduced:
    """A recorded experiment was run again from its commit, seed and budget."""

    experiment: int
    metric: float | None
    recorded: float | None
    within_noise: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebased:
    """The best moved while this ran: the change was re-applied on the new best and will run again."""

    experiment: int
    parent: int
    parent_commit: str
    commit: str
    diff: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdict. `delta` is the signed change of the metric against the incumbent it was judged by."""

    experiment: int
    verdict: Verdict
    metric: float | None
    delta: float | None
    reason: str
    commit: str | None = None
    runs: int = 0  # how many results it rests on
    claim: float | None = None  # of a kept one: the number it may claim, free of the luck that chose it ...
    claim_runs: float = 0.0  # ... and how many runs that is worth
    leader: float | None = None  # of a discarded one: what the best may claim in its light ...
    leader_runs: float = 0.0  # ... how many runs that is worth ...
    leader_results: int = 0  # ... and how many of the best's results it holds


@dataclass(frozen=True, slots=True)
class Noted:
    """Something a person should know that changes no state: a warning, a refusal, a disk filling up."""

    level: Literal["info", "warning", "error"]
    text: str
    experiment: int | None = None


Body = (
    SessionStarted | EngineStarted | EngineStopped | Recovered | StateChanged | Preparing | ExperimentStarted
    | ResearcherWaiting | ProposalRefused | Proposed | Spent | Committed | Checked | RunStarted | RunPhaseChanged
    | RunFinished | Calibrated | NoiseEstimated | MendAsked | HiddenScored | CertificationStarted | Certified
    | Reproduced | Rebased | Judged | ApprovalGiven | ApprovalModeChanged | ApprovalRequested | BaseChanged
    | BudgetChanged | GuidanceEdited | GuidanceQueued | GuidanceTaken | GuidanceWithdrawn | PinChanged
    | ProgramChanged | ResearcherChanged | SlotsChanged | BranchHeld | Noted
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """One fact with its place in the log. `time` is Unix seconds."""

    seq: int
    time: float
    body: Body
