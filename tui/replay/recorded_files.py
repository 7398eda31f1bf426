"""The files beside a log (reasoning, output, curves), growing in a copy as they grew while it was recorded."""

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

LARGEST = 8 * 1024 * 1024  # bytes of one file that are played; of a longer one, its end


class _Growing:
    """One file: its lines with the moment each appeared."""

    def __init__(self, target: Path, lines: list[tuple[float, bytes]]) -> None:
        self._target = target
        self._lines = lines
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
    """Lets the files of `origin` appear in `copy`."""

    def __init__(self, origin: SessionPaths, copy: SessionPaths) -> None:
        self._origin, self._copy = origin, copy
        self._thinking: dict[int, _Growing] = {}
        self._runs: dict[int, tuple[_Growing, _Growing]] = {}
        self._ended: dict[int, float] = {}  # run -> seconds it took, read ahead from the log by its end
        copy.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            shutil.copyfile(origin.program, copy.program)
        if options := load_options(origin):
            with contextlib.suppress(OSError):
                save_options(copy, options)

    def heard(self, event: Event) -> None:
        """An event of the log was applied: what it ends is complete."""
        body = event.body
        if isinstance(body, (e.Proposed, e.Judged)):
            self._complete(self._thinking.pop(body.experiment, None), self._origin.reasoning(body.experiment))
        elif isinstance(body, e.RunFinished):
            for growing, name in zip(self._runs.pop(body.run, (None, None)), ("curve.tsv", "output.log"), strict=True):
                self._complete(growing, self._origin.run(body.run) / name)

    def _complete(self, growing: _Growing | None, origin: Path) -> None:
        """All of it: what grew goes on to its end; what nobody has seen grow is linked as a whole."""
        if growing is not None:
            growing.grow(float("inf"))
            return
        target = self._copy.folder / origin.relative_to(self._origin.folder)
        if origin.is_file() and not target.exists():
            with contextlib.suppress(OSError):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(origin)

    def grow(self, state: State, now: float) -> None:
        """Let what is under way at `now` (Unix seconds) reach where it was then."""
        for number in state.live:
            x = state.experiments[number]
            if x.phase in ("thinking", "waiting"):
                if number not in self._thinking:
                    self._thinking[number] = self._stream(number)
                self._thinking[number].grow(now)
        for run in state.live_runs():
            if run.run not in self._runs:
                self._runs[run.run] = self._of_run(run)
            seconds = now - run.clock_started if run.clock_started else -1.0
            for growing in self._runs[run.run]:
                growing.grow(seconds)

    def _stream(self, experiment: int) -> _Growing:
        lines: list[tuple[float, bytes]] = []
        for line in _lines(self._origin.reasoning(experiment)):
            try:
                moment = float(json.loads(line)["t"])
            except (ValueError, KeyError, TypeError):
                moment = lines[-1][0] if lines else 0.0
            lines.append((moment, line))
        return _Growing(self._copy.reasoning(experiment), lines)

    def _of_run(self, run: Run) -> tuple[_Growing, _Growing]:
        """Curve and output of a run; the output has no times of its own and comes as evenly as the curve does."""
        curve: list[tuple[float, bytes]] = []
        for line in _lines(self._origin.run(run.run) / "curve.tsv"):
            try:
                curve.append((float(line.split(b"\t")[0]), line))
            except ValueError:
                continue
        length = curve[-1][0] if curve else 0.0
        output = _lines(self._origin.run(run.run) / "output.log")
        told = [(length * i / max(1, len(output)), line) for i, line in enumerate(output)]
        folder = self._copy.run(run.run)
        return _Growing(folder / "curve.tsv", curve), _Growing(folder / "output.log", told)


def _lines(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as handle:
            size = handle.seek(0, 2)
            handle.seek(max(0, size - LARGEST))
            return handle.read().splitlines(keepends=True)
    except OSError:
        return []
