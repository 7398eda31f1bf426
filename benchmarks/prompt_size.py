"""Size of a researcher's prompt, and the time to build it, as a session grows.

    python -m benchmarks prompt [EXPERIMENT ...]

With nanotrain's own program.md and files, and a session in memory in which one experiment in twenty-five is kept, one
in twelve crashes, and the researcher keeps a notebook. A request consists of the tools, the rules, program.md, the
files and the task, in that order. Tokens are estimated as UTF-8 bytes / 4. "same as before" is the share of the
request for experiment N that is a prefix of the request for N - 1 when the best has not changed: the part that a
provider can cache.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.screen.terminal import table
from core.program.program import load
from core.record import events as e
from core.record.events import Event
from core.record.fold import fold
from core.record.proposal import KINDS
from core.record.state import State
from core.research.llm import prompt
from core.research.llm.tools import TOOLS
from core.research.notebook import Notebook
from core.research.protocol import Brief

AT = (1, 30, 100, 700, 10_000)
TIMES = 15
NAMES = ("warm-up", "weight decay", "head size", "batch size", "rotary base", "embedding scale", "momentum", "window")
DIFF = "diff --git a/nanotrain/train.py b/nanotrain/train.py\n" + "".join(
    f"-OLD_{n} = {n}\n+NEW_{n} = {n}\n" for n in range(20)
)
CRASH = "Traceback (most recent call last):\n" + '  File "train.py", line 300, in forward\n    x = self.block(x)\n' * 30
NOTES = "".join(
    f"- experiment {n}: the effect was within the noise; what is left to try is the opposite\n" for n in range(20)
)


def session(count: int, seed: int = 1) -> State:
    """The State after `count` experiments, each proposed with a forecast and judged."""
    draw, state, best, time_ = random.Random(seed), State(), 2.0, 0.0

    def say(body: e.Body) -> None:
        nonlocal time_
        time_ += 1.0
        fold(state, Event(state.seq + 1, time_, body))

    budget: dict[str, float | int | None] = {}
    say(e.SessionStarted(
        session="bench", project="/p", branch="b", commit="c0", metric="val_bpb", direction="min", self_reported=False,
        run_budget="5m", budget=budget, edit=("nanotrain/train.py",), seed=1, version="",
    ))  # fmt: skip
    say(e.ExperimentStarted(experiment=0, parent=0, parent_commit="c0", researcher="baseline"))
    say(e.Calibrated(metric=best, sigma=0.002, values=(1.998, 2.0, 2.002)))
    for n in range(1, count + 1):
        say(e.ExperimentStarted(experiment=n, parent=state.best, parent_commit="c", researcher="claude", model="model"))
        what = draw.choice(NAMES)
        words = (
            f"Change the {what} by a factor of {draw.uniform(0.3, 3):.2f}: what #{max(0, n - 3)} showed of it "
            "says that the run is limited by it in its second half, so the loss should be lower by some thousandths."
        )
        extra = {"ideas": [f"Tie the {draw.choice(NAMES)} to {n} steps"]} if n % 9 == 0 else {}
        kind = draw.choice(KINDS)
        say(e.Proposed(
            experiment=n, hypothesis=words, rationale="why", expected=-0.004, kind=kind, diff="",
            files=("nanotrain/train.py",), added=2, removed=2, seconds=60.0, extra=extra, edits=(), model="model",
        ))  # fmt: skip
        say(e.Committed(n, f"c{n}", "c"))
        if n % 12 == 0:
            say(
                e.Judged(
                    experiment=n,
                    verdict="crashed",
                    metric=None,
                    delta=None,
                    reason="ValueError: shapes do not match: (64, 128) and (128, 64)",
                )
            )
        elif n % 25 == 1 and n > 1:
            say(e.Judged(experiment=n, verdict="kept", metric=best - 0.003, delta=-0.003, reason="over 3 sigma"))
            best -= 0.003
        else:
            delta = draw.uniform(-0.003, 0.05)
            say(e.Judged(experiment=n, verdict="discarded", metric=best + delta, delta=delta, reason="no better"))
    return state


def brief_of(state: State, number: int, root: Path) -> Brief:
    """The Brief for experiment `number` on the nanotrain of this repository."""
    program = load(root / "program.md")
    files = {path: (root / path).read_text() for path in program.edit}
    read = {path: (root / path).read_text() for path in program.read if (root / path).is_file()}
    notebook = Notebook()
    notebook.replace(NOTES if number > 20 else "")
    return Brief(
        number, state.best, program, files, read, state, lambda _: {}, lambda _: DIFF, lambda _: CRASH,
        guidance=("Only touch the optimiser.",), run_budget="5m", notebook=notebook,
    )  # fmt: skip


def request(brief: Brief) -> bytes:
    """Everything that is sent for one proposal before the model answers, in order."""
    tools = json.dumps([dict(tool) for tool in TOOLS])
    return "\n".join(
        [tools, prompt.RULES, prompt.stable(brief), prompt.current_files(brief), prompt.task(brief)]
    ).encode()


def common(a: bytes, b: bytes) -> int:
    """Length in bytes of the common prefix of two requests."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle - 1)
    return low


def main(numbers: list[int]) -> None:
    root = Path(__file__).parent.parent
    rows = []
    for number in numbers:
        brief = brief_of(session(number - 1), number, root)
        spans: list[tuple[float, float]] = []
        for _ in range(TIMES):
            began, used = time.perf_counter(), time.process_time()
            asked = request(brief)
            spans.append(((time.perf_counter() - began) * 1000, (time.process_time() - used) * 1000))
        before = brief_of(session(max(0, number - 2)), max(1, number - 1), root)
        before = replace(before, parent=brief.parent)
        share = f"{common(asked, request(before)) / len(asked):.0%}" if number > 1 else "–"
        task = len(prompt.task(brief).encode())
        rows.append([
            f"{number:,}", f"{len(asked) / 4:,.0f}", f"{task / 4:,.0f}", share,
            *(f"{statistics.median(figures):.1f}" for figures in zip(*spans, strict=True)),
        ])  # fmt: skip
    head = ["experiment", "tokens", "of them history and task", "same as before", "median ms", "CPU ms"]
    print(table(head, rows))


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or list(AT))
