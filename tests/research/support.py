"""Shared by the tests of researchers: a Brief of texts in memory, a recording Stream, a log without an engine."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from core.edits.apply import apply_edits
from core.edits.diff import unified
from core.edits.globs import matches
from core.program.program import Program
from core.record import events as e
from core.record.events import Event
from core.record.fold import fold
from core.record.metric import Metric
from core.record.proposal import Proposal, Usage
from core.record.state import State
from core.research.llm.providers.client import ModelResearcher
from core.research.protocol import Brief

FILES = {"train.py": "LR = 0.1\nWD = 0.5\n"}
GOOD = {
    "hypothesis": "LR up: more per step", "rationale": "short run", "expected": -0.01, "kind": "optimizer",
    "edits": [{"path": "train.py", "search": "LR = 0.1", "replace": "LR = 0.2"}],
}  # fmt: skip
WRONG = {**GOOD, "edits": [{"path": "train.py", "search": "LR = 0.3", "replace": "LR = 0.2"}]}
ANSWER = {"thinking": "Let me think about the step size.", "text": "I will raise it.", "tool": GOOD}


@dataclass
class Heard:
    """A Stream that keeps all its input. Waiting really sleeps."""

    thoughts: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)
    refusals: list[tuple[int, str]] = field(default_factory=list)
    waits: list[tuple[str, float, int]] = field(default_factory=list)

    def thinking(self, text: str) -> None:
        self.thoughts.append(text)

    def text(self, text: str) -> None:
        self.texts.append(text)

    def tool(self, text: str) -> None:
        self.tools.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def usage(self, usage: Usage) -> None:
        self.usages.append(usage)

    async def before_asking(self) -> None:
        pass

    def refused(self, attempt: int, reason: str) -> None:
        self.refusals.append((attempt, reason))

    async def wait(self, reason: str, seconds: float, attempt: int) -> None:
        self.waits.append((reason, seconds, attempt))
        await asyncio.sleep(seconds)


async def until(condition: Callable[[], object], seconds: float = 200.0) -> None:
    """Wait until `condition` holds; fails when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


class Session:
    """The events and State of a session, written as by the engine, without any run."""

    def __init__(self, files: Mapping[str, str], *, edit: Sequence[str] = ("*.py",), metric: str = "val_bpb") -> None:
        self.files: dict[int, dict[str, str]] = {0: dict(files)}
        self.state = State()
        self.diffs: dict[int, str] = {}
        self.logs: dict[int, str] = {}
        self.program = Program(
            edit=tuple(edit), run="true", metric=Metric(metric), text="+++\n+++\nLower it.", prose="Lower it."
        )
        budget: dict[str, float | int | None] = {}
        self.add(e.SessionStarted(
            session="s", project="/p", branch="autoresearch/s", commit="c0", metric=metric, direction="min",
            self_reported=False, run_budget="20s", budget=budget, edit=tuple(edit), seed=1, version="0",
        ))  # fmt: skip
        self.add(e.ExperimentStarted(experiment=0, parent=0, parent_commit="c0", researcher="baseline"))

    def add(self, body: e.Body) -> None:
        fold(self.state, Event(self.state.seq + 1, float(self.state.seq), body))

    def calibrate(self, value: float, sigma: float = 0.01) -> None:
        self.add(e.Calibrated(metric=value, sigma=sigma, values=(value,)))
        self.add(e.NoiseEstimated(sigma=sigma, low=sigma, high=sigma, df=2.0))

    def start(self, number: int, researcher: str) -> None:
        self.add(
            e.ExperimentStarted(experiment=number, parent=self.state.best, parent_commit="c", researcher=researcher)
        )

    def propose(self, number: int, proposal: Proposal) -> None:
        parent = self.state.experiments[number].parent
        new = self.apply(parent, proposal)
        self.files[number] = {**self.files[parent], **new}
        diff, added, removed = unified(self.files[parent], new)
        self.diffs[number] = diff
        self.add(e.Proposed(
            experiment=number, hypothesis=proposal.hypothesis, rationale=proposal.rationale, expected=proposal.expected,
            kind=proposal.kind, diff=diff, files=tuple(new), added=added, removed=removed, seconds=1.0,
            extra=proposal.extra,
        ))  # fmt: skip

    def judge(self, number: int, verdict: e.Verdict, metric: float | None = None, reason: str = "") -> None:
        delta = None if metric is None or self.state.best_metric is None else metric - self.state.best_metric
        self.add(e.Judged(experiment=number, verdict=verdict, metric=metric, delta=delta, reason=reason))

    def apply(self, parent: int, proposal: Proposal) -> dict[str, str]:
        return apply_edits(self.files[parent], proposal.edits, may_edit=lambda path: matches(path, self.program.edit))

    def brief(self, number: int, **changes: object) -> Brief:
        parent = self.state.best
        brief = Brief(
            number, parent, self.program, self.files[parent], {}, self.state, lambda p: self.apply(parent, p),
            lambda n: self.diffs.get(n, ""), lambda n: self.logs.get(n, ""), run_budget="20s",
        )  # fmt: skip
        return replace(brief, **changes)  # type: ignore[arg-type]


def ready(researcher: str) -> Session:
    """A session on FILES with a baseline. Its first experiment is proposed by the researcher under test."""
    session = Session(FILES)
    session.calibrate(2.0)
    session.start(1, researcher)
    return session


@contextmanager
def variables(*unset: str, **values: str) -> Iterator[None]:
    """Set the environment variables that the product reads, and restore them afterwards."""
    before = {name: os.environ.pop(name, None) for name in (*unset, *values)}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


async def interrupted(researcher: ModelResearcher, session: Session, heard: Heard) -> None:
    """Cancel a proposal at its first thought. It must not wait for the answer."""
    task: asyncio.Task[Any] = asyncio.create_task(researcher.propose(session.brief(1), heard))
    await until(lambda: heard.thoughts)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 5
