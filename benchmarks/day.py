"""A day in an hour: a session of short runs, in which whatever lives is killed every few seconds, the engine included.

    python -m benchmarks day [EXPERIMENTS] [SECONDS_BETWEEN_KILLS] [SEED]      # default 5000, 4 and 1

Runs of one second in two slots, each scored, by a scripted researcher. At random times the engine, the app, a run, a
start that waits for its clock or a scorer is killed (SIGKILL). The engine and the app are started again. At the end the
log is checked, and what is left of processes, worktrees and descriptors.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.engine.support import product, proposed_and_judged, workplace
from benchmarks.screen.terminal import Terminal, table
from core.client import read_events, read_state, start_engine
from core.record import events as e
from core.record.state import BASELINE
from core.session.disk import read_json
from core.session.lock import engine_alive, lock_holder
from core.session.options import EngineOptions
from core.session.paths import SessionPaths
from tests.projects import SCORED_FILES, SCORED_PROGRAM, SCORED_TRAIN, make_project, write_script

STUCK_SECONDS = 300.0  # without a verdict
LEFT_SECONDS = 30.0  # in which what was killed last may end
ENDED = ("finished", "crashed", "stopped")


def day_project(folder: Path, proposals: int, seed: int) -> tuple[Path, Path]:
    """A project whose runs take a second and are scored, and a script of proposals: one in twenty is better."""
    files = {**SCORED_FILES, "score.py": SCORED_FILES["score.py"].replace("time.sleep(0.5)", "time.sleep(0.05)")}
    train = SCORED_TRAIN.replace("time.sleep(0.5)  # starting up", "time.sleep(0.1)  # starting up")
    train = train.replace("SECONDS = 0.2", "SECONDS = 0.8")
    project = make_project(folder, program=SCORED_PROGRAM, train=train, more=files)
    draw, rate, lines = random.Random(seed), 0.5, []
    for number in range(1, proposals + 1):
        better = draw.random() < 0.05
        rate = rate - 0.0004 if better else rate
        text = train.replace("RATE = 0.5", f"RATE = {rate if better else 0.6 + 0.3 * draw.random():.5f}")
        edit = {"path": "train.py", "content": f"{text}# change {number}\n"}
        lines.append({"hypothesis": f"change {number} lowers the loss", "kind": "other", "edits": [edit]})
    return project, write_script(folder.parent / f"{folder.name}.jsonl", lines)


def processes_of(folder: Path) -> list[psutil.Process]:
    """All processes that name `folder` in their words, their environment or as their working folder, but this one."""
    found, words = [], str(folder).encode()
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with suppress(OSError):
            at = Path("/proc", str(process.pid))
            said = (at / "cmdline").read_bytes() + (at / "environ").read_bytes() + os.fsencode((at / "cwd").readlink())
            if words in said and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@dataclass
class Day:
    """One session, its app, and what was killed so far."""

    paths: SessionPaths
    options: EngineOptions
    draw: random.Random
    killed: Counter[str] = field(default_factory=Counter)
    descriptors: list[int] = field(default_factory=list)  # of each engine shortly before its end
    app: Terminal | None = None

    def jobs(self, *phases: str) -> list[int]:
        """Processes of the runs that are in one of these phases, as the process beside each tells."""
        found = []
        for folder in self.paths.folder.glob("runs/[0-9]*"):
            if (folder / "exit.json").exists() or not (folder / "status.json").exists():
                continue
            with suppress(Exception):  # it is written at this moment, or was never complete
                status: dict[str, Any] = read_json(folder / "status.json")
                if status["phase"] in phases and psutil.pid_exists(pid := status["job"][1]):
                    found.append(pid)
        return found

    def scorers(self) -> list[int]:
        return [p.pid for p in processes_of(self.paths.project) if "score.py" in " ".join(_words(p))]

    def kill_one(self) -> None:
        """Kill what is drawn, if there is one."""
        kind = self.draw.choice(("engine", "app", "run", "waiting start", "scorer"))
        holder = [lock_holder(self.paths)] if engine_alive(self.paths) else []
        victims: Sequence[int] = {
            "engine": lambda: holder, "app": lambda: [self.app.pid] if self.app else [],
            "run": lambda: self.jobs("starting", "training", "saving"), "waiting start": lambda: self.jobs("ready"),
            "scorer": self.scorers,
        }[kind]()  # fmt: skip
        if not victims:
            return
        if kind == "engine":
            with suppress(psutil.Error):
                self.descriptors.append(psutil.Process(holder[0]).num_fds())
        with suppress(ProcessLookupError):
            os.kill(self.draw.choice(victims), signal.SIGKILL)
            self.killed[kind] += 1
        if kind == "app" and self.app is not None:
            self.app.close()
            self.app = None

    def play(self, experiments: int, between: float) -> None:
        """Run the session to its end. Raises RuntimeError when no verdict comes any more."""
        judged, since, begun = 0, time.monotonic(), time.monotonic()
        while True:
            if not engine_alive(self.paths):
                if read_state(self.paths).state in ENDED:
                    return
                start_engine(self.paths, self.options)
            if self.app is None:
                self.app = Terminal(product("attach", "-C", str(self.paths.project), self.paths.name))
            self.app.run(between * (0.5 + self.draw.random()))
            now = sum(read_state(self.paths).verdicts.values())
            if now != judged:
                judged, since = now, time.monotonic()
                print(f"{judged} of {experiments}, {since - begun:.0f} s", file=sys.stderr, flush=True)
            if time.monotonic() - since > STUCK_SECONDS:
                raise RuntimeError(f"no verdict after {judged} of {experiments}")
            if judged < experiments:
                self.kill_one()


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return list(process.cmdline())
    return []


def checked(day: Day, experiments: int) -> list[list[str]]:
    """How often each thing that must not be was found."""
    proposed, judged = proposed_and_judged(day.paths)
    bodies = [event.body for event in read_events(day.paths)]
    ran = Counter(body.run for body in bodies if isinstance(body, e.RunFinished))
    end = time.monotonic() + LEFT_SECONDS
    while (left := processes_of(day.paths.project)) and time.monotonic() < end:
        time.sleep(0.2)
    listed = ["git", "-C", str(day.paths.project), "worktree", "list", "--porcelain"]
    lines = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines()
    kept = {str(day.paths.project), str(day.paths.pristine)}
    trees = [line for line in lines if line.startswith("worktree ") and line.removeprefix("worktree ") not in kept]
    for what in (*left, *trees):
        print(what, file=sys.stderr)
    asked = range(1, experiments + 1)
    state = read_state(day.paths)
    return [
        ["lost (never proposed, or without a verdict)", str(sum(not proposed[n] or not judged[n] for n in asked))],
        ["proposed twice", str(sum(count > 1 for count in proposed.values()))],
        ["judged twice", str(sum(count > 1 for n, count in judged.items() if n != BASELINE))],
        ["runs with two ends, or none", str(sum(count > 1 for count in ran.values()) + len(state.running))],
        ["processes left", str(len(left))],
        ["worktrees left", str(len(trees))],
        ["events that `verify` does not accept", str(_refused(day.paths))],
    ]


def _refused(paths: SessionPaths) -> int:
    done = subprocess.run(
        product("verify", paths.name, "-C", str(paths.project)), capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
    return int(done.returncode != 0)


def main(words: list[str]) -> int:
    experiments, between, seed = (float(word) for word in words + ["5000", "4", "1"][len(words) :])
    count = int(experiments)
    with workplace() as folder:
        project, script = day_project(folder / "day", count, int(seed))
        options = EngineOptions(researcher="scripted", script=str(script), experiments=count, slots="cpu:2")
        day = Day(SessionPaths(project, "day"), options, random.Random(int(seed)))
        begun = time.monotonic()
        try:
            start_engine(day.paths, options)
            day.play(count, between)
        finally:
            if day.app is not None:
                day.app.close()
            if engine_alive(day.paths):
                os.kill(lock_holder(day.paths), signal.SIGTERM)
        seconds, state = time.monotonic() - begun, read_state(day.paths)
        verdicts = ", ".join(f"{n} {word}" for word, n in sorted(state.verdicts.items()) if n)
        print(f"{state.state}: {state.reason}\n{verdicts}\n{seconds:.0f} s, {seconds / count:.2f} s an experiment")
        print("killed: " + ", ".join(f"{name} {n}" for name, n in sorted(day.killed.items())))
        if day.descriptors:
            print(f"descriptors of an engine when it was killed: {min(day.descriptors)} to {max(day.descriptors)}\n")
        rows = checked(day, count)
        print(table(["what must not be", "number"], rows), flush=True)
    return 1 if any(row[1] != "0" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
