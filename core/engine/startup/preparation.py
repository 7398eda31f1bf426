"""Preparation before the first run: pristine checkout, the project's data, the seal on both."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from pathlib import Path

from core.engine.journal import Journal
from core.engine.runs.hints.known import Crash
from core.engine.runs.workplace import Workplace
from core.engine.session_settings import SessionSettings
from core.engine.startup.setup import Setup
from core.git import end_commands
from core.lab import environment, prepare
from core.record import events as e
from core.record.errors import ProjectError
from core.text import plural


async def prepare_session(
    setup: Setup, settings: SessionSettings, journal: Journal, place: Workplace, ended: Callable[[], bool]
) -> bool:
    """Check out the pristine code, prepare the data and seal both; each step is logged.

    Returns False when the session has `ended` meanwhile. Raises ProjectError when the project's `prepare` fails.
    """
    top = await _pristine(setup, journal, place, ended)
    if top is None:
        return False
    for path in await asyncio.to_thread(setup.repo.uninitialized_submodules, setup.commit):
        words = f"the submodule {path} is not initialized: its folder is empty in every run, as in your checkout"
        await journal.write(e.Noted("warning", f"{words}. Fill it: git submodule update --init {shlex.quote(path)}"))
    if command := settings.program.prepare(setup.kind):
        await journal.write(e.Preparing(f"preparing data: {command}"))
        output: list[str] = []
        env = {**setup.trusted_environment, "AUTORESEARCH_DEVICE": setup.kind}
        argv = environment.resolve_command(command, env, top)
        work = asyncio.create_task(prepare.prepare(argv, top, env, output.append))
        while not work.done():
            await asyncio.wait({work}, timeout=1.0)
            if output and not work.done():
                await journal.write(e.Preparing(f"preparing data: {output[-1][:200]}"))
                output.clear()
            if ended():
                work.cancel()
                return False
        try:
            place.prepared = work.result()
        except ProjectError as error:
            crash = Crash(reason=error.what.partition("\n")[0], output=error.what)
            paths = setup.paths
            error.hint = await asyncio.to_thread(
                place.hint, crash, "prepare", paths.folder, paths.pristine, setup.commit
            )
            raise
    await journal.write(e.Preparing("sealing the pristine code and the data"))
    await asyncio.to_thread(place.close_seal)
    await journal.write(e.Preparing("", place.seal_digest, place.sealed()))
    return not ended()


async def _pristine(setup: Setup, journal: Journal, place: Workplace, ended: Callable[[], bool]) -> Path | None:
    """Check out the pristine code. None when the session has `ended` meanwhile: git is killed."""
    count = await asyncio.to_thread(setup.repo.count, setup.commit)
    await journal.write(e.Preparing(f"checking out {plural(count, 'file')}"))
    work = asyncio.create_task(asyncio.to_thread(place.checkout, setup.paths.pristine, setup.commit))
    while not work.done():
        await asyncio.wait({work}, timeout=0.2)
        if ended():
            end_commands(setup.paths.folder)
            await asyncio.gather(work, return_exceptions=True)
            return None
    return work.result()
