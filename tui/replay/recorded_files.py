"""Files of a replayed session (reasoning, output, curves), growing in a copy as they grew when recorded."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

from core.record import events as e
from core.record.events import Event
from core.record.state import Run, State
from core.session.options import load_options, save_options
from core.session.paths import SessionPaths

MAX_FILE_BYTES = 8 * 1024 * 1024  # of one file that are replayed; of a longer file, the end


class _GrowingFile:
    """One file: its lines, each with the time at which it appeared."""

    def __init__(self, target: Path, lines: list[tuple[float, bytes]]) -> None:
        self._target, self._lines = target, lines
        self._written = 0

    def grow(self, moment: float) -> None:
        due = self._written
        while due < len(self._lines) and self._lines[due][0] <= moment:
            due += 1
        if due > self._written:
            with contextlib.suppress(OSError):
                self._target.parent.mkdir(parents=True, exist_ok=True)
                with self._target.open("ab") as handle:
                    handle.writelines(line for _, line in self._lines[self._written : due])
            self._written = due


class PlayedFiles:
    """Copies the files of the session `origin` to `copy`, line by line, as time passes."""

    def __init__(self, origin: SessionPaths, copy: SessionPaths) -> None:
        self._origin, self._copy = origin, copy
        self._reasoning: dict[int, _GrowingFile] = {}  # by experiment
        self._runs: dict[int, tuple[_GrowingFile, _GrowingFile]] = {}  # curve and output by run
        copy.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            shutil.copyfile(origin.program, copy.program)
        if options := load_options(origin):
            with contextlib.suppress(OSError):
                save_options(copy, options)

    def apply(self, event: Event) -> None:
        """Complete the files of what an event of the log ends."""
        body = event.body
        if isinstance(body, (e.Proposed, e.Judged)):
            self._complete(self._reasoning.pop(body.experiment, None), self._origin.reasoning(body.experiment))
        elif isinstance(body, e.RunFinished):
            for growing, name in zip(self._runs.pop(body.run, (None, None)), ("curve.tsv", "output.log"), strict=True):
                self._complete(growing, self._origin.run(body.run) / name)

    def _complete(self, growing: _GrowingFile | None, origin: Path) -> None:
        """Append the rest of a growing file; link a file of which no line was shown."""
        if growing is not None:
            growing.grow(float("inf"))
            return
        target = self._copy.folder / origin.relative_to(self._origin.folder)
        if origin.is_file() and not target.exists():
            with contextlib.suppress(OSError):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(origin)

    def grow(self, state: State, now: float) -> None:
        """Append the lines that appeared until `now` (Unix seconds) to the files of live experiments and runs."""
        for number in state.live:
            if state.experiments[number].phase in ("thinking", "waiting"):
                if number not in self._reasoning:
                    self._reasoning[number] = self._stream(number)
                self._reasoning[number].grow(now)
        for run in state.live_runs():
            if run.run not in self._runs:
                self._runs[run.run] = self._of_run(run)
            seconds = now - run.clock_started if run.clock_started else -1.0
            for growing in self._runs[run.run]:
                growing.grow(seconds)

    def _stream(self, experiment: int) -> _GrowingFile:
        lines: list[tuple[float, bytes]] = []
        for line in _lines(self._origin.reasoning(experiment)):
            try:
                moment = float(json.loads(line)["t"])
            except (ValueError, KeyError, TypeError):
                moment = lines[-1][0] if lines else 0.0
            lines.append((moment, line))
        return _GrowingFile(self._copy.reasoning(experiment), lines)

    def _of_run(self, run: Run) -> tuple[_GrowingFile, _GrowingFile]:
        """Curve and output of a run; the lines of the output have no times and are spread evenly over the curve's."""
        curve: list[tuple[float, bytes]] = []
        for line in _lines(self._origin.run(run.run) / "curve.tsv"):
            try:
                curve.append((float(line.split(b"\t")[0]), line))
            except ValueError:
                continue
        length = curve[-1][0] if curve else 0.0
        output = _lines(self._origin.run(run.run) / "output.log")
        timed = [(length * i / max(1, len(output)), line) for i, line in enumerate(output)]
        folder = self._copy.run(run.run)
        return _GrowingFile(folder / "curve.tsv", curve), _GrowingFile(folder / "output.log", timed)


def _lines(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as handle:
            size = handle.seek(0, 2)
            handle.seek(max(0, size - MAX_FILE_BYTES))
            return handle.read().splitlines(keepends=True)
    except OSError:
        return []
