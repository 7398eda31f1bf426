"""The reasoning pane: each of several thoughts can be looked at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from core.record import events as e
from tests.tui.conftest import Clock, text_of, until
from tests.tui.stage import Playing, build
from tui.app import Cockpit
from tui.paint.theme import Look
from tui.widgets.reasoning import ReasoningPane


async def test_each_of_several_thoughts_can_be_looked_at(tmp_path: Path) -> None:
    stage = build(tmp_path, experiments=5)
    source = Playing(stage)
    app = Cockpit(tmp_path, stage.paths, source=source, look=Look(), clock=Clock(stage.now))
    for number in (7, 8):
        source.happen(e.ExperimentStarted(experiment=number, parent=0, parent_commit="abc", researcher="claude"))
    for number in (6, 7, 8):
        with stage.paths.reasoning(number).open("a") as handle:
            handle.write(json.dumps({"t": 0, "k": "text", "s": f"words about {number}\n"}) + "\n")
    assert source.pulse is not None and source.pulse.thinking == 6
    source.pulse = replace(source.pulse, thoughts=(6, 7, 8), thought_seconds=(21.0, 12.0, 3.0))
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: "#6 thinking 21s · #7 #8 1 next" in text_of(app))
        await pilot.press("2", "1")
        await until(pilot, lambda: isinstance(app.screen.focused, ReasoningPane))
        await pilot.press("1")
        await until(pilot, lambda: "#7 thinking 12s · #6 #8 1 next" in text_of(app) and "words about 7" in text_of(app))
        assert "words about 6" not in text_of(app)
        await pilot.press("1", "1")
        await until(pilot, lambda: "#6 thinking" in text_of(app) and "words about 6" in text_of(app))
        await pilot.press("1", "2", "1")
        await until(pilot, lambda: "#7 thinking" in text_of(app))
        source.pulse = replace(source.pulse, thoughts=(6, 8), thought_seconds=(22.0, 4.0))
        source.happen(e.Judged(experiment=7, verdict="rejected", metric=None, delta=None, reason="no"))
        await until(pilot, lambda: "#6 thinking 22s · #8 1 next" in text_of(app))
        source.pulse = replace(source.pulse, thoughts=(6,), thought_seconds=(23.0,))
        source.version += 1
        await until(pilot, lambda: "#6 thinking 23s" in text_of(app))
        assert "1 next" not in text_of(app)
        await pilot.press("1")
        await until(pilot, lambda: "#6 thinking 23s" in text_of(app))
