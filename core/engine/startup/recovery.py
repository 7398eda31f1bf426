"""What a starting engine does about what the last one left: git follows the log, and it says what it did."""

from __future__ import annotations

import asyncio
from pathlib import Path

from core.engine.loop import Loop
from core.lab import runner, stale_tmp
from core.record import events as e


async def recover(loop: Loop) -> None:
    """Re-apply git from the log and sort out the runs in flight. Logs Recovered when there was anything to do.

    The runs themselves are adopted or abandoned by the experiments that own them; this says which it will be.
    """
    setup, state = loop.setup, loop.state
    await asyncio.to_thread(stale_tmp.sweep)
    actions: list[str] = []
    for run in state.live_runs():
        job = runner.adopt(setup.paths.run(run.run))
        what = "abandoned, and its experiment is run again" if job is None else "adopted"
        actions.append(f"run {run.run} of experiment {run.experiment}: {what}")
    for number in state.live:
        x = state.experiments[number]
        if number and not x.commit:
            actions.append(f"experiment {number} was still being thought about: it is begun again")
        elif number and not x.runs:
            actions.append(f"experiment {number} was proposed and not run: it goes on")
    actions += await asyncio.to_thread(loop.judge.agree)
    await loop.judge.follow()
    keep = {setup.paths.worktree(run.run) for run in state.live_runs()}
    actions += await asyncio.to_thread(_sweep, loop, keep)
    first = not any(x.runs for x in state.experiments.values())
    if actions and not first:
        await loop.journal.write(e.Recovered(tuple(actions)))


def _sweep(loop: Loop, keep: set[Path]) -> list[str]:
    """Worktrees of runs that are over."""
    repo, folder = loop.setup.repo, loop.setup.paths.worktrees
    removed = 0
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path not in keep:
            repo.remove_worktree(path)
            removed += 1
    return [f"removed {removed} worktree{'s' * (removed != 1)} of runs that are over"] if removed else []
