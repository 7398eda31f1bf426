"""The screens to the cell, and two of them to the colour. After a wanted change: `pytest tests/tui --snapshot-update`,
and look at what changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from core.client.live import Client, Connection
from core.record import events as e
from tests.recorded import make_session
from tests.tui.conftest import Clock, text_of
from tests.tui.stage import Playing, Stage, build, realistic_diff
from tui.app import Cockpit
from tui.paint.theme import Look


def cockpit(stage: Stage, look: str = "dark", ascii_only: bool = False) -> Cockpit:
    source = Playing(stage)
    own = Look(look, ascii_only)
    return Cockpit(stage.paths.project, stage.paths, source=source, look=own, clock=Clock(stage.now))


async def settled(pilot: Pilot[Any]) -> None:
    """Wait until code is coloured, every stream is read, and the screen is unchanged for a while."""
    app = pilot.app
    assert isinstance(app, Cockpit)
    same, before = 0, ""
    for _ in range(600):
        await pilot.pause(0.05)
        coloured = getattr(getattr(app.screen, "diff", None), "highlights", True)
        shown = text_of(app)
        same = same + 1 if coloured and shown == before else 0
        before = shown
        if same >= 8:
            return
    raise AssertionError("the screen never came to rest")


@pytest.mark.parametrize("size,look,ascii_only", [((160, 48), "dark", False), ((120, 36), "ansi", False)])
def test_main_screen(snap_compare: Any, stage: Stage, size: tuple[int, int], look: str, ascii_only: bool) -> None:
    assert snap_compare(cockpit(stage, look, ascii_only), terminal_size=size, run_before=settled)


async def test_main_screen_in_every_session_state(stage: Stage, snapshot: Any) -> None:
    """One app, set to each state in turn."""
    app = cockpit(stage)
    source = app._source
    assert isinstance(source, Playing)
    async with app.run_test(size=(160, 48)) as pilot:

        async def same(name: str) -> None:
            await settled(pilot)
            assert text_of(app) == snapshot(name=name)

        await same("running 160x48")
        await pilot.resize_terminal(120, 36)
        await same("running 120x36")
        await pilot.resize_terminal(80, 24)
        await same("running 80x24")
        await pilot.resize_terminal(39, 9)
        await same("running 39x9")
        await pilot.resize_terminal(120, 36)
        source.happen(e.StateChanged("paused", "by you"))
        await same("paused")
        number = max(source.state.live)
        proposal = e.Proposed(experiment=number, hypothesis="Rotary base 20k: the context is short",
        rationale="A slower base wastes pairs.", expected=-0.0015,
                              kind="architecture", diff=realistic_diff(5), files=("nanotrain/train.py",), added=3,
                              removed=2, seconds=22.0)  # fmt: skip
        source.happen(e.StateChanged("running"), proposal, e.ApprovalRequested(number))
        await same("approval")
        app.clock.now += 1  # type: ignore[attr-defined]
        await pilot.press("escape")
        source.connection = Connection("lost", stage.now - 17, stage.now + 5, "nothing heard from the engine for 15 s")
        source.version += 1
        await same("disconnected")


@pytest.mark.usefixtures("in_project")
async def test_reading_screens(stage: Stage, snapshot: Any) -> None:
    app = cockpit(stage)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        for name, keys in (
            ("lineage", "L"), ("failures", "X j"), ("costs", "dollar_sign"), ("compare", "m 4 j j j m c"),
            ("experiment", "enter"), ("curves", "4"),
        ):  # fmt: skip
            for key in keys.split():
                await pilot.press(key)
            await settled(pilot)
            assert text_of(app) == snapshot(name=name)
            if name != "experiment":
                await pilot.press("escape")


@pytest.mark.parametrize("look,ascii_only", [("plain", True), ("plain", False)])
async def test_main_screen_without_colours(stage: Stage, snapshot: Any, look: str, ascii_only: bool) -> None:
    app = cockpit(stage, look, ascii_only)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        assert text_of(app) == snapshot


@pytest.mark.parametrize("name,experiments,live", [("empty", 0, False), ("crashed", 7, True), ("finished", 12, False)])
async def test_main_screen_without_an_engine(
    tmp_path: Path, snapshot: Any, name: str, experiments: int, live: bool
) -> None:
    if name == "empty":
        app = cockpit(build(tmp_path, experiments=0, live=False))
    else:
        paths = make_session(tmp_path / "project", experiments, live=live)
        app = Cockpit(tmp_path, paths, source=Client(paths), look=Look())
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        assert text_of(app) == snapshot(name=name)


@pytest.mark.slow
async def test_main_screen_with_ten_thousand_experiments(tmp_path: Path, snapshot: Any) -> None:
    paths = make_session(tmp_path / "project", 10_000, files=False)
    app = Cockpit(tmp_path, paths, source=Client(paths), look=Look())
    async with app.run_test(size=(160, 48)) as pilot:
        await settled(pilot)
        assert text_of(app) == snapshot
