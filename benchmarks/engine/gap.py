"""Idle time of the device: seconds between one run's end and the start of the next run's clock in the same slot.

    python -m benchmarks gap [toy] [scored] [nanotrain] [EXPERIMENTS]

The log has both times, measured by the shim of each run (`gap` of every finished run but a slot's first): the end of
the last run's clock and the start of the next one's. The toy's clock starts with its process (its metric is read from
its output) and runs for 2 s. The scored toy computes for 1.5 s, asks for its data, and sleeps on its clock for 3 s, as
a run on a GPU leaves the processor alone. nanotrain's clock starts when it has loaded torch, built its model and
received its data, and the sealed scorer scores its runs. Each is measured on two CPU slots and on one. For nanotrain,
the steps between two clocks are also measured alone, in processor time, which is independent of other load.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.engine.support import engine, product, row_of, time_command, wait_state, workplace
from benchmarks.screen.terminal import table
from core.client import read_events, read_state
from core.record import events as e
from core.record.slot_time import split
from core.session.paths import SessionPaths
from tests.projects import SCORED_FILES, SCORED_PROGRAM, SCORED_TRAIN, TRAIN, make_project, rate, write_script

TOY_SECONDS = 2.0
SCORED_SECONDS = 3.0
WORK = "while time.process_time() < 1.5: pass\n"
NANOTRAIN_BUDGET = "10s"


def gaps_of(paths: SessionPaths) -> tuple[list[float], float]:
    """The gaps, in seconds, and the share of the slots' time between first start and last end with a clock running."""
    finished = [event for event in read_events(paths) if isinstance(event.body, e.RunFinished)]
    started = [event for event in read_events(paths) if isinstance(event.body, e.RunStarted)]
    slots = {event.body.slot for event in started if isinstance(event.body, e.RunStarted)}
    bodies = [event.body for event in finished if isinstance(event.body, e.RunFinished)]
    found = [body.gap for body in bodies if body.gap is not None]
    span = finished[-1].time - started[0].time
    return found, sum(body.training_seconds for body in bodies) / (span * len(slots))


def stretches(paths: SessionPaths) -> tuple[float, float]:
    """Median seconds from a run's start to its clock, and of its scoring (0 without a scorer)."""
    began: dict[int, float] = {}
    scored: dict[int, float] = {}
    starts: list[float] = []
    scores: list[float] = []
    for event in read_events(paths):
        body = event.body
        if isinstance(body, e.RunStarted):
            began[body.run] = event.time
        elif isinstance(body, e.RunPhaseChanged) and body.phase == "training":
            starts.append(event.time - began[body.run])
        elif isinstance(body, e.RunPhaseChanged) and body.phase == "scoring":
            scored[body.run] = event.time
        elif isinstance(body, e.RunFinished) and body.run in scored:
            scores.append(event.time - scored[body.run])
    return statistics.median(starts), statistics.median(scores) if scores else 0.0


def starting(paths: SessionPaths) -> float:
    """The share of the slots' time in which they waited for a run to start up."""
    state = read_state(paths)
    spent = [part for slot in split(state, state.time).values() for part in slot.items()]
    return sum(seconds for what, seconds in spent if what == "starting") / sum(seconds for _, seconds in spent)


def row(name: str, paths: SessionPaths) -> list[str]:
    found, share = gaps_of(paths)
    most = statistics.quantiles(found, n=20, method="inclusive")[-1]
    figures = (statistics.median(found), most, max(found), *stretches(paths))
    shares = (f"{100 * part:.0f}" for part in (starting(paths), share))
    return [name, str(len(found)), *(f"{figure:.2f}" for figure in figures), *shares]


def by_hand(folder: Path) -> list[list[str]]:
    """The steps of nanotrain between two clocks, one after the other, without an engine."""
    python = [sys.executable, "-m"]
    subprocess.run([*python, "nanotrain.train", "--steps", "20"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    commands = {
        "import torch": [sys.executable, "-c", "import torch"],
        "start-up and two steps (train --smoke)": [*python, "nanotrain.train", "--smoke"],
        "scoring (score)": [*python, "nanotrain.score"],
    }
    return [row_of(name, time_command(argv, folder, 3)) for name, argv in commands.items()]


def run(project: Path, name: str, **options: object) -> SessionPaths:
    """Run a session to its end."""
    with engine(project, name, **options) as (paths, _):
        wait_state(paths, lambda state: state.state == "finished", "the session's end", 1800)
    return paths


def toy(folder: Path, experiments: int) -> list[list[str]]:
    project = make_project(folder / "toy", train=TRAIN.replace("SECONDS = 0.05", f"SECONDS = {TOY_SECONDS}"))
    script = write_script(folder / "toy.jsonl", [rate("0.5", f"0.{600 + n}") for n in range(experiments)])
    return [
        row(f"toy, {slots}", run(project, f"s{slots[-1]}", researcher="scripted", script=str(script), slots=slots))
        for slots in ("cpu:2", "cpu:1")
    ]


def scored(folder: Path, experiments: int) -> list[list[str]]:
    train = SCORED_TRAIN.replace("time.sleep(0.5)  # starting up\n", WORK)
    train = train.replace("SECONDS = 0.2", f"SECONDS = {SCORED_SECONDS}")
    project = make_project(folder / "scored", train=train, program=SCORED_PROGRAM, more=SCORED_FILES)
    script = write_script(folder / "scored.jsonl", [rate("0.5", f"0.{600 + n}") for n in range(experiments)])
    common: dict[str, object] = {"researcher": "scripted", "script": str(script)}
    return [
        row(f"scored toy, {slots}", run(project, f"s{slots[-1]}", slots=slots, **common))
        for slots in ("cpu:2", "cpu:1")
    ]


def nanotrain(folder: Path, experiments: int) -> list[list[str]]:
    project = folder / "nanotrain"
    subprocess.run(product("init", "--template", "nanotrain", str(project)), check=True, stdout=subprocess.DEVNULL)
    common: dict[str, object] = {"researcher": "control", "run_budget": NANOTRAIN_BUDGET, "experiments": experiments}
    return [
        row(f"nanotrain, {slots}", run(project, f"s{slots[-1]}", slots=slots, **common)) for slots in ("cpu:2", "cpu:1")
    ]


def main(words: list[str]) -> None:
    counts = [int(word) for word in words if word.isdigit()]
    wanted = [word for word in words if not word.isdigit()] or ["toy", "scored", "nanotrain"]
    with workplace() as folder:
        rows: list[list[str]] = []
        if "toy" in wanted:
            rows += toy(folder, counts[0] if counts else 20)
        if "scored" in wanted:
            rows += scored(folder, counts[0] if counts else 20)
        if "nanotrain" in wanted:
            rows += nanotrain(folder, counts[0] if counts else 6)
        head = ["seconds", "gaps", "p50", "p95", "worst", "start-up", "scoring", "starting %", "clock running %"]
        print(table(head, rows), flush=True)
        if "nanotrain" in wanted:
            print()
            print(table(["nanotrain by hand", "median s", "best s", "worst s", "CPU s"], by_hand(folder / "nanotrain")))


if __name__ == "__main__":
    main(sys.argv[1:])
