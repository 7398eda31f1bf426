"""The whole product in use: start, steer, kill the app, attach again, kill the engine, resume."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.client import read_state
from core.session.lock import engine_alive, lock_holder
from core.session.paths import SessionPaths
from tests.end_to_end.screen import Screen
from tests.engine.support import kill_engine, wait_end, wait_for, wait_state
from tests.projects import TRAIN, make_project, own_home, rate, write_script

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SessionPaths, dict[str, str]]]:
    """A project whose script of one-second proposals lasts longer than any test, with a home folder."""
    train = TRAIN.replace("SECONDS = 0.05", "SECONDS = 1.0")
    project = make_project(tmp_path / "my project ☂", train=train)
    write_script(
        tmp_path / "s.jsonl",
        [rate("0.5", f"0.9{n}", thinking=f"A long thought, number {n}. " * 20, seconds=1) for n in range(10, 400)],
    )
    env = own_home(tmp_path)
    monkeypatch.setenv("AUTORESEARCH_HOME", env["AUTORESEARCH_HOME"])
    paths = SessionPaths(project, "night")
    yield paths, env
    if engine_alive(paths):
        os.kill(lock_holder(paths), signal.SIGTERM)
        wait_end(paths)


def _start(paths: SessionPaths, env: dict[str, str], *more: str, **size: int) -> Screen:
    script = str(paths.project.parent / "s.jsonl")
    words = ("run", "--session", "night", "--researcher", "scripted", "--script", script, "--slots", "cpu:2", *more)
    return Screen(paths.project, env, *words, **size)


def test_a_session_survives_the_death_of_the_app_and_of_the_engine(
    place: tuple[SessionPaths, dict[str, str]],
) -> None:
    paths, env = place
    with _start(paths, env, "--experiments", "20") as screen:
        screen.wait("RUNNING")
        screen.wait("A long thought")
        screen.press("i")
        screen.wait("enter queue")
        screen.press("mind the umbrella\r")
        wait_state(paths, lambda s: s.guidance, "guidance in the log")
        screen.process.kill()
    assert engine_alive(paths), "the engine died with the app"
    wait_state(paths, lambda s: s.guidance[1].taken_by, "the guidance taken without an app")

    with Screen(paths.project, env) as screen:
        screen.wait("RUNNING")
        assert engine_alive(paths)
        screen.press(" ")
        wait_state(paths, lambda s: s.state == "paused", "a pause")
        screen.wait("PAUSED")
        screen.press(" ")
        wait_state(paths, lambda s: s.state == "running", "the session running again")
        kill_engine(paths)
        screen.wait("R resumes it")
        screen.press("R")
        wait_for(lambda: engine_alive(paths), "a resumed engine")
        screen.wait("RUNNING")
        screen.press("q")
        assert screen.end() == 0
        assert "autoresearch-tui" in screen.text, "no command to attach again"
    state = wait_end(paths)
    assert state.state == "finished"
    assert [x.verdict for n, x in sorted(state.experiments.items()) if n and x.hypothesis] == ["discarded"] * 20


def test_signals_to_the_app_keep_the_engine_and_restore_the_terminal(
    place: tuple[SessionPaths, dict[str, str]],
) -> None:
    paths, env = place
    with _start(paths, env, columns=80, lines=24) as screen:
        screen.wait("RUNNING")
        screen.process.send_signal(signal.SIGTERM)
        screen.end()
        assert b"\x1b[?1049l" in screen.raw, "the alternate screen was not left"
        assert screen.raw.rfind(b"\x1b[?25h") > screen.raw.rfind(b"\x1b[?25l"), "the cursor is still hidden"
        assert screen.raw.rfind(b"\x1b[?1000l") > screen.raw.rfind(b"\x1b[?1000h"), "the mouse is still reported"
    assert engine_alive(paths)
    with Screen(paths.project, env, columns=80, lines=24) as screen:
        screen.wait("RUNNING")
        screen.process.send_signal(signal.SIGHUP)
        screen.end()
    assert engine_alive(paths)
    with Screen(paths.project, env) as screen:
        screen.wait("RUNNING")
        screen.press("?")
        screen.vanish()
        assert screen.process.wait(30) == 0, "the app outlives its terminal"
    assert engine_alive(paths)
    assert read_state(paths).state == "running"


def test_two_apps_show_the_same_state_at_any_size(place: tuple[SessionPaths, dict[str, str]]) -> None:
    paths, env = place
    with _start(paths, env) as first:
        first.wait("RUNNING")
        with Screen(paths.project, env, columns=100, lines=30) as second:
            second.wait("RUNNING")
            second.press(" ")
            first.wait("PAUSED")
            second.wait("PAUSED")
            first.press(" ")
            second.wait("RUNNING")
            for columns, lines in ((20, 5), (200, 60), (80, 24)):
                second.resize(columns, lines)
                second.wait("RUNNING" if columns >= 80 else "")
            assert second.process.poll() is None
            second.wait("RUNNING")


def test_stop_asks_for_confirmation_and_run_output_reaches_no_terminal(
    place: tuple[SessionPaths, dict[str, str]],
) -> None:
    paths, env = place
    # Printed before the wait, because the pane shows the next run as soon as this one ends.
    attack = 'print("\\x1b]0;owned\\x07\\x1b[2J\\x1b[31mRED\\x1b[0m \\x9b31m", flush=True)\ntime.sleep(5)'
    train = TRAIN.replace("time.sleep(SECONDS)", attack)
    assert train != TRAIN
    make_project(paths.project.parent / "other", train=train)
    paths = SessionPaths(paths.project.parent / "other", "night")
    with _start(SessionPaths(paths.project, "night"), env) as screen:
        screen.wait("RED")
        screen.press("S")
        screen.wait("stop the session?")
        screen.answer("n", "stop the session?")
        assert engine_alive(paths)
        assert b"\x1b]0;owned" not in screen.raw  # the diff may show the letters of the code
        assert not re.search(rb"\xc2\x9b", screen.raw)
        screen.press("S")
        screen.wait("stop the session?")
        screen.answer("y", "stop the session?")
        wait_for(lambda: read_state(paths).state in ("stopping", "stopped"), "an answer")
        if engine_alive(paths):
            os.kill(lock_holder(paths), signal.SIGTERM)
            wait_end(paths)
    assert "Traceback" not in paths.engine_log.read_text(), "an engine with an app attached ends quietly"
