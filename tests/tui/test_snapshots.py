"""The screens to the cell and the colour. After a wanted change: `pytest tests/tui --snapshot-update`, and look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from core.client import Connection
from tests.tui.conftest import Clock, text_of
from tests.tui.stage import Playing, Stage, build
from tui.app import Cockpit
from tui.theme import Look


def cockpit(stage: Stage, look: str = "dark", ascii_only: bool = False) -> Cockpit:
    source = Playing(stage)
    own = Look(look, ascii_only)
    return Cockpit(stage.paths.project, stage.paths, source=source, look=own, clock=Clock(stage.now))


async def settled(pilot: Pilot[Any]) -> None:
    """Until code has its colours, every stream is read, and the screen has stayed the same for a while."""
    app = pilot.app
    assert isinstance(app, Cockpit)
    same, before = 0, ""
    for _ in range(400):
        await pilot.pause(0.05)
        coloured = getattr(getattr(app.screen, "diff", None), "colours", True)
        shown = text_of(app)
        same = same + 1 if coloured and shown == before else 0
        before = shown
        if same >= 8:
            return
    raise AssertionError("the screen never came to rest")


@pytest.mark.parametrize(
    "size,look,ascii_only",
    [((160, 48), "dark", False), ((120, 36), "ansi", False), ((80, 24), "dark", False), ((120, 36), "plain", True)],
)
def test_main(snap_compare: Any, stage: Stage, size: tuple[int, int], look: str, ascii_only: bool) -> None:
    assert snap_compare(cockpit(stage, look, ascii_only), terminal_size=size, run_before=settled)


def test_empty(snap_compare: Any, tmp_path: Path) -> None:
    stage = build(tmp_path, experiments=0, live=False)
    assert snap_compare(cockpit(stage), terminal_size=(120, 36), run_before=settled)


def test_disconnected(snap_compare: Any, stage: Stage) -> None:
    app = cockpit(stage)

    async def lose(pilot: Pilot[Any]) -> None:
        source = app.model.source
        assert isinstance(source, Playing)
        source.connection = Connection("lost", stage.now - 17, stage.now + 4, "nothing heard from the engine for 15 s")
        source.version += 1
        await settled(pilot)

    assert snap_compare(app, terminal_size=(120, 36), run_before=lose)


def test_experiment(snap_compare: Any, stage: Stage) -> None:
    async def opened(pilot: Pilot[Any]) -> None:
        await pilot.pause(0.3)
        await pilot.press("4", "j", "j", "j", "enter")
        await settled(pilot)

    assert snap_compare(cockpit(stage), terminal_size=(120, 36), run_before=opened)
