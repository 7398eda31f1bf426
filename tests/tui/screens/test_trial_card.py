"""The launch screen's trial: offered first for a program.md that was not tried, its card, the line that it writes."""

from __future__ import annotations

from pathlib import Path

from core.session.trial_record import note_trial, trial_result
from tests.projects import ENDLESS, PROGRAM, git, make_project
from tests.research.support import until  # that with the pilot waits for the widgets of a card that closes meanwhile
from tests.tui.conftest import text_of
from tui.app import Cockpit
from tui.paint.theme import Look
from tui.screens.launch import LaunchScreen
from tui.screens.trial_card import TrialCard


def launch(project: Path) -> Cockpit:
    return Cockpit(project, None, look=Look())


async def test_an_untried_program_is_tried_first(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p")
    app = launch(folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "▸ Try" in text_of(app) and "not tried yet" in text_of(app))
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, TrialCard))
        await until(lambda: "loss: 1.0" in text_of(app) and "✓ run" in text_of(app))
        for _ in range(20):
            await pilot.press("down")
        await until(lambda: "a session can be expected to reach a verdict" in text_of(app))
        await pilot.press("enter")
        await until(lambda: "▸ Start" in text_of(app) and "it worked" in text_of(app))
    assert app.failure is None and trial_result(folder) is True and not (folder / "sessions").exists()
    app = launch(folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "▸ Start" in text_of(app))
        await pilot.press("escape")


async def test_escape_stops_a_trial_and_nothing_stays(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", train=ENDLESS)
    app = launch(folder)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("t")
        await until(lambda: "of 10s: loss: 0.5" in text_of(app))
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, LaunchScreen))
        await until(lambda: not (folder / "sessions").exists())
        assert "not tried yet" in text_of(app) and git(folder, "worktree", "list").count("\n") == 0
    assert app.failure is None


async def test_the_line_is_written_by_key(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", train=ENDLESS, program=PROGRAM.replace('run = "10s"', 'run = "1s"'))
    app = launch(folder)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("t")
        await until(lambda: 'w  write at_limit = "score" into program.md' in text_of(app))
        await pilot.press("w")
        await until(lambda: "try it again" in text_of(app))
        await pilot.press("escape")
    assert 'at_limit = "score"' in (folder / "program.md").read_text()


def test_a_trial_holds_for_a_program_at_a_commit(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p")
    assert trial_result(folder) is None
    note_trial(folder, False)
    assert trial_result(folder) is False
    (folder / "program.md").write_text(PROGRAM + "more\n")
    assert trial_result(folder) is None
    (folder / "program.md").write_text(PROGRAM)
    assert trial_result(folder) is False
    (folder / "train.py").write_text("print('loss: 1')\n")
    git(folder, "commit", "-qam", "next")
    assert trial_result(folder) is None
