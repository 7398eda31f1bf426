"""Steering commands, run as processes on one engine, and the sentences of `status --follow`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from core.session.paths import SessionPaths
from tests.cli.command import COMMAND, run
from tests.engine.support import FOREVER, engine, judged, patch, wait_end, wait_for, wait_state
from tests.projects import PROGRAM, make_project, rate, write_script
from tests.recorded import make_session
from tui.cli.parser import parse


@pytest.mark.parametrize(
    ("words", "text", "now"),
    [
        (["steer", "-5%"], ["-5%"], False),
        (["steer", "--", "--now"], ["--now"], False),
        (["steer", "-5%", "--now", "is", "enough"], ["-5%", "is", "enough"], True),
        (["steer", "--now", "-- try less"], ["-- try less"], True),
        (["steer", "--session", "nov23", "-O3 is", "-", "--now"], ["-O3 is", "-"], True),
        (["steer", "--edit", "3", "-5%"], ["-5%"], False),
    ],
)
def test_guidance_may_begin_with_a_dash(words: list[str], text: list[str], now: bool) -> None:
    arguments = parse(words)
    assert (arguments.text, arguments.now) == (text, now)


def test_option_values_may_begin_with_a_dash() -> None:
    assert parse(["reject", "3", "--reason", "-5% is not enough"]).reason == "-5% is not enough"
    assert parse(["propose", "-", "--hypothesis", "--no bias"]).hypothesis == "--no bias"
    assert parse(["idea", "-1 layer"]).text == ["-1 layer"]
    assert parse(["fork", "best"]).experiment is None and parse(["fork", "#12"]).experiment == 12


@pytest.mark.parametrize(
    "words",
    [
        ["steer", "--standin", "x"], ["steer"], ["steer", "--withdraw", "1", "x"], ["stop", "--after", "0"],
        ["stop", "--now", "--after", "2"], ["fork", "first"], ["approve-mode", "maybe"], ["set"], ["set", "speed=9"],
        ["set", "usd=much"], ["set", "usd="], ["propose", "no-such.patch", "--hypothesis", "x"], ["propose", "x.patch"],
        ["propose", "-", "--hypothesis", "x", "--kind", "magic"], ["idea", " "], ["pin", "-3"],
        ["queue", "move"], ["queue", "move", "1"], ["queue", "move", "1", "0"], ["queue", "move", "1", "sideways"],
        ["queue", "delete", "1", "2"], ["queue", "empty", "1"],
    ],
)  # fmt: skip
def test_wrong_arguments_are_a_usage_error(words: list[str], tmp_path: Path) -> None:
    make_session(tmp_path, experiments=1, files=False)
    done = run(tmp_path, *words)
    assert done.returncode == 2 and done.stderr.startswith("autoresearch-tui") and done.stdout == "", done


@pytest.mark.slow
def test_each_steering_command_works_on_a_live_session(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.4", seconds=FOREVER), rate("0.45", "0.4")])

    def does(*words: str, stdin: str = "") -> str:
        done = run(project, *words, stdin=stdin)
        assert done.returncode == 0 and done.stderr == "", done
        return done.stdout

    def fails(*words: str) -> str:
        done = run(project, *words)
        assert done.returncode == 1 and done.stderr.startswith("autoresearch-tui: "), done
        return done.stderr

    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_state(paths, lambda s: s.baseline and 1 in s.experiments, "a baseline, and a thought")
        follower = subprocess.Popen(
            [COMMAND, "status", "--follow"], cwd=project, stdout=subprocess.PIPE, text=True, env={**os.environ}
        )
        assert follower.stdout is not None
        assert follower.stdout.readline().startswith("Session s is running; 1 experiment, 0 kept; nothing beats")
        does("steer", "-5%", "is", "enough")
        does("steer", "--edit", "1", "-6% is enough")
        does("steer", "--withdraw", "1")
        does("idea", "no warm-up")
        (project / "nearer.patch").write_text(patch("0.5", "0.45"))
        assert "your experiment is #2" in does(
            "propose", "nearer.patch", "--hypothesis", "nearer", "--kind", "Optimiser"
        )
        judged(paths, 2)
        assert "does not apply" in fails("propose", "nearer.patch", "--hypothesis", "again")
        does("repeat", "2")
        does("fork", "0")
        does("fork", "best")
        does("pin", "2")
        does("pin", "2", "--off")
        assert "experiments" in does("set", "experiments=9", "usd=3", "slots=cpu:2")
        assert "already" in fails("set", "slots=cpu:2", "hours=2")
        assert json.loads(run(project, "set", "slots=cpu:2", "--json").stdout)["accepted"] is False
        text = (project / "program.md").read_text()
        (project / "program.md").write_text(text.replace("Make RATE better.", "Make RATE smaller."))
        shown = run(project, "program")
        assert shown.returncode == 0 and "+Make RATE smaller." in shown.stdout and "next experiment" in shown.stderr
        (project / "program.md").write_text(text.replace("python train.py", "python other.py"))
        assert "new session" in fails("program")
        does("approve-mode", "on")
        does("skip", "1")
        wait_state(paths, lambda s: s.approvals, "a card")
        status = json.loads(does("status", "--json"))
        assert set(status["cost"]) >= {"usd", "usd_per_kept"}
        (project / "mine.patch").write_text(patch("0.45", "0.41"))
        assert "with your edits" in does("approve", "3", "--all", "--patch", "mine.patch")
        state = wait_end(paths)
        said, _ = follower.communicate(timeout=300)
    assert state.experiments[3].verdict == "kept" and state.guidance[2].taken_by == 3
    for sentence in (
        "Experiment 2 started, a person's own, building on the baseline.\n",
        "Experiment 2 is proposed: nearer.\n",
        "New best: experiment 2, loss 1.0",
        "Experiment 3 waits for approval: RATE 0.45 to 0.4 lowers the loss.\n",
        "The session is finished: the script has ended after 2 proposals.\n",
    ):
        assert sentence in said, said
    assert follower.returncode == 0


def test_status_follow_ends_without_an_engine_and_on_ctrl_c(tmp_path: Path) -> None:
    paths: SessionPaths = make_session(tmp_path, experiments=5)
    done = run(tmp_path, "status", "--follow")
    assert done.returncode == 0 and "No engine runs this session now." in done.stdout
    assert "Session nov23 is finished: the budget of 5 experiments is spent; 5 experiments, 2 kept;" in done.stdout
    line = json.loads(run(tmp_path, "status", "-f", "--json").stdout)
    assert line["status"]["experiments"]["total"] == 5
    held = subprocess.Popen(["flock", str(paths.lock), "sleep", "100"], start_new_session=True)
    try:
        wait_for(lambda: not os.access(paths.lock, os.R_OK) or _locked(paths), "an engine's lock")
        follower = subprocess.Popen(
            [COMMAND, "status", "--follow"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert follower.stdout is not None and follower.stdout.readline()
        follower.send_signal(signal.SIGINT)
        _, errors = follower.communicate(timeout=300)
        assert (follower.returncode, errors) == (0, "")
    finally:
        os.killpg(held.pid, signal.SIGKILL)
        held.wait()


def _locked(paths: SessionPaths) -> bool:
    from core.session.lock import engine_alive

    return engine_alive(paths)


@pytest.mark.slow
def test_the_queue_is_listed_ordered_and_emptied(tmp_path: Path) -> None:
    program = PROGRAM.replace('run = "10s"', 'run = "2h"')
    project = make_project(tmp_path / "p", program=program)
    endless = {"path": "train.py", "search": "SECONDS = 0.05", "replace": "SECONDS = 7200"}
    script = write_script(
        tmp_path / "s.jsonl",
        [{"hypothesis": "never ends", "edits": [endless]}, rate("0.5", "0.4"), rate("0.5", "0.6")],
    )
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_state(paths, lambda s: s.queue == (2, 3) and 1 in s.running.values(), "a full queue")

        def listed() -> list[tuple[int, int]]:
            return [(x["place"], x["experiment"]) for x in json.loads(run(project, "queue", "--json").stdout)]

        assert listed() == [(1, 2), (2, 3)]
        shown = run(project, "queue").stdout
        assert "RATE 0.5 to 0.4" in shown and shown.index("#2") < shown.index("#3")
        assert "#2, #3 wait" in run(project, "status").stdout
        assert json.loads(run(project, "status", "--json").stdout)["queue"] == [2, 3]
        assert run(project, "queue", "move", "3", "up").stdout == "experiment 3 is at place 1 of 2\n"
        assert listed() == [(1, 3), (2, 2)]
        assert run(project, "queue", "move", "3", "up").returncode == 1
        assert run(project, "queue", "move", "3", "down").returncode == 0 and listed() == [(1, 2), (2, 3)]
        assert "does not wait" in run(project, "queue", "move", "1", "up").stderr
        for number in ("2", "3"):
            assert run(project, "queue", "delete", number).returncode == 0
        assert run(project, "queue").stdout == "no proposal waits for a slot\n" and listed() == []
