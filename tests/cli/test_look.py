"""The commands that read a session, run as processes on recorded sessions without an engine."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from core.record import events as e
from core.record.wire import decode_event
from core.session.log import FORMAT, Log
from core.session.paths import SessionPaths
from tests.cli.command import COMMAND, run, terminal
from tests.recorded import make_session

HOSTILE = [("evil \x1b]0;owned\x07\x1b[2J\u202ename \U0001f600\nline", "other")]


@pytest.fixture
def session(tmp_path: Path) -> SessionPaths:
    return make_session(tmp_path / "my project ☂", experiments=12)


def test_status(session: SessionPaths) -> None:
    done = run(session.project, "status")
    assert done.returncode == 0 and done.stderr == ""
    for words in ("nov23", "✓ finished", "12 experiments is spent", "1.9762", "val_bpb", "2 kept", "not running"):
        assert words in done.stdout
    status = json.loads(run(session.project, "status", "nov23", "--json").stdout)
    assert status["state"] == "finished" and status["experiments"]["total"] == 12
    assert status["best"]["experiment"] == 5 and status["engine"]["alive"] is False
    assert status["project"] == str(session.project)


def test_status_is_quick(session: SessionPaths) -> None:
    """Measures processor time, which is independent of the load. The documented limit is half a second of wall time."""
    run(session.project, "status")
    costs = []
    for _ in range(3):
        before = os.times()
        assert run(session.project, "status", "--json").returncode == 0
        after = os.times()
        costs.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(costs) < 0.5, costs


def test_a_reason_keeps_its_lines(tmp_path: Path) -> None:
    """`events` prints the first line of a reason. `status` and `show` print all lines unchanged."""
    paths = make_session(tmp_path, experiments=1)
    rejected = e.Judged(
        experiment=2,
        verdict="rejected",
        metric=None,
        delta=None,
        reason="train.py:5: would not parse:\n  5 | RATE = =\x1b[31m 1",
    )
    log = Log.append_to(paths.database)
    log.append(
        [e.ExperimentStarted(experiment=2, parent=0, parent_commit="0" * 40, researcher="scripted"), rejected],
        1_790_001_000.0,
    )
    log.append([e.ProposalRefused(1, 1, "a.py: not found; the nearest lines are\n  3 | x")])
    why = "exited with code 1\nTraceback:\n  ValueError: x\n  hint: correct it"
    log.append([e.StateChanged("crashed", why)], 1_790_001_001.0)
    log.close()
    status = run(tmp_path, "status").stdout
    assert "✗ crashed  exited with code 1\n" in status and "\n  |   ValueError: x\n" in status
    finished = make_session(tmp_path / "done", experiments=1)
    log = Log.append_to(finished.database)
    log.append([e.GuidanceQueued(guidance=1, text="hm")])
    log.close()
    assert "continue with" not in run(tmp_path / "done", "status").stdout  # queued guidance does not change that
    shown = run(tmp_path, "show", "2").stdout
    assert "train.py:5: would not parse:\n" in shown and "  5 | RATE = = 1\n" in shown
    said = run(tmp_path, "events").stdout
    assert "refused: a.py: not found\n" in said and "#2 rejected: train.py:5: would not parse\n" in said
    assert "session crashed: exited with code 1; hint: correct it\n" in said


def test_a_session_with_a_dead_engine_is_called_crashed(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=5, live=True)
    status = json.loads(run(tmp_path, "status", "--json").stdout)
    assert status["state"] == "crashed" and status["running"] == []
    text = run(tmp_path, "status").stdout
    assert "✗ crashed" in text and "run --session nov23" in text
    with paths.lock.open("w") as lock:  # a session with a running engine
        fcntl.flock(lock, fcntl.LOCK_EX)
        status = json.loads(run(tmp_path, "status", "--json").stdout)
        assert status["state"] == "running" and status["engine"]["alive"] and status["running"][0]["experiment"] == 5
        lock.write(f"{os.getpid()}\n")  # a new engine is known by its lock before the log has its start
        lock.flush()
        assert json.loads(run(tmp_path, "status", "--json").stdout)["engine"]["pid"] == os.getpid()
        assert "thinking     #6" in run(tmp_path, "status").stdout


def test_each_kind_of_reasoning_starts_on_a_new_line(session: SessionPaths) -> None:
    said = [
        ("note", "waiting 1 s"),
        ("note", "refused (1)"),
        ("thinking", "I th"),
        ("thinking", "ink"),
        ("text", "So."),
        ("tool", "read_file train.py"),
        ("text", "Next."),
    ]
    session.reasoning(5).parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"t": 1.0, "k": kind, "s": words}) + "\n" for kind, words in said)
    session.reasoning(5).write_text("".join(lines))
    shown = json.loads(run(session.project, "show", "5", "--json").stdout)["reasoning"]
    assert shown.splitlines()[:5] == ["waiting 1 s", "refused (1)", "I think", "So.", "Next."]


def test_sessions(session: SessionPaths) -> None:
    other = make_session(session.project, experiments=3, name="broken")
    other.database.write_bytes(b"no database")
    os.utime(other.database, (1, 1))
    listed = json.loads(run(session.project, "sessions", "--json").stdout)
    assert [(s["session"], s["state"]) for s in listed] == [("nov23", "finished"), ("broken", "unreadable")]
    done = run(session.project, "sessions")
    assert done.returncode == 0 and "finished" in done.stdout and "unreadable" in done.stdout
    assert done.stderr == ""


def test_leaderboard(session: SessionPaths) -> None:
    board = json.loads(run(session.project, "leaderboard", "--json").stdout)
    assert len(board) == 12 and board[0]["experiment"] == 5 and board[0]["verdict"] == "kept"
    lines = run(session.project, "leaderboard").stdout.splitlines()
    assert len(lines) == 13 and lines[1].split()[:3] == ["5", "✓", "kept"]


def test_show(session: SessionPaths) -> None:
    shown = json.loads(run(session.project, "show", "4", "--json").stdout)
    assert shown["verdict"] == "crashed" and shown["runs"][0]["ended"] == "crashed" and "+A = 4" in shown["diff"]
    assert "What did the last result say?" in shown["reasoning"] and shown["reason"] == "ValueError: shapes"
    text = run(session.project, "show", "#5", "nov23").stdout
    assert "#5  ✓ kept" in text and "+B = 10" in text and "better by more than 2σ" in text
    assert "baseline" in run(session.project, "show", "0").stdout
    crashed = run(session.project, "show", "4").stdout
    assert "the end of its output" in crashed and crashed.endswith("loss 2.2955\n") and "the end of" not in text
    missing = run(session.project, "show", "99")
    assert missing.returncode == 1 and "no experiment 99" in missing.stderr and "1 to 12" in missing.stderr


def test_events(session: SessionPaths) -> None:
    lines = run(session.project, "events", "--json").stdout.splitlines()
    events = [decode_event(line) for line in lines]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    late = run(session.project, "events", "--json", "--since", str(len(events) - 2)).stdout.splitlines()
    assert late == lines[-2:]
    sentences = run(session.project, "events").stdout
    assert "#5 kept val_bpb 1.9762" in sentences and "session finished" in sentences


def test_events_follow_prints_new_events_until_the_engine_ends(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=2, live=True)
    log = Log.append_to(paths.database)
    last = log.state.seq
    with paths.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        follower = subprocess.Popen(
            [COMMAND, "events", "--follow", "--since", str(last)], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        assert follower.stdout is not None
        log.append([e.Noted("warning", "a new one")])
        assert "warning: a new one" in follower.stdout.readline()
        log.append([e.Noted("info", "the last word")])
    assert "the last word" in follower.stdout.read()
    assert follower.wait(20) == 0
    log.close()


def test_missing_objects_are_reported(tmp_path: Path, session: SessionPaths) -> None:
    assert run(session.project, "status", "nope").returncode == 3
    bad = run(session.project, "status", "../../etc")
    assert bad.returncode == 2 and "is not a session name" in bad.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    lost = run(empty, "status")
    assert lost.returncode == 1 and "no program.md" in lost.stderr and "autoresearch-tui init" in lost.stderr
    (empty / "program.md").touch()
    none = run(empty, "status")
    assert none.returncode == 3 and "autoresearch-tui run" in none.stderr
    assert json.loads(run(empty, "sessions", "--json").stdout) == []
    elsewhere = run(empty, "status", "-C", str(session.project), "--json")
    assert json.loads(elsewhere.stdout)["session"] == "nov23"


@pytest.mark.parametrize(
    "command", [["status"], ["leaderboard"], ["events"], ["show", "1"], ["export", "--results", "-"]]
)
def test_a_corrupt_or_newer_log_is_reported(session: SessionPaths, command: list[str]) -> None:
    with sqlite3.connect(session.database) as db:
        db.execute(f"PRAGMA user_version={FORMAT + 1}")
    newer = run(session.project, *command)
    assert newer.returncode == 1 and "newer version" in newer.stderr and "hint:" in newer.stderr
    for side in ("-wal", "-shm"):
        session.database.with_name(f"session.db{side}").unlink(missing_ok=True)
    session.database.write_bytes(os.urandom(9000))
    corrupt = run(session.project, *command)
    assert corrupt.returncode == 1 and "is damaged" in corrupt.stderr and "hint:" in corrupt.stderr
    assert "Traceback" not in newer.stderr + corrupt.stderr


def test_recorded_control_characters_are_removed(tmp_path: Path) -> None:
    make_session(tmp_path, experiments=6, hypotheses=HOSTILE)
    for words in (["leaderboard"], ["events"], ["show", "1"], ["status"], ["export", "--results", "-"]):
        text = run(tmp_path, *words).stdout
        assert not {c for c in text if c < " " and c not in "\n\t"} and "\u202e" not in text and "\x9b" not in text
    for words in (["leaderboard", "--json"], ["events", "--json"], ["show", "1", "--json"]):
        text = run(tmp_path, *words).stdout
        assert not {c for c in text if c < " " and c != "\n"} and "\u202e" not in text
        json.loads(text if "events" not in words else text.splitlines()[-1])
    with terminal(tmp_path, "leaderboard") as screen:
        assert screen.end() == 0
        assert "\x1b]0;" not in screen.seen and "\x1b[2J" not in screen.seen and "evil" in screen.seen


def test_colours_appear_only_on_a_terminal_that_allows_them(session: SessionPaths) -> None:
    def on_screen(**env: str) -> str:
        with terminal(session.project, "leaderboard", env=env) as screen:
            assert screen.end() == 0
            return screen.seen

    assert "\x1b[36m" in on_screen()
    assert "\x1b" not in on_screen(NO_COLOR="1")
    dumb = on_screen(TERM="dumb")
    assert "\x1b" not in dumb and dumb.isascii()
    assert "\x1b" not in run(session.project, "leaderboard").stdout


def test_an_ascii_terminal_gets_ascii(session: SessionPaths) -> None:
    for words in (["status"], ["leaderboard"], ["events"], ["show", "1"], ["sessions"], ["events", "--json"]):
        done = run(session.project, *words, env={"PYTHONIOENCODING": "ascii"})
        assert done.returncode == 0 and done.stdout.isascii() and done.stderr == "", words
    assert run(session.project, "status", "é", env={"PYTHONIOENCODING": "ascii"}).returncode == 2


def test_a_closed_pipe_ends_the_command(session: SessionPaths) -> None:
    for words in ("leaderboard", "events --json", "show 1"):
        done = subprocess.run(
            ["bash", "-c", f'"{COMMAND}" {words} | head -c 1 > /dev/null; exit ${{PIPESTATUS[0]}}'],
            cwd=session.project, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.stderr == "" and done.returncode in (0, 1)


def test_a_full_disk_and_a_missing_permission_are_reported(session: SessionPaths) -> None:
    done = subprocess.run(
        ["bash", "-c", f'"{COMMAND}" events --json > /dev/full'], cwd=session.project, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "no space left" in done.stderr.lower() and "Traceback" not in done.stderr
