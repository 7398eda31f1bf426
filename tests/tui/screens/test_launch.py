"""The launch screen on real projects, with the real doctor and the real engine."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from textual.widgets import Input

from core.client import request
from core.record.commands import Stop
from core.session.device_record import note_device_check
from core.session.lock import engine_alive
from core.session.paths import SessionPaths
from core.session.trial_record import note_trial
from tests.false_driver import FalseDriver
from tests.projects import git, make_project
from tests.recorded import make_session
from tests.tui.conftest import text_of, until
from tui.app import Cockpit
from tui.launch_form import fresh_name
from tui.paint.theme import Look
from tui.screens.dialogs import Confirm
from tui.screens.launch import LaunchScreen
from tui.screens.main_screen import MainScreen
from tui.terminal.calm import Calm
from tui.user_settings import config_path
from tui.widgets.choice import Choice

PROGRAM = """+++
edit = ["train.py"]
run = "python train.py"
[metric]
name = "loss"
direction = "min"
pattern = '^loss:\\s*(\\S+)'
[budget]
run = "5s"
experiments = 2
+++
A small project.
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "program.md").write_text(PROGRAM)
    (folder / "train.py").write_text("RATE = 1.0\nprint('loss:', 1.0 + RATE)\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    note_trial(folder, True)
    yield folder
    for paths in [SessionPaths(folder, p.name) for p in (folder / "sessions").glob("*")]:
        if engine_alive(paths):
            request(paths, Stop(now=True))


def launch(project: Path) -> Cockpit:
    return Cockpit(project, None, look=Look())


async def test_the_launch_screen_shows_readiness(project: Path) -> None:
    app = launch(project)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "ready: python, git" in text_of(app))
        shown = text_of(app)
        assert "train.py" in shown and "loss ↓" in shown and "sandbox" in shown and "Start" in shown
        choice = app.screen.query_one(Choice)
        assert choice.value in ("control", "claude")
        choice.focus()
        words = {choice.value}
        for _ in range(6):
            await pilot.press("right")
            words.add(choice.value)
        assert {"control", "scripted", "claude"} <= words


async def test_the_last_check_of_a_card_is_told(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FalseDriver(tmp_path / "driver", "00000000000")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver.folder))
    app = launch(project)
    async with app.run_test(size=(160, 60)) as pilot:
        await until(pilot, lambda: "device check: never run here   hint: " in text_of(app))
        assert "doctor" in text_of(app) and "--device" in text_of(app)
    well = {"date": "2026-11-02T10:00:00", "version": "0.1.0", "driver": "550.54 (CUDA 12.4)", "steps": []}
    note_device_check("GPU-cccc0000-3333-0000-0000-000000000003", {**well, "card": {"name": "Simulated"}})
    app = launch(project)
    async with app.run_test(size=(160, 60)) as pilot:
        await until(pilot, lambda: "device check: 2026-11-02, version 0.1.0, on Simulated: all well" in text_of(app))


async def test_a_control_with_nothing_to_tune_is_not_preselected(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (project / "train.py").write_text("print('loss: 1.0')\n")
    git(project, "commit", "-qam", "no constants")
    app = launch(project)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "ready: python, git" in text_of(app))
        assert app.screen.query_one(Choice).value == "human"


async def test_a_wrong_field_is_named(project: Path) -> None:
    app = launch(project)
    async with app.run_test(size=(120, 40)) as pilot:
        app.screen.query_one("#hours", Input).value = "soon"
        await pilot.press("enter")
        await until(pilot, lambda: "'soon' is not a number" in text_of(app))
        assert isinstance(app.screen, LaunchScreen) and not (project / "sessions").exists()


async def test_a_broken_program_is_shown_with_its_line(project: Path) -> None:
    (project / "program.md").write_text(PROGRAM.replace("edit =", "edits ="))
    app = launch(project)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "program.md:2" in text_of(app))
        await until(pilot, lambda: "ready: python, git" in text_of(app))
        shown = text_of(app)
        assert shown.count("program.md:2") == 1 and "not yet: fix program.md first" in shown
        assert "▸ Watch the demo" in shown and "▸ Start" not in shown
        await pilot.press("up", "enter")
        assert isinstance(app.screen, LaunchScreen) and not (project / "sessions").exists()
        app.screen.query_one("#hours", Input).value = "3"
        await pilot.press("escape")
        assert app.return_code is None and "esc once more quits" in text_of(app)
        await pilot.press("escape")
    assert app.return_code == 0


async def test_settings_open_by_key_and_take_effect_at_once(project: Path) -> None:
    app = launch(project)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("comma")
        await until(pilot, lambda: "◂ auto ▸" in text_of(app))
        await pilot.press("right")
        await until(pilot, lambda: f"◂ {app.settings.theme} ▸" in text_of(app) and app.settings.theme != "auto")
        assert app.settings.theme in config_path().read_text()
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen))
        app.screen.query_one("#session", Input).focus()
        await pilot.press("comma")  # written, not commanded
        assert isinstance(app.screen, LaunchScreen) and app.screen.query_one("#session", Input).value.endswith(",")
    assert app.failure is None


async def test_the_launch_screen_fits_small_terminals(project: Path) -> None:
    for size in ((80, 24), (40, 10), (20, 5)):
        app = launch(project)
        async with app.run_test(size=size) as pilot:
            await pilot.press("down", "down", "up", "tab", "x", "escape")
        assert app.failure is None


async def test_an_earlier_session_opens(project: Path) -> None:
    make_session(project, 5, name="older")
    app = launch(project)
    async with app.run_test(size=(120, 40)) as pilot:
        assert "Open older" in text_of(app)
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, MainScreen) and "FINISHED" in text_of(app))
        assert "older" in text_of(app)


async def test_enter_opens_an_interrupted_session(project: Path) -> None:
    make_session(project, 5, name="older", live=True)
    app = launch(project)
    async with app.run_test(size=(120, 40)) as pilot:
        assert "crashed (R resumes it)" in text_of(app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, MainScreen) and "CRASHED" in text_of(app))


@pytest.mark.slow
async def test_uncommitted_changes_are_asked_about_and_the_session_starts(
    project: Path, tmp_path: Path, state_folder: Path
) -> None:
    (project / "train.py").write_text("RATE = 9.0\nprint('loss:', 1.0 + RATE)\n")
    script = tmp_path / "script.jsonl"
    script.write_text(
        '{"hypothesis": "lower", "edits": [{"path": "train.py", "search": "RATE = 1.0", "replace": "RATE = 0.5"}]}\n'
    )
    app = launch(project)
    async with app.run_test(size=(120, 40)) as pilot:
        choice = app.screen.query_one(Choice)
        await until(pilot, lambda: choice.value != "")
        choice.focus()
        while choice.value != "scripted":
            await pilot.press("right")
        app.screen.query_one("#script", Input).value = str(script)
        app.screen.query_one("#session", Input).value = "first"
        app.screen.query_one("#menu").focus()
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert "uncommitted" in text_of(app).lower()
        app.calm = Calm()
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, MainScreen))
        await until(pilot, lambda: "FINISHED" in text_of(app), 120.0)
        assert app.view.state.verdicts.get("kept") == 1
        assert (project / "train.py").read_text().startswith("RATE = 9.0")
    assert os.environ["AUTORESEARCH_HOME"] == str(state_folder)


async def test_a_missing_repository_prevents_a_start_and_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "program.md").write_text(PROGRAM)
    (tmp_path / "train.py").write_text("print('loss: 1')\n")
    app = launch(tmp_path)
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: "ready: python, git" in text_of(app))
        shown = text_of(app)
        assert "not yet: fix repository first" in shown and "▸ Start" not in shown
        assert shown.count("not a git repository") == 1
        app.screen.query_one("#hours", Input).focus()
        await pilot.press("enter")
        await until(pilot, lambda: "✗ not yet: fix repository first" in text_of(app))
        assert not (tmp_path / "sessions").exists()


async def test_a_too_small_terminal_cannot_start_a_session(project: Path) -> None:
    app = launch(project)
    async with app.run_test(size=(20, 5)) as pilot:
        assert "too small" in " ".join(text_of(app).split()) and "enter" not in text_of(app)
        await pilot.press("enter", "tab", "enter", "x", "down", "enter")
        assert isinstance(app.screen, LaunchScreen) and not app.screen.starting
        await pilot.resize_terminal(120, 40)
        await until(pilot, lambda: "▸ Start" in text_of(app))
        await pilot.resize_terminal(39, 9)
        await until(pilot, lambda: "too small" in " ".join(text_of(app).split()))
        await pilot.press("q")
    assert app.return_code == 0 and not (project / "sessions").exists()


def _doctors() -> list[psutil.Process]:
    """Those that this process has started, among servers of other tests."""
    return [child for child in psutil.Process().children() if "doctor" in child.cmdline()]


@pytest.mark.filterwarnings("error")
async def test_leaving_the_launch_screen_ends_the_doctor(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = tmp_path / "bin" / "bwrap"  # the doctor tries the sandbox
    waits.parent.mkdir()
    waits.write_text("#!/bin/sh\nexec sleep 20\n")
    waits.chmod(0o755)
    monkeypatch.setenv("PATH", str(waits.parent), prepend=os.pathsep)
    app = launch(project)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: bool(_doctors()))
        doctors = _doctors()
        await pilot.press("q")
    assert not any(p.is_running() for p in doctors)
    gc.collect()


def test_a_fresh_name_is_no_branch_also_in_a_linked_worktree(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    git(project, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    name = fresh_name(tmp_path / "linked")
    git(project, "branch", f"autoresearch/{name}")
    assert fresh_name(tmp_path / "linked") == fresh_name(project) == f"{name}-2"
    git(project, "pack-refs", "--all")
    assert fresh_name(tmp_path / "linked") == f"{name}-2"
