"""Scoring with models that are forked from the template: the same number, and another try where the template dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.lab.environment import run_environment
from core.lab.shim.clocks.clock_register import ClockRegister
from core.lab.shim.clocks.off_clock import OffClock
from core.lab.template.lender import VARIABLE, TemplateLender
from tests.lab.conftest import until
from tests.nanotrain import worlds

BUILD = "    known = {field.name for field in fields(GPTConfig)}\n"


@pytest.fixture
async def lender() -> AsyncIterator[TemplateLender]:
    found = TemplateLender()
    yield found
    await found.close()


async def scored(
    lender: TemplateLender | None, tree: Path, run: Path, home: Path, kill_at: Path | None = None
) -> tuple[dict[str, object], str]:
    """The scorer's answer and its output. `kill_at`: when this file is there the template is killed."""
    env = {"AUTORESEARCH_HOME": str(home), "AUTORESEARCH_WORKTREE": str(tree), "AUTORESEARCH_RUN_DIR": str(run),
           "AUTORESEARCH_DEVICE": "cpu", "AUTORESEARCH_CAGE": "[]"}  # fmt: skip
    argv, env = [sys.executable, "-m", "nanotrain.score"], {**run_environment(home), **env}

    async def score(more: dict[str, str], descriptors: tuple[int, ...]) -> tuple[dict[str, object], str]:
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=worlds.REPOSITORY, env=env | more, pass_fds=descriptors, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        if lender is not None and kill_at is not None:
            await until(lambda: os.access(kill_at, os.F_OK) or process.returncode is not None)
            os.kill(lender._first, signal.SIGKILL)
        output = (await process.communicate())[0].decode()
        assert process.returncode == 0, output
        return json.loads(output.splitlines()[-1]), output

    if lender is None:
        return await score({}, ())
    off_clock = OffClock(ClockRegister(str(home / "clocks"), "1"), 1, scored=True)
    async with lender.lent(sys.executable, env, {}, off_clock) as loan:
        assert loan is not None
        return await score({VARIABLE: loan.variable}, (loan.descriptor,))


async def test_forked_models_are_scored_as_started_ones(home: Path, tmp_path: Path, lender: TemplateLender) -> None:
    tree, run = worlds.worktree(tmp_path / "tree"), worlds.saved_run(tmp_path / "run")
    started, _ = await scored(None, tree, run, home)
    forked, output = await scored(lender, tree, run, home)
    assert forked["metric"] == started["metric"] and "not forked" not in output
    assert not lender.told()


async def test_a_model_whose_template_dies_is_scored_again(home: Path, tmp_path: Path, lender: TemplateLender) -> None:
    there = tmp_path / "there"
    wait = f"    import pathlib, time\n    forked = not pathlib.Path({str(there)!r}).exists()\n"
    wait += f"    pathlib.Path({str(there)!r}).touch()\n    time.sleep(1000 * forked)\n"
    tree = worlds.worktree(tmp_path / "tree", (BUILD, wait + BUILD))
    found, output = await scored(lender, tree, worlds.saved_run(tmp_path / "run"), home, kill_at=there)
    assert "the template has ended: scored again, with processes of its own" in output
    assert isinstance(found["metric"], float), output
    assert "another is started" in lender.told()[0]
