"""Recorded sessions of real events, written by the real log, for tests and benchmarks.

    paths = make_session(tmp_path, experiments=40)            # a finished session, every verdict in it
    paths = make_session(tmp_path, experiments=7, live=True)  # unfinished: a run trains, a proposal is in progress
    events = story_events(experiments=12, seed=3)             # only in memory, for pure functions

The same arguments always give the same session, to the second.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.record import events as e
from core.record.events import Body, Event
from core.session.log import Log
from core.session.paths import SessionPaths

START = 1_790_000_000.0  # Unix seconds; every recorded session begins here
BASELINE_METRIC = 2.0
SIGMA = 0.004  # of a session of up to 100 experiments; smaller in longer ones, so that the metric stays plausible
VERDICT_CYCLE: tuple[e.Verdict, ...] = (
    "kept", "discarded", "discarded", "crashed", "kept", "rejected", "discarded", "provisional", "pruned", "skipped",
    "abandoned", "discarded",
)  # fmt: skip
ENDINGS: dict[e.Verdict, e.Ended] = {"crashed": "crashed", "pruned": "killed", "abandoned": "abandoned"}
HYPOTHESES: tuple[tuple[str, str], ...] = (
    ("Halve the batch: the first fifth of the run is batch-limited", "optimizer"),
    ("QK-norm scale 1.2 sharpens attention early", "architecture"),
    ("Warm down from 40% of the budget", "schedule"),
    ("Depth 12 at the same width", "architecture"),
    ("Weight decay to the embeddings", "regularization"),
    ("Rotary base 20k", "architecture"),
    ("GeLU in place of squared ReLU", "architecture"),
    ("Drop the value gates: fewer lines, equal loss", "simplification"),
)
CRASH = 'Traceback (most recent call last):\n  File "train.py", line 3\nValueError: shapes\n'
PROGRAM = """\
+++
edit = ["train.py"]
run = "python train.py"
[metric]
name = "val_bpb"
direction = "min"
pattern = '^val_bpb:\\s*(\\S+)'
[budget]
run = "20s"
experiments = {experiments}
+++
# A recorded project
"""
Moment = tuple[float, list[Body]]


@dataclass(slots=True)
class Story:
    """The events of a recorded session: `moments()` yields (Unix seconds, facts logged together) in order."""

    name: str = "nov23"
    project: str = "/somewhere/project"
    experiments: int = 12
    seed: int = 1
    live: bool = False
    start: float = START
    verdicts: Sequence[e.Verdict] = VERDICT_CYCLE
    hypotheses: Sequence[tuple[str, str]] = HYPOTHESES
    researcher: str = "scripted"
    model: str | None = None
    direction: str = "min"
    usd: float = 0.004

    @property
    def sigma(self) -> float:
        return SIGMA * min(1.0, 100 / max(1, self.experiments))

    def moments(self) -> Iterator[Moment]:
        draw = random.Random(self.seed)
        clock = self.start
        yield clock, [self._started(), self._engine()]
        clock += 0.5
        yield clock, [e.Preparing("the data")]
        clock += 2.0
        yield (
            clock,
            [
                e.StateChanged("running"),
                e.ExperimentStarted(experiment=0, parent=0, parent_commit=commit_name(0), researcher="baseline"),
            ],
        )
        values = tuple(round(BASELINE_METRIC + self.sigma * step, 6) for step in (-1.0, 0.0, 1.0))
        for run, value in enumerate(values, 1):
            yield from self._run(run, 0, "baseline", commit_name(0), clock, value, "done")
            clock += 22.0
        noise = e.NoiseEstimated(sigma=self.sigma, low=0.578 * self.sigma, high=4.41 * self.sigma, df=2.0)
        yield clock, [e.Calibrated(metric=BASELINE_METRIC, sigma=self.sigma, values=values), noise]
        best, best_metric, run = 0, BASELINE_METRIC, 4
        for number in range(1, self.experiments + 1):
            verdict = self.verdicts[(number - 1) % len(self.verdicts)]
            last = self.live and number == self.experiments
            clock += 1.0 + draw.random()
            metric = self._metric(verdict, best_metric, draw)
            yield from self._experiment(number, best, clock, "kept" if last else verdict)
            ran = last or verdict not in ("rejected", "skipped")
            clock += 4.0
            if last:
                yield clock, [self._run_started(run, number, "candidate", commit_name(number))]
                yield clock + 3, [e.RunPhaseChanged(run, number, "training")]
                yield clock + 4, [self._thinking(number + 1, best)]
                return
            if ran:
                ended = ENDINGS.get(verdict, "done")
                yield from self._run(run, number, "candidate", commit_name(number), clock, metric, ended)
                run, clock = run + 1, clock + 22.0
            yield clock, [self._judged(number, verdict, metric, best_metric)]
            if verdict == "kept" and metric is not None:
                best, best_metric = number, metric
        yield (
            clock + 1,
            [
                e.StateChanged("finished", f"the budget of {self.experiments} experiments is spent"),
                e.EngineStopped("the session is finished"),
            ],
        )

    def _started(self) -> e.SessionStarted:
        return e.SessionStarted(
            session=self.name, project=self.project, branch=f"autoresearch/{self.name}", commit=commit_name(0),
            metric="val_bpb", direction=self.direction, self_reported=False,
            run_budget="20s", budget={"hours": None, "experiments": self.experiments, "usd": None},
            edit=("train.py",), seed=self.seed,
            version="0.1.0", program=PROGRAM.format(experiments=self.experiments),
        )  # fmt: skip

    def _engine(self) -> e.EngineStarted:
        return e.EngineStarted(
            pid=4321,
            boot_id="boot",
            researcher=self.researcher,
            model=self.model,
            slots=("cpu0", "cpu1"),
            sandbox="A",
            sandbox_note="",
            device="cpu, 2 cores",
        )

    def _metric(self, verdict: e.Verdict, best: float, draw: random.Random) -> float | None:
        better = -1.0 if self.direction == "min" else 1.0
        if verdict == "kept":
            return round(best + better * self.sigma * (2.5 + draw.random()), 6)
        if verdict == "provisional":
            return round(best + better * self.sigma, 6)
        if verdict == "discarded":
            return round(best - better * self.sigma * (0.5 + 10 * draw.random()), 6)
        return None

    def _thinking(self, number: int, parent: int) -> e.ExperimentStarted:
        return e.ExperimentStarted(
            experiment=number,
            parent=parent,
            parent_commit=commit_name(parent),
            researcher=self.researcher,
            model=self.model,
        )

    def _experiment(self, number: int, parent: int, clock: float, verdict: e.Verdict) -> Iterator[Moment]:
        hypothesis, kind = self.hypotheses[(number - 1) % len(self.hypotheses)]
        proposed = e.Proposed(
            experiment=number, hypothesis=hypothesis, rationale=f"Because of what #{parent} showed.", expected=-0.005,
            kind=kind, diff=diff_text(number), files=("train.py",),
            added=2, removed=1, seconds=3.0, edits=({"path": "train.py", "search": "A = 1",
            "replace": f"A = {number}"},),
        )  # fmt: skip
        spent = e.Spent(experiment=number, input_tokens=12_000, output_tokens=800, cached_tokens=9_000, usd=self.usd)
        yield clock, [self._thinking(number, parent)]
        if verdict == "rejected":
            yield clock + 1, [e.ProposalRefused(number, 1, "README.md is not among the editable files")]
            yield clock + 3, [proposed, spent]
            return
        commit = e.Committed(number, commit_name(number), commit_name(parent))
        yield clock + 3, [proposed, spent, commit, e.Checked(experiment=number, name="smoke", ok=True, seconds=0.4)]

    def _run_started(self, run: int, number: int, kind: e.RunKind, commit: str) -> e.RunStarted:
        return e.RunStarted(
            run=run,
            experiment=number,
            kind=kind,
            slot=f"cpu{run % 2}",
            seed=self.seed + run,
            commit=commit,
            budget="20s",
        )

    def _run(
        self, run: int, number: int, kind: e.RunKind, commit: str, clock: float, metric: float | None, ended: e.Ended
    ) -> Iterator[Moment]:
        yield clock, [self._run_started(run, number, kind, commit)]
        yield clock + 1, [e.RunPhaseChanged(run, number, "training")]
        seconds = 20.0 if ended == "done" else 6.0
        tail = "step 00010 | loss 3.2\n" if ended == "done" else CRASH
        yield (
            clock + 1 + seconds,
            [
                e.RunFinished(
                    run=run, experiment=number, ended=ended, metric=metric, seconds=seconds,
                    wall_seconds=seconds + 1.4, exit_code=0 if ended == "done" else 1, steps=800, tokens=819_200,
                    reason="" if ended == "done" else "ValueError: shapes", log_tail=tail, peak_memory=400_000_000,
                    gap=0.3 if run > 2 else None,
                )
            ],
        )  # fmt: skip

    def _judged(self, number: int, verdict: e.Verdict, metric: float | None, best: float) -> e.Judged:
        delta = None if metric is None else round(metric - best, 6)
        reason = {
            "kept": "better by more than 2σ",
            "provisional": "better, but within 2σ",
            "discarded": "no better",
            "crashed": "ValueError: shapes",
            "pruned": "far behind at half time",
            "rejected": "README.md is not among the editable files",
            "skipped": "skipped by you",
            "abandoned": "the engine ended while it ran",
        }[verdict]
        commit = None if verdict in ("rejected", "skipped") else commit_name(number)
        return e.Judged(experiment=number, verdict=verdict, metric=metric, delta=delta, reason=reason, commit=commit)


def commit_name(experiment: int) -> str:
    """A generated commit id, the same for the same experiment."""
    return f"{experiment + 0xABC0000:07x}" + "0" * 33


def diff_text(experiment: int) -> str:
    return (
        "diff --git a/train.py b/train.py\n--- a/train.py\n+++ b/train.py\n@@ -1,3 +1,4 @@\n"
        f" # settings\n-A = 1\n+A = {experiment}\n+B = {experiment * 2}\n C = 3\n"
    )


def story_events(**options: object) -> list[Event]:
    """The events of a Story in memory, numbered from 1."""
    found: list[Event] = []
    for time, bodies in Story(**options).moments():  # type: ignore[arg-type]
        for body in bodies:
            found.append(Event(len(found) + 1, time, body))
    return found


def make_session(
    folder: Path,
    experiments: int = 12,
    *,
    name: str = "nov23",
    live: bool = False,
    seed: int = 1,
    start: float = START,
    verdicts: Sequence[e.Verdict] = VERDICT_CYCLE,
    hypotheses: Sequence[tuple[str, str]] = HYPOTHESES,
    extra: Sequence[Body] = (),
    files: bool = True,
    researcher: str = "scripted",
    direction: str = "min",
) -> SessionPaths:
    """Write a session under `folder`/sessions/`name` (and a program.md and train.py where there are none).

    `extra` facts are logged last. `files`: also each run's output and curve, and each experiment's reasoning.
    Many experiments (over 500) are logged some at a time, with coarser times, so that 10,000 take seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "program.md").exists():
        (folder / "program.md").write_text(PROGRAM.format(experiments=experiments))
        (folder / "train.py").write_text("# settings\nA = 1\nC = 3\nprint('val_bpb:', 2.0)\n")
    paths = SessionPaths(folder, name)
    paths.folder.mkdir(parents=True)
    story = Story(name, str(folder), experiments, seed, live, start, verdicts, hypotheses, researcher, None, direction)
    log = Log.create(paths.database)
    pending: list[Body] = []
    clock = start
    for clock, bodies in story.moments():
        pending += bodies
        if experiments <= 500 or len(pending) >= 400:
            log.append(pending, clock)
            pending = []
    log.append([*pending, *extra], clock)
    if files:
        for number, experiment in log.state.experiments.items():
            _reasoning(paths, number, experiment.started)
            for run in experiment.runs:
                _run_files(paths, run.run)
    log.close()
    return paths


def _reasoning(paths: SessionPaths, number: int, started: float) -> None:
    path = paths.reasoning(number)
    path.parent.mkdir(exist_ok=True)
    lines = [
        {"t": started + 0.5, "k": "thinking", "s": f"What did the last result say? Looking at #{number}.\n"},
        {"t": started + 1.5, "k": "text", "s": "I will change one constant.\n"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _run_files(paths: SessionPaths, run: int) -> None:
    folder = paths.run(run)
    folder.mkdir(parents=True)
    losses = [(step, 7.0 / (1 + step / 100) + 1.5) for step in range(0, 800, 20)]
    (folder / "output.log").write_text("".join(f"step {s:05d} | loss {v:.4f}\n" for s, v in losses))
    (folder / "curve.tsv").write_text("".join(f"{s}\t{v:.4f}\n" for s, v in losses))
