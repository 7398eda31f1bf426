"""Cost of one update of each pane of the main screen, in sessions of different length, in processor time."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from core.record import events as e
from tests.tui.stage import Playing, build
from tui.app import Cockpit
from tui.screens.main_screen import MainScreen


class Screen:
    """The app on a staged session that goes on: an experiment is judged before each update, and the next begins."""

    def __init__(self, folder: Path, experiments: int) -> None:
        self.stage = build(folder, experiments, files=3)
        self.source = Playing(self.stage)
        paths = self.stage.paths
        self.app = Cockpit(paths.project, paths, source=self.source, clock=lambda: self.stage.now)

    @staticmethod
    async def compare(folders: Sequence[Path], sizes: Sequence[int], times: int) -> dict[str, list[float]]:
        """Median milliseconds of each pane, by its name, and of the lines around them, in each session in turn."""
        screens = [Screen(folder, size) for folder, size in zip(folders, sizes, strict=True)]
        found: dict[str, list[list[float]]] = {}
        for place, one in enumerate(screens):
            async with AsyncExitStack() as stack:
                pilot = await stack.enter_async_context(one.app.run_test(size=(160, 48)))
                await pilot.pause(0.5)
                for turn in range(times + 1):
                    for name, spent in one.update().items():
                        spans = found.setdefault(name, [[] for _ in screens])
                        spans[place] += [spent] if turn else []
                    await pilot.pause(0.01)
        return {name: [statistics.median(some) for some in spans] for name, spans in found.items()}

    def update(self) -> dict[str, float]:
        """Milliseconds of each pane after one more verdict."""
        screen = self.app.screen
        assert isinstance(screen, MainScreen)
        self._happen()
        screen.host.take_events()
        found = {}
        gc.collect()
        for pane in screen.panes:
            began = time.process_time()
            pane.poll()
            pane.flush_if_changed()
            found[pane.NAME] = 1000 * (time.process_time() - began)
        began = time.process_time()
        screen.flush()
        found["lines around them"] = 1000 * (time.process_time() - began)
        return found

    def _happen(self) -> None:
        """The experiment that runs is discarded; the one that was thought about runs."""
        state = self.source.state
        running = min(state.live)
        for run in state.live_runs():
            self.source.happen(e.RunFinished(
                run=run.run, experiment=run.experiment, ended="done", metric=(state.best_metric or 2.0) + 0.001,
                seconds=20.0, wall_seconds=21.0,
            ))  # fmt: skip
        self.source.happen(e.Judged(
            experiment=running, verdict="discarded", metric=(state.best_metric or 2.0) + 0.001, delta=0.001,
            reason="no better", commit=f"{running:040x}", runs=1,
        ))  # fmt: skip
        begun, following = running + 1, running + 2
        self.source.happen(
            e.Proposed(
                experiment=begun, hypothesis=f"Change number {begun}", rationale="", expected=None, kind="other",
                diff="-a\n+b\n", files=("train.py",), added=1, removed=1, seconds=1.0,
            ),
            e.Committed(begun, f"{begun:040x}", f"{state.best:040x}"),
            e.RunStarted(run=state.next_run, experiment=begun, kind="candidate", slot="cpu0", seed=1,
                         commit=f"{begun:040x}", budget="20s"),
            e.RunPhaseChanged(state.next_run, begun, "training"),
            e.ExperimentStarted(experiment=following, parent=state.best, parent_commit="c", researcher="claude"),
        )  # fmt: skip
