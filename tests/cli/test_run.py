"""Start, steering and end of a session from the command line with the real engine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from core.record.wire import decode_event
from core.session.lock import engine_alive, lock_holder
from core.session.paths import SessionPaths
from tests import ROOT
from tests.cli.command import COMMAND, run, terminal
from tests.projects import git, make_project, rate, write_script

SLOW = [rate("0.5", "0.4", seconds=60.0)]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project whose engines are always ended after the test."""
    folder = make_project(tmp_path / "a project")
    yield folder
    for place in (folder / "sessions").glob("*"):
        paths = SessionPaths(folder, place.name)
        pid = lock_holder(paths) if engine_alive(paths) else 0
        if pid:
            os.kill(pid, signal.SIGKILL)
            until(partial(_ended, paths))


def _ended(paths: SessionPaths) -> bool:
    return not engine_alive(paths)


def until(condition: Callable[[], Any], timeout: float = 200) -> Any:
    """Wait until the condition returns a true value, and return that value. Fails at the deadline."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
    return found


def script(project: Path, *proposals: dict[str, Any]) -> str:
    return str(write_script(project.parent / "script.jsonl", proposals))


def status(project: Path, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(project, "status", "--json", *words).stdout)
    return found


def test_a_headless_run_finishes(project: Path) -> None:
    words = ("run", "--headless", "--script", script(project, rate("0.5", "0.4")))
    done = run(project, *words)
    assert done.returncode == 0, done.stderr
    assert "#1 kept loss" in done.stdout and "session finished" in done.stdout
    found = status(project)
    assert found["state"] == "finished" and found["best"]["experiment"] == 1
    again = run(project, *words, "--json")  # a finished session is not continued: this is a new one
    events = [decode_event(line) for line in again.stdout.splitlines()]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert len(json.loads(run(project, "sessions", "--json").stdout)) == 2


def test_a_budget_ends_the_session(project: Path) -> None:
    proposals = [rate(f"{0.5 - i / 100:g}", f"{0.49 - i / 100:g}") for i in range(6)]
    done = run(project, "run", "--headless", "--script", script(project, *proposals), "--experiments", "2")
    assert done.returncode == 0 and "budget of 2 experiments is spent" in done.stdout


def test_a_crashed_baseline_ends_the_session(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", train="raise ValueError('no such luck')\n")
    done = run(folder, "run", "--headless", "--script", script(folder, rate("0.5", "0.4")))
    assert done.returncode == 1
    assert "crashed" in done.stderr and "no such luck" in done.stdout + done.stderr
    assert status(folder)["state"] == "crashed"
    # Continuing would run the same code again: both say to start a new session.
    assert "start a new session" in done.stderr and "start a new session" in run(folder, "status").stdout


@pytest.mark.slow
def test_ctrl_c_keeps_the_engine_and_commands_reach_it(project: Path) -> None:
    watcher = subprocess.Popen(
        [COMMAND, "run", "--headless", "--session", "one", "--script", script(project, *SLOW)],
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watcher.stdout is not None
    until(lambda: "thinking, from" in watcher.stdout.readline())  # type: ignore[union-attr]
    watcher.send_signal(signal.SIGINT)
    _, said = watcher.communicate(timeout=300)
    assert watcher.returncode == 130
    assert "engine continues" in said and "stop --session one" in said and "Traceback" not in said
    assert engine_alive(SessionPaths(project, "one"))

    busy = run(project, "run", "--headless", "--session", "one")
    assert busy.returncode == 1 and str(lock_holder(SessionPaths(project, "one"))) in busy.stderr
    assert run(project, "run", "--headless").returncode == 1  # unnamed, with one running

    assert run(project, "steer", "--session", "one", "try", "0.3").returncode == 0
    answer = json.loads(run(project, "steer", "--standing", "--json", "never 0.9").stdout)
    assert answer["accepted"] is True and answer["message"]
    assert run(project, "steer", "  ").returncode == 2
    assert run(project, "pause").returncode == 0
    until(lambda: status(project)["state"] == "paused")
    assert run(project, "resume").returncode == 0
    until(lambda: status(project)["state"] == "running")
    refused = run(project, "approve", "77")
    assert refused.returncode == 1 and refused.stderr
    assert run(project, "stop", "--now").returncode == 0
    until(lambda: not engine_alive(SessionPaths(project, "one")))
    assert status(project)["state"] == "stopped"
    gone = run(project, "pause")
    assert gone.returncode == 1 and "no running engine" in gone.stderr and "run --session one" in gone.stderr
    assert run(project, "pause", "--session", "nope").returncode == 3
    gone = run(project, "steer", "hello", "--json")
    assert gone.returncode == 1 and json.loads(gone.stdout)["accepted"] is False
    assert "nothing to stop" in run(project, "stop").stderr


@pytest.mark.slow
def test_a_killed_engine_is_reported_and_its_session_continues(project: Path) -> None:
    watcher = subprocess.Popen(
        [COMMAND, "run", "--headless", "--script", script(project, *SLOW)],
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watcher.stdout is not None
    until(lambda: "baseline loss" in watcher.stdout.readline())  # type: ignore[union-attr]
    os.kill(status(project)["engine"]["pid"], signal.SIGKILL)
    _, said = watcher.communicate(timeout=300)
    assert watcher.returncode == 1 and "ended without a report" in said and "run --session" in said
    assert status(project)["state"] == "crashed"
    script(project, rate("0.5", "0.4"))  # the same script with shorter pauses
    for copy in project.glob("sessions/*/program.md"):
        copy.unlink()  # the log holds it too
    done = run(project, "run", "--headless")
    assert done.returncode == 0 and "continuing session" in done.stderr, done.stderr
    assert len(json.loads(run(project, "sessions", "--json").stdout)) == 1


@pytest.mark.slow
def test_uncommitted_changes_are_asked_about(project: Path) -> None:
    (project / "train.py").write_text((project / "train.py").read_text() + "\n# mine\n")
    words = ("run", "--headless", "--script", script(project, rate("0.5", "0.4")))
    refused = run(project, *words)
    assert refused.returncode == 1 and "train.py" in refused.stderr and "--from-head" in refused.stderr
    assert not (project / "sessions").exists() or not list((project / "sessions").glob("*/session.db"))
    with terminal(project, *words) as screen:
        screen.wait_for("r or s?")
        screen.type("s\n")
        assert screen.end() == 1
    with terminal(project, *words) as screen:
        screen.wait_for("r or s?")
        screen.type("maybe\nr\n")
        screen.wait_for("session finished")
        assert screen.end() == 0
    assert (project / "train.py").read_text().endswith("# mine\n")
    assert git(project, "status", "--porcelain") == "M train.py"


BAD: list[tuple[list[str], int, str]] = [
    (["run", "--experiments", "0"], 2, "whole number"),
    (["run", "--hours", "-1"], 2, "greater than 0"),
    (["run", "--usd", "nan"], 2, "greater than 0"),
    (["run", "--run-budget", "soon"], 2, "not a run budget"),
    (["run", "--headless", "--session", "a b"], 2, "is not a session name"),
    (["run", "--headless", "--researcher", "scripted"], 2, "--script"),
    (["run", "--headless", "--script", "nowhere.jsonl"], 2, "no such file"),
    (["run", "--json"], 2, "--headless"),
    (["run", "--headless", "--set", "nonsense"], 2, "KEY=VALUE"),
    (["run", "--headless", "--set", "budget.rnu=3"], 1, "unknown key 'rnu'"),
    (["run", "--headless", "--researcher", "oracle"], 2, "no researcher"),
    (["run", "--headless", "--slots", "abacus:2"], 2, "abacus"),
    (["run", "nowhere"], 1, "no such folder"),
    (["run", "train.py"], 1, "this is a file"),
    (["run", "--seed", "x"], 2, "whole number"),
    (["events", "--since", "x"], 2, "whole number"),
    (["run"], 1, "--headless"),
    ([], 1, "--headless"),
    (["frobnicate"], 2, "neither a command nor a folder"),
    (["--frobnicate"], 2, "unknown option"),
    (["status", "--frobnicate"], 2, "unrecognized"),
    (["show"], 2, "EXPERIMENT"),
    (["show", "one"], 2, "not the number of an experiment"),
    (["attach"], 3, "no session in this project"),
]


@pytest.fixture(scope="module")
def unstarted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which no command starts anything."""
    return make_project(tmp_path_factory.mktemp("u") / "a project")


@pytest.mark.parametrize(("words", "code", "says"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else None)
def test_bad_arguments_are_refused(unstarted: Path, words: list[str], code: int, says: str) -> None:
    done = run(unstarted, *words)
    assert says in done.stderr and done.stdout == "" and "Traceback" not in done.stderr
    assert done.returncode == code
    assert not list((unstarted / "sessions").glob("*/session.db"))


def test_a_broken_program_md_is_refused(project: Path) -> None:
    (project / "program.md").write_text((project / "program.md").read_text().replace('run = "10s"', 'run = "10s'))
    done = run(project, "run", "--headless")
    assert done.returncode == 1 and "program.md:" in done.stderr and 'run = "10s' in done.stderr
    assert "hint:" in done.stderr


def test_a_missing_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('loss: 1')")
    assert run(tmp_path, "init").returncode == 0
    done = run(tmp_path, "run", "--headless")
    assert done.returncode == 1 and "git init" in done.stderr
    assert not (tmp_path / "sessions").exists()


def test_an_unwritable_home_is_refused_before_a_session_exists(project: Path) -> None:
    words = ("run", "--headless", "--script", script(project, rate("0.5", "0.4")))
    with tempfile.NamedTemporaryFile() as file:  # a short path: a socket whose path is too long is in another folder
        done = run(project, *words, env={"AUTORESEARCH_HOME": str(Path(file.name) / "home")})
    assert done.returncode == 1 and "AUTORESEARCH_HOME" in done.stderr and "Traceback" not in done.stderr
    assert not (project / "sessions").exists()


def test_a_relative_home_is_refused(project: Path) -> None:
    words = ("run", "--headless", "--script", script(project, rate("0.5", "0.4")))
    done = run(project, *words, env={"AUTORESEARCH_HOME": "./state"})
    assert done.returncode == 1 and 'export AUTORESEARCH_HOME="$PWD/state"' in done.stderr
    assert not (project / "sessions").exists() and not (project / "state").exists()
    stranger = run(project, "export", "--json", "~nobody-of-that-name/x.json", env={"AUTORESEARCH_HOME": "./state"})
    assert stranger.returncode == 3 and "hint:" in stranger.stderr


def test_an_empty_log_of_a_killed_engine_is_reused(project: Path) -> None:
    words = ("run", "--headless", "--session", "s", "--script", script(project, rate("0.5", "0.4")))
    (project / "sessions/s").mkdir(parents=True)
    (project / "sessions/s/session.db").touch()
    done = run(project, *words)
    assert done.returncode == 0, done.stderr
    assert "kept" in run(project, "leaderboard", "s").stdout


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user that no list knows")
def test_a_user_without_a_home_gets_the_root_folder() -> None:
    code = (
        "import os, pwd; from tui.main import _set_missing_home; os.environ.pop('HOME', None); os.setuid(54321);"
        "_set_missing_home(); print(os.environ['HOME'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "/\n", done.stderr


def test_a_metric_that_is_not_a_number_is_reported(project: Path) -> None:
    (project / "train.py").write_text("print('loss: soon')\n")
    git(project, "commit", "-aqm", "soon")
    done = run(project, "run", "--headless", "--script", script(project, rate("0.5", "0.4")))
    assert done.returncode == 1 and r"the match of the pattern ^loss:\s*(\S+) is not a number: soon" in done.stderr


def test_control_characters_in_a_project_name_are_not_printed(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "we\x1b[31mird\n \U0001f984 dir")
    done = run(folder, "run", "--headless", "--script", script(folder, rate("0.5", "0.4")))
    assert done.returncode == 0 and "#1 kept" in done.stdout, done.stderr
    assert "\x1b" not in done.stdout + done.stderr + run(folder, "status", "--json").stdout
    assert git(folder, "status", "--porcelain") == ""


@pytest.mark.slow
def test_help_and_the_docs_cover_every_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    from tui.cli.parser import COMMANDS
    from tui.main import main

    whole = run(Path("/"), "--help")
    assert whole.returncode == 0 and all(name in whole.stdout for name in COMMANDS)
    for part in ("q detaches", "program.md", "sessions/NAME", "ANTHROPIC_API_KEY", "exit codes"):
        assert part in whole.stdout
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        said = capsys.readouterr().out
        assert f"autoresearch-tui {name}" in said and "examples:" in said
    page = (ROOT / "docs/cli.md").read_text()
    assert all(name in page for name in COMMANDS)
    for option in re.findall(r"--[a-z-]+", run(Path("/"), "run", "--help").stdout):
        assert option in page or option == "--help", option
    version = run(Path("/"), "--version")
    assert version.returncode == 0 and version.stdout.startswith("autoresearch-tui 0.")
