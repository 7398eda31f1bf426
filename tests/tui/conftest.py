"""One staged session for all of these tests, which is only read, and a function that runs the app on it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.tui.stage import Playing, Stage, build
from tui.app import Cockpit
from tui.paint.theme import Look

Shown = tuple[Pilot[int], Cockpit, Playing]
Show = Callable[..., AbstractAsyncContextManager[Shown]]


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build(tmp_path_factory.mktemp("stage"), experiments=14)


@pytest.fixture
def show(stage: Stage) -> Show:
    """`async with show(size=(160, 48)) as (pilot, app, source)`."""

    @asynccontextmanager
    async def shown(
        size: tuple[int, int] = (160, 48), look: str = "dark", at: Stage | None = None, ascii_only: bool = False
    ) -> AsyncIterator[Shown]:
        place = at or stage
        source = Playing(place)
        app = Cockpit(
            place.paths.project, place.paths, source=source, look=Look(look, ascii_only), clock=Clock(place.now)
        )
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            yield pilot, app, source

    return shown


class Clock:
    """A clock that the test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def text_of(app: Cockpit) -> str:
    """The content of the terminal as lines of text."""
    strips = app.screen._compositor.render_strips()
    base = app.screen_stack[-2]._compositor.render_strips() if app.screen.is_modal else []
    return "\n".join(strip.text.rstrip() for strip in [*base, *strips])


async def until(pilot: Pilot[int], condition: Callable[[], bool], seconds: float = 200.0) -> None:
    """Wait for a condition; fail at the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await pilot.pause(0.05)
        if condition():
            return
    raise AssertionError("it did not happen in time")


def files_of(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def in_project(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project is the current folder and the program is on PATH, so that commands on the screen are short."""
    monkeypatch.chdir(stage.paths.project)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
