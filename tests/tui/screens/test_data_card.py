"""The launch screen's data: a row on a GPU, the choice that `prepare` asks for, its progress and its end."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from tests.false_driver import FalseDriver
from tests.projects import PROGRAM, git, make_project
from tests.research.support import until  # that with the pilot waits for the widgets of a card that closes meanwhile
from tests.tui.conftest import text_of
from tui.app import Cockpit
from tui.paint.theme import Look
from tui.screens.data_card import DataCard
from tui.screens.launch import LaunchScreen

pytestmark = pytest.mark.slow
PREPARE = """\
import json, os, sys, time
if sys.argv[1:] == ["forever"]:
    print("half of it", flush=True)
    open("begun", "w").write(str(os.getpid()))
    time.sleep(600)
if len(sys.argv) == 1:
    print("error: on a", os.environ["AUTORESEARCH_DEVICE"], "device this is too small", file=sys.stderr)
    own = f"{sys.executable} prepare.py "
    print(json.dumps({"choices": {own + "large": "a large one", own + "forever": "one without an end"}}))
    sys.exit(1)
print(json.dumps({"info": {"corpus": sys.argv[1]}}))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(FalseDriver(tmp_path / "driver").folder))
    program = PROGRAM.replace(
        'run = "python train.py"', f'run = "python train.py"\nprepare = "{sys.executable} prepare.py"'
    )
    folder = make_project(tmp_path / "p", program=program)
    (folder / "prepare.py").write_text(PREPARE)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "data")
    return folder


async def test_the_data_are_chosen_and_prepared(project: Path) -> None:
    app = Cockpit(project, None, look=Look())
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: "prepare them now, for the GPU" in text_of(app))
        await pilot.press("down", "down", "enter")
        await until(lambda: isinstance(app.screen, DataCard) and "▸ a large one" in text_of(app))
        assert "on a cuda device this is too small" in text_of(app) and "choices" not in text_of(app)
        await pilot.press("down", "enter")
        await until(lambda: "half of it" in text_of(app))
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, LaunchScreen))
        assert not psutil.pid_exists(int((project / "begun").read_text())), "what was left has ended"
        await pilot.press("enter")
        await until(lambda: "▸ a large one" in text_of(app))
        await pilot.press("enter")
        await until(lambda: "the data are prepared: corpus large" in text_of(app))
        await pilot.press("enter")
        await until(lambda: "▸ Start" in text_of(app) and "prepared" in text_of(app))
    assert app.failure is None
