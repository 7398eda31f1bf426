"""Exit codes and reports with standard streams that cannot be written, in the environment of a clean machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.session.lock import engine_alive
from core.session.paths import SessionPaths
from tests.cli.command import COMMAND
from tests.cli.test_run import project, script, until
from tests.projects import rate
from tests.recorded import make_session

__all__ = ["project"]

# Commands that print on standard output, with their exit code on a writable one. DIR: a folder of the test's own.
PRINTS = [
    ("--help", 0), ("--version", 0), ("run --help", 0), ("status", 0), ("status --follow --json", 0), ("sessions", 0),
    ("leaderboard --json", 0), ("events", 0), ("events --follow --json", 0), ("show 1", 0), ("program --json", 0),
    ("export --results - --json -", 0), ("report -o -", 0), ("pause --json", 1), ("init DIR/new", 0),
    ("doctor --json DIR", 1),
]  # fmt: skip
# Commands that print on standard error only.
ERRORS = [
    ("stauts", 2), ("status --nope", 2), ("set nope=1", 2), ("status nope", 3), ("show 99", 1), ("pause", 1),
    ("certify", 1), ("export", 2), ("attach", 1), ("replay", 1), ("program", 0), ("report -o DIR/page.html", 0),
]  # fmt: skip
REPORT = re.compile(r"autoresearch-tui: standard output: [a-z ]+\n  hint: [^\n]+\n")


def scrubbed() -> dict[str, str]:
    """The environment of a clean machine with the state folder of this test."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "AUTORESEARCH_HOME")}
    return {**kept, "LANG": "C.UTF-8", "TERM": "xterm"}


def run(paths: SessionPaths, words: str, redirection: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command with a `redirection` of the shell."""
    return subprocess.run(
        ["bash", "-c", f'exec "{COMMAND}" {words} {redirection}'],
        cwd=paths.project, capture_output=True, text=True, timeout=300, check=False, env=scrubbed(),
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def run_on_closed_pipe(paths: SessionPaths, words: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a pipe whose reader has closed it, as `| head -1` does."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [COMMAND, *words.split()], cwd=paths.project, stdout=writer,
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=300, check=False, env=scrubbed(),
        )  # fmt: skip
    finally:
        os.close(writer)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> SessionPaths:
    """A session whose events exceed the buffer of a pipe. No command here changes it."""
    return make_session(tmp_path_factory.mktemp("s") / "project", experiments=30)


@pytest.mark.parametrize(("words", "code"), PRINTS)
def test_lost_output_is_reported_once(session: SessionPaths, tmp_path: Path, words: str, code: int) -> None:
    words = words.replace("DIR", str(tmp_path))
    for number, redirection in enumerate(("> /dev/full", "<&- >&-")):
        done = run(session, words.replace("new", f"new{number}"), redirection)
        assert done.returncode == 1, (redirection, done.stderr)
        assert REPORT.fullmatch(done.stderr), (redirection, done.stderr)
    both = run(session, words.replace("new", "new2"), "> /dev/full 2>&1")
    assert both.returncode == 1
    left = run_on_closed_pipe(session, words)
    assert (left.returncode, left.stderr) == (1, "")


@pytest.mark.parametrize(("words", "code"), PRINTS + ERRORS)
def test_a_lost_error_message_keeps_the_exit_code(session: SessionPaths, tmp_path: Path, words: str, code: int) -> None:
    prints = (words, code) in PRINTS
    words = words.replace("DIR", str(tmp_path))
    lost = [run(session, words.replace("new", f"new{i}"), to) for i, to in enumerate(("2>&-", "2> /dev/full"))]
    assert [done.returncode for done in lost] == [code, code]
    assert all(bool(done.stdout) == prints for done in lost)
    assert not any("Traceback" in done.stdout or "hint:" in done.stdout for done in lost if "json" not in words)


@pytest.mark.parametrize(("words", "code"), ERRORS)
def test_an_error_message_needs_no_standard_output(
    session: SessionPaths, tmp_path: Path, words: str, code: int
) -> None:
    words = words.replace("DIR", str(tmp_path))
    for redirection in ("> /dev/full", ">&-"):
        done = run(session, words, redirection)
        assert done.returncode == code and done.stderr.strip(), redirection
        assert "Traceback" not in done.stderr and "standard output" not in done.stderr


def test_messages_never_go_into_a_session_file(session: SessionPaths, tmp_path: Path) -> None:
    """With all three streams closed, the next opened file gets one of their descriptors."""
    before = session.database.read_bytes()
    done = run(session, f"report -o {tmp_path}/page.html", "<&- >&- 2>&-")
    assert done.returncode == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert session.database.read_bytes() == before


def test_the_doctor_of_the_engine_reports_lost_output(session: SessionPaths) -> None:
    """`python -m core.engine doctor`, which the command starts, has the same exit codes."""
    for redirection in ("> /dev/full", ">&-", "> /dev/full 2>&-"):
        done = subprocess.run(
            ["bash", "-c", f'exec "{sys.executable}" -P -m core.engine doctor --json {redirection}'],
            cwd=session.project, capture_output=True, text=True, timeout=300, check=False, env=scrubbed(),
        )  # fmt: skip
        assert done.returncode == 1
        report = re.fullmatch(r"core\.engine: standard output: [a-z ]+\n", done.stderr)
        assert report if "2>" not in redirection else done.stderr == ""


def test_an_unwritable_file_is_named(session: SessionPaths) -> None:
    done = run(session, "report -o /dev/full")
    assert done.returncode == 1 and done.stderr.startswith(
        "autoresearch-tui: /dev/full: no space left on device\n  hint:"
    )


def test_a_headless_run_with_lost_output_keeps_its_engine(project: Path) -> None:
    paths = SessionPaths(project, "one")
    words = f"run --headless --session one --script {script(project, rate('0.5', '0.4', seconds=60.0))}"
    done = run(paths, words, "> /dev/full")
    assert done.returncode == 1 and "the engine continues" in done.stderr and "Traceback" not in done.stderr
    assert REPORT.search(done.stderr)
    assert until(lambda: engine_alive(paths))
    assert run(paths, "stop --now").returncode == 0
    until(lambda: not engine_alive(paths))
