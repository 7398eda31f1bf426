"""In a real tmux: every key of the help on a live session and on a recording, and random keys."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.screen.random_keys import COMMAND, walk
from benchmarks.screen.tmux import Tmux, environment, have_tmux
from core.session.lock import engine_alive
from core.session.paths import SessionPaths
from tests.engine.support import kill_engine
from tests.projects import TRAIN, make_project, write_script
from tui.actions import REGISTRY

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not have_tmux(), reason="tmux is not installed")]

Place = tuple[SessionPaths, dict[str, str], Path]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A project whose script has more proposals than a test needs."""
    train = TRAIN.replace("SECONDS = 0.05", "SECONDS = 0.4")
    project = make_project(tmp_path / "project", train=train)
    lines = [
        {
            "hypothesis": f"Idea {n}", "thinking": "A long thought. " * 20, "seconds": 0.5,
            "edits": [{"path": "train.py", "content": train.replace("RATE = 0.5", f"RATE = {0.5 - n / 900:.4f}")}],
        }
        for n in range(600)
    ]  # fmt: skip
    script = write_script(tmp_path / "s.jsonl", lines)
    env = environment(tmp_path / "home")
    monkeypatch.setenv("AUTORESEARCH_HOME", env["AUTORESEARCH_HOME"])
    paths = SessionPaths(project, "night")
    yield paths, env, script
    if engine_alive(paths):
        kill_engine(paths)


def begun(place: Place, *more: str) -> Tmux:
    paths, env, script = place
    words = (COMMAND, "run", "--session", "night", "--researcher", "scripted", "--script", str(script), *more)
    return Tmux([*words, "--slots", "cpu:1"], paths.project, env)


def back(tmux: Tmux) -> None:
    """Return to the main screen from any screen. Its footer says how to pause or play."""
    deadline = time.monotonic() + 200.0
    while True:
        for _ in range(3):
            tmux.press("escape")
            time.sleep(0.03)  # an escape directly followed by a key is another key
        foot = (tmux.whole().rstrip().splitlines() or [""])[-1]
        if "esc back" not in foot and any(words in foot for words in (" pause ", " resume ", " play ", " hold ")):
            return
        assert time.monotonic() < deadline, f"no way back to the main screen:\n{tmux.text}"


def press_each(tmux: Tmux, where: str, opener: tuple[str, ...], played: bool, done: set[str]) -> None:
    """Press each key of each screen on that screen. A key pressed on an earlier screen is not pressed again."""
    for count, action in enumerate(a for a in REGISTRY.for_place(where, played) if a.name not in done):
        for key in (*opener, action.keys[0], "escape", "escape"):
            tmux.press(key)
            time.sleep(0.02)
        done.add(action.name)
        if count % 8 == 7:
            back(tmux)
    back(tmux)


def test_every_key_works_on_a_live_session_and_on_a_recording(place: Place) -> None:
    paths, _env, _script = place
    with begun(place) as tmux:
        tmux.wait("discarded")
        tmux.wait(lambda text: "kept" in text or "3" in text)
        done = {"detach", "stop_now", "resume_engine", "replay"}
        places = (("main", ()), ("detail", ("4", "G", "enter")), ("logs", ("J",)), ("lineage", ("L",)))
        for where, opener in places:
            press_each(tmux, where, opener, played=False, done=done)
        assert "night" in tmux.title, tmux.title
        back(tmux)
        tmux.press("B")
        tmux.wait("recording")
        press_each(tmux, "main", (), played=True, done=done)
        tmux.press("q")
        tmux.wait(lambda text: tmux.code is not None)
        assert tmux.code == 0
    assert engine_alive(paths), "some key ended the engine"


def test_a_killed_engine_is_reported_and_a_killed_app_resets_the_terminal(place: Place) -> None:
    paths, _env, _script = place
    with begun(place) as tmux:
        tmux.wait("RUNNING")
        kill_engine(paths)
        tmux.wait("R resumes it")
        tmux.press("R")
        tmux.wait("RUNNING")
        pane = int(tmux._tmux("display-message", "-p", "#{pane_pid}"))
        app = next(p for p in _descendants(pane) if "autoresearch-tui" in p[1])
        os.kill(app[0], signal.SIGTERM)
        tmux.wait(lambda text: tmux.code is not None)
        flags = tmux._tmux("display-message", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag}").split()
        assert flags == ["0", "1", "0"], "the terminal was not left as it was found"
    assert engine_alive(paths)


def _descendants(pid: int) -> list[tuple[int, str]]:
    import psutil

    return [(p.pid, " ".join(p.cmdline())) for p in psutil.Process(pid).children(recursive=True)]


def test_random_keys_cause_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make bench args="keys 10"` does the same for ten minutes."""
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    path = walk(tmp_path, 10.0, seed=11)
    assert path.done > 20 and path.looks >= 1
