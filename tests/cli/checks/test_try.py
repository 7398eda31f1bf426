"""The command `try`: real runs in the sandbox; nothing of them stays in the repository."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from core import invocation
from tests.cli.command import COMMAND, run, terminal
from tests.engine.support import wait_for
from tests.false_driver import FalseDriver
from tests.projects import ENDLESS, PROGRAM, TRAIN, git, make_project


def tried(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report."""
    before = _traces(folder)
    done = run(folder, "try", "--json", *words)
    assert _traces(folder) == before, "something stays in the repository"
    return done.returncode, json.loads(done.stdout)


def _traces(folder: Path) -> tuple[str, ...]:
    """What a trial must leave as it was."""
    kept = (folder / ".git/info/exclude").read_text() if (folder / ".git/info/exclude").exists() else ""
    return (
        git(folder, "worktree", "list", "--porcelain"), git(folder, "for-each-ref"), git(folder, "status", "--short"),
        str(sorted(path.name for path in folder.iterdir())), kept, str((folder / ".git/worktrees").exists()),
    )  # fmt: skip


def of(report: dict[str, Any], name: str) -> dict[str, Any]:
    """The finding of that name."""
    found: dict[str, Any] = next(finding for finding in report["findings"] if finding["name"] == name)
    return found


def test_a_run_that_works_is_expected_to_reach_a_verdict(tmp_path: Path) -> None:
    train = TRAIN.replace("SECONDS = 0.05", "SECONDS = 0.6")  # two reports long
    train = train.replace("% 7001 - 3500) * 1e-7", "% 70_000_001) * 1e-12").replace("noise:.6f", "noise:.12f")
    folder = make_project(tmp_path / "p", train=train)  # no two seeds have the same effect
    code, report = tried(folder)
    assert code == 0 and report["ok"]
    assert report["output"][-1].startswith("loss: 1.0400") and report["ended"] == "done"
    assert report["pattern"]["matches"] == 1 and report["pattern"]["value"] == report["metric"]["value"]
    assert report["seed"]["named_in"] == ["train.py:9"] and report["seed"]["has_effect"] is True
    assert 0 < report["budget"]["seconds"] < 10 and report["budget"]["run"] == "10s"
    assert report["threads"]["OMP_NUM_THREADS"] == "1"
    told = run(folder, "try")
    assert told.returncode == 0 and "a session can be expected to reach a verdict" in told.stdout
    assert "loss: 1.0" in told.stdout and "start one with:" in told.stdout and "running" in told.stderr


def test_a_crash_is_told_with_its_last_lines(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", train="import nothing_of_that_name\n")
    code, report = tried(folder)
    assert code == 1 and of(report, "run")["ok"] is False and of(report, "run")["hint"]
    assert "No module named 'nothing_of_that_name'" in of(report, "run")["detail"]
    told = run(folder, "try")
    assert told.returncode == 1 and "a session would reach no verdict: run" in told.stdout and "hint:" in told.stdout


def test_a_card_that_does_not_work_ends_a_trial(tmp_path: Path) -> None:
    driver = FalseDriver(tmp_path / "driver")
    driver.say("cuda=999")
    folder = make_project(tmp_path / "p", train="raise SystemExit('CUDA error: unspecified launch failure')\n")
    done = run(folder, "try", "--json", env={"LD_LIBRARY_PATH": str(driver.folder)})
    said = of(json.loads(done.stdout), "run")["detail"]
    assert done.returncode == 1 and "gpu0" in said and "cuInit: error 999 CUDA_ERROR_UNKNOWN" in said


def test_a_pattern_that_never_matches_is_told_once(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", train='print("step 3 loss: 0.25")\n')
    code, report = tried(folder)
    assert code == 1 and of(report, "run")["ok"] is True
    assert "never matched" in of(report, "metric")["detail"]
    assert of(report, "metric")["hint"] == r"write pattern = 'loss:\s*(\S+)'"
    assert [f["name"] for f in report["findings"] if f["ok"] is False] == ["metric"]


def test_a_run_that_never_ends_gets_the_line_to_write(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", train=ENDLESS, program=PROGRAM.replace('run = "10s"', 'run = "1s"'))
    code, report = tried(folder)
    assert code == 1 and report["at_limit"] == 'at_limit = "score"'
    assert "matched 1 time, last: 0.5" in of(report, "metric")["detail"]
    assert 'write below [budget]: at_limit = "score"' in of(report, "metric")["hint"]
    code, report = tried(folder, "--set", "budget.at_limit=score")
    assert code == 0 and report["metric"]["value"] == 0.5 and report["at_limit"] == ""


def test_only_the_first_seconds(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", train=ENDLESS)
    code, report = tried(folder, "--seconds", "1")
    assert report["budget"]["seconds"] < 5 and code == 0
    assert "still running" in of(report, "run")["detail"] and of(report, "metric")["ok"] is True
    silent = make_project(tmp_path / "q", train=ENDLESS.replace("loss: 0.5", "warming up"))
    code, report = tried(silent, "--seconds", "1")
    assert code == 1 and of(report, "metric")["ok"] is None and "--seconds" in of(report, "metric")["hint"]
    assert not [finding for finding in report["findings"] if finding["ok"] is False]


def test_a_seed_without_effect(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", train='print("loss: 0.25")\n')
    code, report = tried(folder)
    assert code == 0 and report["seed"]["has_effect"] is False and report["seed"]["named_in"] == []
    assert "two seeds, one number" in of(report, "seed")["detail"]
    assert 'run = "python train.py --seed $AUTORESEARCH_SEED"' in of(report, "seed")["hint"]


def test_the_files_that_a_run_writes(tmp_path: Path) -> None:
    train = """\
import os, pathlib, tempfile
pathlib.Path("out/deep").mkdir(parents=True); pathlib.Path("out/deep/w.pt").write_text("w" * 5000)
pathlib.Path("kept.txt").write_text("changed")
pathlib.Path("~/.cache/hub").expanduser().mkdir(parents=True)
pathlib.Path("~/.cache/hub/x").expanduser().write_text("x")
pathlib.Path(tempfile.gettempdir(), "scratch").write_text("x")
pathlib.Path(os.environ["AUTORESEARCH_RUN_DIR"], "model.bin").write_text("x")
print("loss: 0.25")
"""
    folder = make_project(tmp_path / "p", train=train, more={"kept.txt": "as it was"})
    code, report = tried(folder)
    assert code == 0
    where = {one["place"]: one["names"] for one in report["files"]}
    assert where["worktree"] == ["kept.txt", "out/"] and where["run folder"] == ["model.bin"]
    assert ".cache/" in where["home"] and (folder / "kept.txt").read_text() == "as it was"
    assert "out/ in the worktree" in of(report, "files")["detail"]


SCORE = """\
import json, os, pathlib
text = pathlib.Path(os.environ["AUTORESEARCH_WORKTREE"], "train.py").read_text()
print(json.dumps({"metric": float(text.split("RATE = ")[1].split()[0]), "probes": {"lines": len(text)}}))
"""


def test_a_scorer_answers(tmp_path: Path) -> None:
    program = PROGRAM.replace("[metric]", 'score = "python score.py"\n[metric]')
    program = "\n".join(line for line in program.splitlines() if not line.startswith("pattern"))
    folder = make_project(tmp_path / "p", program=program, more={"score.py": SCORE})
    code, report = tried(folder)
    assert code == 0 and report["score"]["metric"] == 0.5 and report["pattern"] is None
    assert of(report, "score")["detail"] == "the scorer's answer: loss 0.5000"
    broken = make_project(tmp_path / "q", program=program, more={"score.py": "raise SystemExit(3)"})
    code, report = tried(broken)
    assert code == 1 and "the scorer failed" in of(report, "run")["detail"]


def test_a_start_that_would_be_refused_is_told(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", program=PROGRAM.replace("python train.py", "no-such-program train.py"))
    code, report = tried(folder)
    assert code == 1 and not report["started"] and "'no-such-program' is not found" in report["findings"][0]["detail"]
    told = run(folder, "try")
    assert told.returncode == 1 and "hint: install no-such-program" in told.stdout


def test_uncommitted_changes_are_told(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p")
    (folder / "train.py").write_text("raise SystemExit(1)\n")
    code, report = tried(folder)
    assert code == 0 and "train.py" in of(report, "changes")["detail"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_after_a_kill(tmp_path: Path, how: signal.Signals) -> None:
    folder = make_project(tmp_path / "p", train=ENDLESS)
    before = _traces(folder)
    with subprocess.Popen([COMMAND, "try"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for(lambda: _running(folder), "a run that prints")
        assert _processes(folder)
        process.send_signal(how)
        process.wait(60)
    wait_for(lambda: _traces(folder) == before, "the removal")
    wait_for(lambda: not _processes(folder), "the end of its processes")


def test_nothing_stays_after_a_kill_of_the_process_that_tries(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", train=ENDLESS)
    before = _traces(folder)
    with subprocess.Popen([COMMAND, "try"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for(lambda: _running(folder), "a run that prints")
        assert _processes(folder)
        lock = next(folder.glob("sessions/.try-*/lock"))
        os.kill(int(lock.read_text()), signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and b"the trial failed" in said and b"Traceback" not in said
    wait_for(lambda: _traces(folder) == before, "the removal")
    wait_for(lambda: not _processes(folder), "the end of its processes")


def _running(folder: Path) -> bool:
    return any("loss" in log.read_text() for log in folder.glob("sessions/.try-*/runs/*/output.log"))


def _processes(folder: Path) -> list[str]:
    """Command lines that name a trial of this project."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if f"{folder}/sessions/.try-" in words:
            found.append(words)
    return found


def test_a_trial_that_was_killed_with_its_guard_is_removed_by_the_next(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p")
    left = folder / "sessions/.try-00000000"
    (left / "runs").mkdir(parents=True)
    git(folder, "worktree", "add", "--detach", str(left / "worktrees/1"))
    done = run(folder, "try", "--json")
    assert done.returncode == 0 and not (folder / "sessions").exists()
    assert git(folder, "worktree", "list").count("\n") == 0


def test_a_terminal_offers_the_line_and_writes_it(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", train=ENDLESS, program=PROGRAM.replace('run = "10s"', 'run = "1s"'))
    with terminal(folder, "try") as term:
        term.wait_for('write at_limit = "score" into program.md? [Y/n]')
        term.type("\n")
        term.wait_for("takes the last number printed")
        assert term.end() == 1
    assert '[budget]\nat_limit = "score"\nrun = "1s"' in (folder / "program.md").read_text()


def test_init_offers_a_try(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", train='RATE = 0.5\nloss = RATE / 2\nprint(f"loss: {loss}")\n')
    (folder / "program.md").unlink()
    with terminal(folder, "init") as term:
        term.wait_for("write it?")
        term.type("y\n")
        term.wait_for("try one run of it now? [Y/n]")
        term.type("\n")
        term.wait_for("a session can be expected to reach a verdict")
        assert term.end() == 0


def test_hints_name_the_project(tmp_path: Path) -> None:
    assert invocation.call("try", project=tmp_path).endswith(f"try {tmp_path}")
