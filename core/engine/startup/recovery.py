"""Recovery of a session that an earlier engine left: git and the worktrees are made to agree with the log."""

from __future__ import annotations

import asyncio
from pathlib import Path

from core.engine.journal import Journal
from core.engine.startup.setup import Setup
from core.engine.verdict import Judge
from core.lab import runner, stale_tmp
from core.record import events as e
from core.text import plural


async def recover(setup: Setup, journal: Journal, judge: Judge) -> None:
    """Make git agree with the log, and log that (Recovered). Runs in flight are left to their experiments' tasks."""
    state = journal.state
    await asyncio.to_thread(stale_tmp.remove_stale)
    actions: list[str] = []
    for run in state.live_runs():
        job = runner.adopt(setup.paths.run(run.run))
        what = "abandoned, and its experiment is run again" if job is None else "adopted"
        actions.append(f"run {run.run} of experiment {run.experiment}: {what}")
    for number in state.live:
        x = state.experiments[number]
        if number and not x.commit:
            actions.append(f"experiment {number} was still being thought about: it starts again")
        elif number and not x.runs:
            actions.append(f"experiment {number} was proposed and not run: it continues")
    actions += await asyncio.to_thread(judge.agree)
    await judge.follow()
    keep = {setup.paths.worktree(run.run) for run in state.live_runs()}
    actions += await asyncio.to_thread(_sweep, setup, keep)
    if actions and any(x.runs for x in state.experiments.values()):
        await journal.write(e.Recovered(tuple(actions)))


def _sweep(setup: Setup, keep: set[Path]) -> list[str]:
    """Remove the worktrees of runs that are over."""
    folder = setup.paths.worktrees
    over = sorted(set(folder.iterdir()) - keep) if folder.is_dir() else []
    for path in over:
        setup.repo.remove_worktree(path)
    return [f"removed {plural(len(over), 'worktree')} of runs that are over"] if over else []
