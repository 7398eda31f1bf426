"""A day in an hour: a session of short runs, in which whatever lives is killed every few seconds, the engine included.

    python -m benchmarks day [EXPERIMENTS] [SECONDS_BETWEEN_KILLS] [SEED]      # default 5000, 4 and 1

Runs of one second in two slots, each scored, by a scripted researcher. At random times one of them is killed (SIGKILL):
the engine, an engine that is starting, the app, a run, a start that waits for its clock, the shim beside a run, a
scorer, its keeper, the template that scored models are forked from, such a model. Engine and app are started again. At
the end the log is checked, and what is left of processes, worktrees, files and descriptors. Ended early (SIGTERM,
SIGINT), it lets what has begun come to its end, and reports on that.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.day import leftovers
from benchmarks.day.project import day_project, light_python
from benchmarks.day.victims import KINDS, control_groups_of, find, processes_of
from benchmarks.engine.support import product, workplace
from benchmarks.screen.terminal import Terminal, table
from core.client import read_state, request, start_engine
from core.record import commands
from core.record.errors import AutoresearchError
from core.session.lock import engine_alive, lock_holder
from core.session.options import EngineOptions
from core.session.paths import SessionPaths

STUCK_SECONDS = 300.0  # without a verdict
LOOK_SECONDS = 3.0  # for one of the kind that was drawn
ENDED = ("finished", "crashed", "stopped")


@dataclass
class Day:
    """One session, its app, and what was killed so far. `place`: the folder around it all."""

    paths: SessionPaths
    place: Path
    options: EngineOptions
    draw: random.Random
    experiments: int
    killed: Counter[str] = field(default_factory=Counter)
    groups: set[str] = field(default_factory=set)  # control groups that were seen
    held: list[tuple[int, float]] = field(default_factory=list)  # (descriptors, MB) of each engine before its end
    odd: Counter[str] = field(default_factory=Counter)  # what the session did and should not
    paused: int = 0  # since the scorer of one run was killed twice, which asks for a person
    app: Terminal | None = None
    cut_short: bool = False  # by a signal, or since no verdict came

    def play(self, between: float) -> None:
        """Run the session to its end."""
        judged, since, begun = 0, time.monotonic(), time.monotonic()
        while not self._has_ended():
            self._keep_up(self.draw.random() < 0.3 and judged < self.experiments)
            self._watch(between * (0.5 + self.draw.random()))
            now = sum(read_state(self.paths).verdicts.values())
            if now != judged:
                judged, since = now, time.monotonic()
                print(f"{judged} of {self.experiments}, {since - begun:.0f} s", file=sys.stderr, flush=True)
            if time.monotonic() - since > STUCK_SECONDS:
                self.odd["no verdict any more"] += 1
                self.cut_short = True
                return
            if self.cut_short and self.experiments > judged:
                self._end_soon()
            elif judged < self.experiments:
                self._kill_one(self.draw.choice([kind for kind in KINDS if kind != "starting engine"]))

    def _has_ended(self) -> bool:
        return not engine_alive(self.paths) and read_state(self.paths).state in ENDED

    def _keep_up(self, again: bool) -> None:
        """Start the engine and the app where they do not live. `again`: the engine is killed while it starts."""
        if not engine_alive(self.paths):
            starting = threading.Thread(target=self._start)
            starting.start()
            if again:
                starting.join(1.5 * self.draw.random())
                self._kill_one("starting engine")
            starting.join()
        if (state := read_state(self.paths)).state == "paused":
            if state.reason.startswith("the scorer failed"):
                self.paused += 1
            else:
                self.odd[f"paused by itself: {state.reason.splitlines()[0]}"] += 1
            with suppress(AutoresearchError):
                request(self.paths, commands.Resume())
        if self.app is None:
            self.app = Terminal(product("attach", "-C", str(self.paths.project), self.paths.name))

    def _start(self) -> None:
        before = self.killed["starting engine"]
        try:
            start_engine(self.paths, self.options)
        except AutoresearchError as error:
            if self.killed["starting engine"] == before:
                self.odd[f"an engine did not start: {str(error).splitlines()[0]}"] += 1

    def _watch(self, seconds: float) -> None:
        assert self.app is not None
        self.app.run(seconds)
        with suppress(ChildProcessError):
            if os.waitpid(self.app.pid, os.WNOHANG)[0]:
                self.odd["the app ended by itself"] += 1
                print(self.app.tail[-2000:].decode(errors="replace"), file=sys.stderr)
                self.app.close()
                self.app = None

    def _kill_one(self, kind: str) -> None:
        """Kill one of this kind, if there is one within a few seconds."""
        end, victims = time.monotonic() + LOOK_SECONDS, list[int]()
        while not victims and time.monotonic() < end:
            time.sleep(0.02 * self.draw.random())
            processes = processes_of(self.place)
            victims = [self.app.pid] if kind == "app" and self.app else find(kind, self.paths, processes)
            self.groups |= control_groups_of(processes)
            if kind == "starting engine":
                break
        if not victims:
            return
        victim = self.draw.choice(victims)
        with suppress(psutil.Error, ProcessLookupError):
            process = psutil.Process(victim)
            if kind == "engine":
                self.held.append((process.num_fds(), process.memory_info().rss / 1e6))
            os.kill(victim, signal.SIGKILL)
            self.killed[kind] += 1
        if kind == "app" and self.app is not None:
            self.app.close()
            self.app = None

    def _end_soon(self) -> None:
        """No experiment begins any more: the budget is what has begun."""
        self.experiments = max(read_state(self.paths).experiments)
        with suppress(AutoresearchError):
            request(self.paths, commands.ChangeBudget(experiments=self.experiments))

    def close(self) -> None:
        """End the app, and the engine where it lives."""
        if self.app is not None:
            self.app.close()
        if engine_alive(self.paths):
            os.kill(lock_holder(self.paths), signal.SIGTERM)
            end = time.monotonic() + leftovers.LEFT_SECONDS
            while engine_alive(self.paths) and time.monotonic() < end:
                time.sleep(0.1)

    def report(self, seconds: float) -> int:
        """Print what was seen. Returns 1 when something is wrong, and keeps a copy of the session then."""
        state = read_state(self.paths)
        count = sum(state.verdicts.values())
        verdicts = ", ".join(f"{n} {word}" for word, n in sorted(state.verdicts.items()) if n)
        print(
            f"{state.state}: {state.reason}\n{verdicts}\n{seconds:.0f} s, {seconds / max(count, 1):.2f} s an experiment"
        )
        print("killed: " + ", ".join(f"{name} {self.killed[name]}" for name in KINDS))
        print(f"paused, and resumed here, since a run was scored twice and both scorers were killed: {self.paused}")
        if self.held:
            few, small, many, large = *map(min, zip(*self.held, strict=True)), *map(max, zip(*self.held, strict=True))
            print(f"an engine when it was killed: {few} to {many} descriptors, {small:.0f} to {large:.0f} MB\n")
        temporary = Path(os.environ["TMPDIR"])
        rows = leftovers.found(self.paths, self.place, temporary, self.groups, self.experiments) | dict(self.odd)
        print(table(["what must not be", "number"], [[what, str(number)] for what, number in rows.items()]), flush=True)
        if bad := any(rows.values()):
            kept = Path(tempfile.mkdtemp(prefix="day-", dir=self.place.parent))
            shutil.copytree(self.paths.project, kept / "project", symlinks=True)
            print(f"the session is kept in {kept}")
        return int(bad)


def main(words: list[str]) -> int:
    experiments, between, seed = (float(word) for word in words + ["5000", "4", "1"][len(words) :])
    count = int(experiments)
    with workplace() as folder:
        (folder / "tmp").mkdir()
        os.environ["TMPDIR"] = str(folder / "tmp")
        light_python(folder / "python")
        project, script = day_project(folder / "day", count, int(seed))
        options = EngineOptions(researcher="scripted", script=str(script), experiments=count, slots="cpu:2")
        day = Day(SessionPaths(project, "day"), folder, options, random.Random(int(seed)), count)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(day, "cut_short", True))
        begun = time.monotonic()
        try:
            start_engine(day.paths, options)
            day.play(between)
        finally:
            day.close()
        return day.report(time.monotonic() - begun)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
