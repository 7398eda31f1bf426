"""`doctor --device`: real runs on the processor; with a driver's libraries made for the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from core.session.device_record import FILE
from tests.cli.checks.test_try import _processes, _running, _traces
from tests.cli.command import COMMAND, run, terminal
from tests.engine.support import wait_for
from tests.false_driver import FalseDriver
from tests.lab.simulated_torch import environment_with
from tests.projects import (
    ENDLESS,
    PROGRAM,
    SCORED_FILES,
    SCORED_PROGRAM,
    SCORED_TRAIN,
    make_project,
)

ON_CPU = ("doctor", "--device", "--slots", "cpu:1")


@pytest.fixture(scope="module")
def torch_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose torch is built for a card, and is imported at once."""
    folder = tmp_path_factory.mktemp("env")
    environment_with(folder, version="2.11.0+cu128", cuda="12.8", arches="sm_80 sm_90")
    return {"VIRTUAL_ENV": str(folder)}


def findings(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for step in report["steps"] for finding in step["findings"]}


def test_without_a_card_the_driver_is_told_at_once(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p")
    done = run(folder, "doctor", "--device", env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 1 and "device check: not ready: driver\n" in done.stdout
    assert "hint:" in done.stdout and "--slots cpu:1" in done.stdout and "a shortened run" not in done.stdout
    refused = run(folder, "doctor", "--slots", "cpu:1")
    assert refused.returncode == 2 and "hint: add --device" in refused.stderr
    wrong = run(folder, "doctor", "--device", "--slots", "tpu:1")
    assert wrong.returncode == 1 and "does not name slots" in wrong.stdout and "Traceback" not in wrong.stderr


def test_a_scored_run_is_measured(tmp_path: Path, torch_env: dict[str, str], state_folder: Path) -> None:
    minutes = SCORED_PROGRAM.replace('"10s"', '"2m"')
    folder = make_project(tmp_path / "p", train=SCORED_TRAIN, program=minutes, more=SCORED_FILES)
    before = _traces(folder)
    done = run(folder, *ON_CPU, "--seconds", "90", "--json", env=torch_env)
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    assert _traces(folder) == before, "something stays in the repository"
    phases, told = report["run"]["phases"], findings(report)
    assert phases["start"] > 0.4 and 0.1 < phases["training"] < 10 and phases["scoring"] > 0.4
    gap = phases["end"] + max(phases["checkout"] + phases["start"], phases["scoring"])
    clock = phases["training"]  # it ends by itself, before its budget
    assert report["run"]["busy_share"] == pytest.approx(clock / (clock + gap)) and report["run"]["budget"] == "2:00 cpu"
    assert "the longer of start" in told["busy share"]["detail"] and "on the clock: " in told["busy share"]["detail"]
    assert report["run"]["tokens_per_second"] == pytest.approx(13 / phases["training"])
    assert told["compiles"]["detail"].startswith("not known") and told["probes"]["detail"] == "rate"
    assert report["torch"]["version"] == "2.11.0+cu128" and report["ok"]
    kept = json.loads((state_folder / FILE).read_text())
    assert [one["date"] for one in kept.values()] == [report["date"]] and next(iter(kept)).endswith(" cpu")


def test_a_printed_metric_is_measured_and_what_is_not_known_is_said(tmp_path: Path, torch_env: dict[str, str]) -> None:
    folder = make_project(tmp_path / "p", train=ENDLESS)
    done = run(folder, *ON_CPU, "--seconds", "1", env=torch_env)
    assert done.returncode == 0 and "device check: all works" in done.stdout, done.stdout
    assert "still running after its first 1 s" in done.stdout and "its start-up is on its clock" in done.stdout
    assert "tokens a second not known" in done.stdout and "loss 0.5000 (of this short run)" in done.stdout
    assert "1/2 the machine" in done.stderr and "2/2 a shortened run: running" in done.stderr


def test_a_crash_is_told_with_its_hint(tmp_path: Path, torch_env: dict[str, str]) -> None:
    folder = make_project(tmp_path / "p", train="import nothing_of_that_name\n")
    with terminal(folder, *ON_CPU, env=torch_env) as term:
        assert term.end() == 1
    assert "No module named 'nothing_of_that_name'" in term.seen and "hint: " in term.seen
    assert "device check: not ready: run" in term.seen and "\r\x1b[K" in term.seen


def test_a_scorer_that_rejects_the_unchanged_code_is_told_with_a_hint(
    tmp_path: Path, torch_env: dict[str, str]
) -> None:
    train = SCORED_TRAIN.replace("RATE = 0.5", "RATE = 2.0")
    folder = make_project(tmp_path / "p", train=train, program=SCORED_PROGRAM, more=SCORED_FILES)
    done = run(folder, *ON_CPU, "--json", env=torch_env)
    report = json.loads(done.stdout)
    bad = {name: one for name, one in findings(report).items() if one["ok"] is False}
    assert done.returncode == 1 and set(bad) == {"score", "probes"} and not report["ok"]
    assert "the rate is out of this world" in bad["score"]["detail"] and bad["probes"]["detail"] == "rate"
    assert all(one["hint"].startswith("see its output: ") for one in bad.values())


def test_a_python_below_the_project_is_asked_too(tmp_path: Path) -> None:
    folder = make_project(
        tmp_path / "p", train="raise SystemExit(3)", program=PROGRAM.replace("python t", "own/bin/python t")
    )
    environment_with(folder / "own", version="2.13.0+cpu")
    report = json.loads(run(tmp_path, *ON_CPU, "--json", "p").stdout)
    assert report["python"]["executable"] == f"{folder}/own/bin/python" and report["torch"]["version"] == "2.13.0+cpu"


def test_nothing_stays_after_ctrl_c(tmp_path: Path, torch_env: dict[str, str]) -> None:
    folder = make_project(tmp_path / "p", train=ENDLESS)
    before = _traces(folder)
    with subprocess.Popen(
        [COMMAND, *ON_CPU], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **torch_env}
    ) as process:
        wait_for(lambda: _running(folder), "a run that prints")
        assert _processes(folder)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and b"Traceback" not in said
    wait_for(lambda: _traces(folder) == before, "the removal")
    wait_for(lambda: not _processes(folder), "the end of its processes")


def test_a_card_whose_driver_refuses_is_told_in_its_words(tmp_path: Path, torch_env: dict[str, str]) -> None:
    folder, driver = make_project(tmp_path / "p"), FalseDriver(tmp_path / "driver")
    driver.say("cuda=999 free=12")
    env = {**torch_env, "LD_LIBRARY_PATH": str(driver.folder)}
    done = run(folder, "doctor", "--device", "--json", env=env)
    report = json.loads(done.stdout)
    told = findings(report)
    assert done.returncode == 1 and report["slot"] == "gpu0" and report["card"]["capability"] == [9, 0]
    assert told["driver"]["detail"] == "550.54 (CUDA 12.4); Simulated, 24 GB, compute capability 9.0"
    assert told["torch"]["ok"] is False and "it sees no GPU" in told["torch"]["detail"]
    assert "12.0 of 24.0 GB are free" in told["card memory"]["detail"]
    plain = told["CUDA, no sandbox"]
    assert plain["ok"] is False and "cuInit: error 999 CUDA_ERROR_UNKNOWN (unknown error)" in plain["detail"]
    assert [one["code"] for one in report["cuda_start"] if one["tier"] == "C"] == [999]
    assert {one["as"] for one in report["cuda_start"]} == {"run", "scoring"}
    later = json.loads(run(folder, "doctor", "--quick", "--json", env=env).stdout)
    misnamed = {**env, "CUDA_VISIBLE_DEVICES": "9"}
    wrong = run(folder, "doctor", "--device", "--slots", "gpu:0", env=misnamed)
    assert wrong.returncode == 1 and "'9' in CUDA_VISIBLE_DEVICES is the number of no GPU" in wrong.stdout
    assert run(folder, *ON_CPU, "--seconds", "1", env=misnamed).returncode == 0, "the processor is no card"
    (remark,) = [one for one in later["findings"] if one["name"] == "device check"]
    assert remark["ok"] is None and "not ready: torch, CUDA, no sandbox" in remark["detail"]
