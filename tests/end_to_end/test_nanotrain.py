"""The built-in project: set up from the package and run by the control researcher to a verdict."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.screen import COMMAND
from tests.false_driver import FalseDriver
from tests.projects import own_home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def _run(folder: Path, env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=380, check=False
    )


def test_the_control_researcher_runs_nanotrain_to_its_first_verdict(tmp_path: Path) -> None:
    env = own_home(tmp_path)
    made = _run(tmp_path, env, "init", "lab", "--template", "nanotrain")
    assert made.returncode == 0, made.stderr
    project = tmp_path / "lab"
    words = ("run", "--headless", "--session", "first", "--experiments", "1", "--run-budget", "20steps")
    done = _run(project, env, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    status = json.loads(_run(project, env, "status", "--json").stdout)
    assert status["state"] == "finished" and status["experiments"]["total"] == 1
    assert status["baseline"]["n"] == 3 and 1.0 < status["baseline"]["metric"] < 4.0
    row = json.loads(_run(project, env, "leaderboard", "--json").stdout)[0]
    assert row["verdict"] in ("kept", "discarded", "crashed"), row
    shown = json.loads(_run(project, env, "show", "1", "--json").stdout)
    assert shown["diff"].startswith("--- a/nanotrain/train.py") or "nanotrain/train.py" in shown["diff"]
    assert all(not run["self_reported"] for run in shown["runs"])
    baseline = json.loads(_run(project, env, "show", "0", "--json").stdout)
    baseline["runs"] = [run for run in baseline["runs"] if run["ended"] == "done"]  # others are measured again
    assert [run["steps"] for run in baseline["runs"]] == [20, 20, 20]
    assert len({run["seed"] for run in baseline["runs"]}) == 3
    # A budget in steps and a recorded seed give the same number to the last digit.
    again = json.loads(_run(project, env, "reproduce", "0", "--json").stdout)
    assert again["metric"] == again["recorded"] == baseline["runs"][0]["metric"] and again["within_noise"]


def test_a_session_on_a_gpu_asks_for_a_corpus_that_fits_it(tmp_path: Path) -> None:
    env = own_home(tmp_path) | {"LD_LIBRARY_PATH": str(FalseDriver(tmp_path / "driver").folder)}
    _run(tmp_path, env, "init", "lab", "--template", "nanotrain")
    words = ("run", "--headless", "--researcher", "human", "--session")
    refused = _run(tmp_path / "lab", env, *words, "first")
    assert refused.returncode == 1 and "on a GPU the default corpus is too small" in refused.stderr
    assert "-m nanotrain.prepare --download climbmix --shards 8 (" in refused.stderr
    other = ("--set", 'prepare={ cuda = "echo not this; exit 7", cpu = "true" }')
    said = _run(tmp_path / "lab", env, *words, "second", *other)
    assert said.returncode == 1 and "`prepare` ended with code 7: not this" in said.stderr
