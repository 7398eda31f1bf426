"""A staged session: a plausible nanotrain session on disk, and a source that plays it as a live engine would.

Everything is the real vocabulary, written by the real log; what the engine would send is given by hand. The clock
stands still unless it is moved, so that the same stage gives the same screen to the cell.
"""
# ruff: noqa: E501  (made-up prose and code)

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.client.live import Connection
from core.record import commands
from core.record import events as e
from core.record.events import Body, Event
from core.record.fold import fold
from core.record.pulse import DeviceReading, Pulse, SlotReading
from core.record.state import State
from core.session.log import Log
from core.session.paths import SessionPaths
from tests.recorded import Story

GIB = 2**30
HYPOTHESES: tuple[tuple[str, str], ...] = (
    ("Halve the batch: the first fifth of the run is batch-limited", "optimizer"),
    ("QK-norm scale 1.2 sharpens attention early", "architecture"),
    ("Warm down from 40% of the budget instead of 60%", "schedule"),
    ("Depth 3 at the same width: more capacity per step", "architecture"),
    ("Weight decay on the embeddings: rare tokens drift", "regularization"),
    ("Read the loss inside forward to save one pass", "numerics"),
    ("Rotary base 20k: the context is only 64 tokens", "architecture"),
    ("Muon momentum 0.95 to 0.92 while the rate is high", "optimizer"),
    ("Drop the value gates: fewer lines, equal loss", "simplification"),
    ("Untie the head and start it at zero", "architecture"),
    ("GeLU in place of squared ReLU", "architecture"),
    ("Embedding rate 0.3 to 0.45", "optimizer"),
)
CHANGES: tuple[tuple[str, str, int], ...] = (
    ("TOTAL_BATCH = 2048      # tokens per optimiser step", "TOTAL_BATCH = 1024      # tokens per optimiser step", 47),
    ("QK_SCALE = 1.0          # after the norm of queries and keys",
     "QK_SCALE = 1.2          # after the norm of queries and keys", 61),
    ("WARMDOWN = 0.6          # share of the run spent cooling", "WARMDOWN = 0.4          # share of the run spent cooling",
     72),
    ("DEPTH = 2               # transformer blocks", "DEPTH = 3               # transformer blocks", 33),
    ("EMBED_DECAY = 0.0       # weight decay of embeddings", "EMBED_DECAY = 0.02      # weight decay of embeddings", 68),
    ("ROTARY_BASE = 10_000    # wavelength of the slowest pair", "ROTARY_BASE = 20_000    # wavelength of the slowest pair", 58),
)  # fmt: skip


def realistic_diff(experiment: int) -> str:
    """A change of one constant of train.py, with its neighbours."""
    old, new, line = CHANGES[experiment % len(CHANGES)]
    return (
        "diff --git a/nanotrain/train.py b/nanotrain/train.py\n--- a/nanotrain/train.py\n+++ b/nanotrain/train.py\n"
        f"@@ -{line},7 +{line},8 @@ Act I: the constants a person would turn\n"
        " # Optimisation. Rates are per step, shares are of the whole time budget.\n"
        " MATRIX_RATE = 0.02      # Muon, for matrices\n"
        " EMBED_RATE = 0.3        # AdamW, for embeddings\n"
        f"-{old}\n+{new}\n+# measured: the gain holds at three seeds\n"
        ' BETAS = (0.9, 0.95)     # AdamW\n GRAD_CLIP = 1.0         # norm; "none" when zero\n'
        f"@@ -{line + 240},6 +{line + 241},6 @@ def train_step(model, batch, rate):\n"
        "     loss = model(batch.inputs, batch.targets)\n     loss.backward()\n"
        "-    for group in optimiser.param_groups:\n+    for group in optimisers.groups():\n"
        '         group["lr"] = rate * group["base"]\n     return loss.detach()\n'
    )


def thoughts(experiment: int, start: float) -> list[dict[str, object]]:
    """A reasoning stream as of a language model."""
    return [
        {"t": start, "k": "thinking", "s": f"#{experiment - 1} was discarded, but its curve is telling: the first fifth "},
        {"t": start + 1, "k": "thinking", "s": "of the run is limited by the batch, not by the rate.\nSmaller batches bought "},
        {"t": start + 2, "k": "thinking", "s": "−0.0041 at #31; the gain should hold until the gradient noise scale is met.\n"},
        {"t": start + 3, "k": "tool", "s": "read_experiment 31"},
        {"t": start + 4, "k": "tool", "s": "read_file nanotrain/train.py 40-80"},
        {"t": start + 5, "k": "text", "s": "Two levers are left at this width: what attention sees early, and how the rate "},
        {"t": start + 6, "k": "text", "s": "falls. I take the first, since #37 already moved the second.\n\nHypothesis: a "},
        {"t": start + 7, "k": "text", "s": "query-key scale of 1.2 sharpens attention early; expect −0.0015.\n"},
    ]  # fmt: skip


@dataclass(slots=True)
class Stage:
    """The folder of a staged session and the moment its story stops."""

    paths: SessionPaths
    now: float


def build(
    folder: Path, experiments: int = 46, live: bool = True, extra: Sequence[Body] = (), files: int | None = None
) -> Stage:
    """Write the session to disk. Deterministic. `files`: streams and curves of only so many of the last experiments."""
    paths = SessionPaths(folder / "nanotrain", "nov23")
    paths.folder.mkdir(parents=True)
    verdicts: tuple[e.Verdict, ...] = (
        "kept", "discarded", "kept", "crashed", "discarded", "rejected", "discarded", "provisional", "discarded",
        "kept", "discarded", "discarded",
    )  # fmt: skip
    story = Story("nov23", str(paths.project), experiments, 4, live, verdicts=verdicts, hypotheses=HYPOTHESES,
                  researcher="claude", model="claude-opus-5-5", usd=0.068)  # fmt: skip
    log = Log.create(paths.database)
    clock = story.start
    pending: list[Body] = []
    for clock, bodies in story.moments():
        pending += [_dressed(body) for body in bodies]
        if experiments <= 500 or len(pending) >= 400:  # many are logged some at a time, with coarser times
            log.append(pending, clock)
            pending = []
    if pending:
        log.append(pending, clock)
    if extra:
        clock += 1
        log.append(list(extra), clock)
    for number, x in log.state.experiments.items():
        if files is not None and 0 < number < experiments - files:
            continue
        _write(paths.reasoning(number), "".join(json.dumps(t) + "\n" for t in thoughts(number, x.started)))
        for run in x.runs:
            gain = 0.08 * ((x.metric or 1.95) - 1.98) / 0.02 if run.experiment else 0.1
            losses = [
                (s * 0.05, s, 7.0 / (1 + s / (60 - 40 * gain)) + 1.92 + gain
                 + 0.04 * (((s + run.run) * 7919) % 13 - 6) / 6)
                for s in range(0, 400, 8)
            ]  # fmt: skip
            share = losses if run.phase is None else losses[:31]
            _write(paths.run(run.run) / "curve.tsv", "".join(f"{t:.2f}\t{s}\t{v:.4f}\n" for t, s, v in share))
            _write(paths.run(run.run) / "output.log", "".join(_line(s, v) for _, s, v in share))
    log.close()
    return Stage(paths, clock + 8.4)


def _line(step: int, loss: float) -> str:
    return f"step {step:05d} | loss {loss:.4f} | rate {0.02 * (1 - step / 800):.5f} | {18_400 + step % 97} tok/s\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _dressed(body: Body) -> Body:
    if isinstance(body, e.Proposed):
        return replace(
            body, diff=realistic_diff(body.experiment), files=("nanotrain/train.py",), added=3, removed=2, expected=-0.0015,
            rationale="The last five results agree: early steps are limited by the batch. This changes one constant and "
            "nothing else, so that whatever it shows is due to it.",
        )  # fmt: skip
    if isinstance(body, e.EngineStarted):
        return replace(body, slots=("cpu0", "cpu1"), device="cpu, 2 cores")
    if isinstance(body, e.RunFinished) and body.ended == "done":
        probes = {name: {"ok": True, "value": 0.0} for name in ("causal", "rows", "normalised", "tokens")}
        return replace(body, probes=probes)
    return body


class Playing:
    """A source of a staged session: its State from the log, its readings and answers given here."""

    def __init__(self, stage: Stage) -> None:
        self.paths = stage.paths
        self.log = Log.read(stage.paths.database)
        self.state: State = self.log.load()
        self.connection = Connection("live", stage.now - 60)
        self.pulse: Pulse | None = readings(stage.now, self.state)
        self.version = 1
        self.sent: list[commands.Command] = []
        self.answer = commands.Reply(True, "done")
        self._new: list[Event] = []
        self._played: list[Event] = []

    async def run(self) -> None:
        return None

    async def send(self, command: commands.Command) -> commands.Reply:
        self.sent.append(command)
        return self.answer

    def take_events(self) -> list[Event]:
        new, self._new = self._new, []
        return new

    def events_of(self, experiment: int) -> list[Event]:
        more = [x for x in self._played if getattr(x.body, "experiment", None) == experiment]
        return [*self.log.events_of(experiment), *more]

    def happen(self, *bodies: Body, after: float = 1.0) -> None:
        """Log more facts, as the engine would send them."""
        for body in bodies:
            event = Event(self.state.seq + 1, self.state.time + after, body)
            fold(self.state, event)
            self._new.append(event)
            self._played.append(event)
        self.version += 1

    def lose(self, since: float, retry_at: float) -> None:
        self.connection = Connection("lost", since, retry_at, "nothing heard from the engine for 15 s")
        self.version += 1


def readings(now: float, state: State) -> Pulse:
    slots = tuple(
        SlotReading(
            slot=run.slot, experiment=run.experiment, run=run.run, phase=run.phase or "", fraction=0.62, seconds=12.4
        )
        for run in state.live_runs()
    )
    thinking = max(state.live, default=0)
    return Pulse(
        time=now, slots=slots, devices=(DeviceReading(name="cpu", label="AMD EPYC, 2 cores", utilisation=0.97, memory_used=int(2.9 * GIB), memory_total=8 * GIB, power=None, temperature=61.0),),
        thinking=thinking, thinking_seconds=21.0, waiting="",
    )  # fmt: skip


def gpu_readings(now: float, state: State) -> Pulse:
    device = DeviceReading(
        name="gpu0",
        label="NVIDIA H100 80GB HBM3",
        utilisation=0.98,
        memory_used=44 * GIB,
        memory_total=80 * GIB,
        power=402.0,
        temperature=71.0,
        clock_mhz=1755.0,
    )
    return replace(readings(now, state), devices=(device,))


def proposal(number: int) -> e.Proposed:
    diff = "--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-A = 1\n+A = 2\n"
    return e.Proposed(
        experiment=number,
        hypothesis="A should be \x1b[5m2",
        rationale="it was 1",
        expected=-0.01,
        kind="other",
        diff=diff,
        files=("train.py",),
        added=1,
        removed=1,
        seconds=2.0,
    )
