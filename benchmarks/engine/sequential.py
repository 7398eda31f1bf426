"""A plain loop (think, edit, start, train, score, decide) beside the engine, on simulated cards.

    python -m benchmarks sequential [EXPERIMENTS]     # of each slot and length of run; default 8

All times are a fifteenth of real ones: 30 to 90 s of thinking, 45 s of start-up, 7.5 s of scoring, runs of 5 minutes
and of one. On its clock a run sleeps, for a card leaves the processor alone; the cards are simulated
(`tests.false_driver`). Both play the same proposals, none of which is kept, for the same project with the same train.py
and score.py. There is one plain loop for each card: it thinks, commits, trains, scores, and keeps or resets by git, one
after the other.

Busy is the share of the cards' time in which a clock ran, from the end of the last clock of the baseline until the
first card has nothing left to do, the script being at its end; experiments an hour are counted in that time, by the
part of their clocks that lies in it, at the scale of real ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.engine.support import engine, wait_state, workplace
from benchmarks.screen.terminal import table
from core.client import read_events
from core.record import events as e
from core.record.state import BASELINE
from core.session.paths import SessionPaths
from tests.false_driver import FalseDriver
from tests.projects import IDENTITY, SCORED_FILES, SCORED_PROGRAM, SCORED_TRAIN, make_project, rate, write_script

SCALE = 15
THINKING = (30.0 / SCALE, 90.0 / SCALE)
START_UP, SCORING = 45.0 / SCALE, 7.5 / SCALE
RUNS = {"5 min": 300.0 / SCALE, "1 min": 60.0 / SCALE}
AHEAD = ("ahead.minds=8",)  # thoughts at once at most
CARDS = (1, 4)


@dataclass
class Clocks:
    """When clocks ran on each card (monotonic or Unix seconds): those of the baseline, and those of experiments."""

    baseline: list[tuple[float, float]] = field(default_factory=list)
    spans: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def figures(self, cards: int) -> tuple[float, float]:
        """The busy share, and real experiments an hour."""
        begun = max(end for _, end in self.baseline)
        ended = min(max(end for _, end in spans) for spans in self.spans.values())
        clocks = [(end - start, min(end, ended) - max(start, begun)) for s in self.spans.values() for start, end in s]
        inside = [(whole, part) for whole, part in clocks if part > 0]
        busy = sum(part for _, part in inside) / ((ended - begun) * cards)
        return busy, sum(part / whole for whole, part in inside) / ((ended - begun) * SCALE) * 3600


def project_of(folder: Path, seconds: float) -> Path:
    """The project: start-up, training and scoring take what they are said to."""
    train = SCORED_TRAIN.replace("time.sleep(0.5)  # starting up", f"time.sleep({START_UP})")
    train = train.replace("SECONDS = 0.2", f"SECONDS = {seconds}")
    files = dict(SCORED_FILES) | {"score.py": SCORED_FILES["score.py"].replace("sleep(0.5)", f"sleep({SCORING})")}
    program = SCORED_PROGRAM.replace('run = "10s"', f'run = "{seconds + 10:.0f}s"')
    return make_project(folder, train=train, program=program, more=files)


def proposals(count: int) -> list[dict[str, object]]:
    """Changes of one number, most of them for the worse, each with the time that it takes to think of it."""
    draw = random.Random(7)
    return [{**rate("0.5", f"0.{600 + n}"), "seconds": draw.uniform(*THINKING)} for n in range(count)]


# --- the plain loop ---


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *IDENTITY, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)


async def train(folder: Path) -> tuple[float, float]:
    """One run as docs/run-protocol.md has it. Returns when its clock started and stopped."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    known = {"AUTORESEARCH_CONTROL_FD": str(theirs.fileno()), "AUTORESEARCH_RUN_DIR": str(out)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "train.py", cwd=folder, env={**os.environ, **known}, pass_fds=[theirs.fileno()],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    theirs.close()
    with ours, (folder / "data.txt").open("rb") as data:
        await asyncio.to_thread(ours.recv, 65536)  # ready
        go = {"type": "go", "names": ["data.txt"], "seconds": 0.0}
        socket.send_fds(ours, [json.dumps(go).encode()], [data.fileno()])
        begun = time.monotonic()
        await asyncio.to_thread(ours.recv, 65536)  # done
        ended = time.monotonic()
    await process.wait()
    return begun, ended


async def printed(folder: Path, script: str) -> dict[str, object]:
    """Run a script of the project. Returns the JSON object in its last line."""
    env = {**os.environ, "AUTORESEARCH_RUN_DIR": str(folder / "out")}
    done = await asyncio.create_subprocess_exec(sys.executable, script, cwd=folder, env=env, stdout=subprocess.PIPE)
    text, _ = await done.communicate()
    found: dict[str, object] = json.loads(text.splitlines()[-1])
    return found


async def score(folder: Path) -> float:
    return float(str((await printed(folder, "score.py"))["metric"]))


async def plain_loop(folder: Path, card: str, lines: Sequence[dict[str, object]], clocks: Clocks) -> None:
    """One experiment after the other on one card."""
    clocks.baseline.append(await train(folder))
    best = await score(folder)
    for line in lines:
        await asyncio.sleep(float(str(line["seconds"])))
        for edit in line["edits"]:  # type: ignore[attr-defined]
            path = folder / edit["path"]
            path.write_text(path.read_text().replace(edit["search"], edit["replace"]))
        git(folder, "commit", "-q", "-a", "-m", str(line["hypothesis"]))
        clocks.spans[card].append(await train(folder))
        value = await score(folder)
        if value < best:
            best = value
        else:
            git(folder, "reset", "-q", "--hard", "HEAD~1")


async def plain(folder: Path, seconds: float, cards: int, count: int) -> Clocks:
    clocks, loops = Clocks(), []
    for card in range(cards):
        project = project_of(folder / f"plain{card}", seconds)
        await printed(project, "prepare.py")
        loops.append(plain_loop(project, f"gpu{card}", proposals(count * cards)[card::cards], clocks))
    await asyncio.gather(*loops)
    return clocks


# --- the engine ---


def ours(folder: Path, seconds: float, cards: int, count: int) -> Clocks:
    """The same proposals by the engine."""
    project = project_of(folder / "ours", seconds)
    script = write_script(folder / "ours.jsonl", proposals(count * cards))
    slots = ",".join(f"gpu{card}" for card in range(cards))
    options: dict[str, object] = {
        "researcher": "scripted",
        "script": str(script),
        "slots": slots,
        "experiments": count * cards,
    }
    options["overrides"] = ("decide.baseline=2", *AHEAD)
    with engine(project, "ours", **options) as (paths, _):
        wait_state(paths, lambda state: state.state == "finished", "the session's end", 3600)
    return clocks_of(paths)


def clocks_of(paths: SessionPaths) -> Clocks:
    """The clocks of the runs, from the log."""
    clocks, begun, slots = Clocks(), {}, {}
    for event in read_events(paths):
        body = event.body
        if isinstance(body, e.RunStarted):
            slots[body.run] = body.slot
        elif isinstance(body, e.RunPhaseChanged) and body.phase == "training":
            begun[body.run] = event.time
        elif isinstance(body, e.RunFinished) and body.run in begun:
            spans = clocks.baseline if body.experiment == BASELINE else clocks.spans[slots[body.run]]
            spans.append((begun[body.run], begun[body.run] + body.training_seconds))
    return clocks


def main(words: list[str]) -> None:
    count = int(words[0]) if words else 8
    rows = []
    with workplace() as folder:
        os.environ["LD_LIBRARY_PATH"] = str(FalseDriver(folder / "driver").folder)
        for name, seconds in RUNS.items():
            for cards in CARDS:
                place = folder / f"{cards}x{seconds:.0f}"
                before, rate_before = asyncio.run(plain(place, seconds, cards, count)).figures(cards)
                after, rate_after = ours(place, seconds, cards, count).figures(cards)
                busy = [f"{100 * before:.1f}", f"{100 * after:.1f}"]
                made = [f"{rate_before:.1f}", f"{rate_after:.1f}", f"{rate_after / rate_before:.2f}"]
                rows.append([name, str(cards), *busy, *made])
                print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    head = ["runs", "cards", "plain, busy %", "ours, busy %", "plain, an hour", "ours, an hour", "times"]
    print(table(head, rows))


if __name__ == "__main__":
    main(sys.argv[1:])
