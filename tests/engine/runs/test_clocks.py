"""A session in which nobody's clock suffers for another's work, and a starved run is measured again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from core.client import read_state
from core.engine.runs.counted.siblings import far_words
from core.lab.container import cores
from core.lab.shim.proctree import descendants, threads_of
from core.record import events as e
from core.record.state import BASELINE, State
from core.session.disk import read_json
from core.session.paths import SessionPaths
from tests.engine.support import bodies, engine, wait_end, wait_for, wait_state
from tests.projects import SCORED_FILES, SCORED_PROGRAM, SCORED_TRAIN, make_project, rate, write_script

ATTACK = (
    "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        os.setsid()\n        while True: pass\n"
    "time.sleep(60)\n"
)
BUSY_TRAIN = SCORED_TRAIN.replace(
    "time.sleep(SECONDS)", "until = time.time() + SECONDS\nwhile time.time() < until: pass"
)


def threads_below(folder: Path) -> dict[int, str]:
    """State of each thread of the processes that have this folder in their environment."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and os.fsencode(folder) in (entry / "environ").read_bytes():
                found |= {thread: stat.state for thread, stat in threads_of(int(entry.name)).items()}
        except OSError:
            continue
    return found


def test_a_check_takes_nothing_from_the_baseline_that_is_measured(tmp_path: Path) -> None:
    program = SCORED_PROGRAM.replace("[metric]", '[checks]\nsmoke = "python attack.py"\n[metric]')
    project = make_project(
        tmp_path / "p", program=program, train=BUSY_TRAIN.replace("SECONDS = 0.2", "SECONDS = 6.0"),
        more={**SCORED_FILES, "attack.py": ATTACK},
    )  # fmt: skip
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.4")])

    def kept_off(paths: SessionPaths) -> bool:
        threads = threads_below(paths.folder / "checks")
        busy = [thread for thread, state in threads.items() if state not in "Tt"]
        return len(threads) > 8 and all(len(os.sched_getaffinity(thread)) == 1 for thread in busy)

    every = (f"slots.threads={cores()}",)  # so that no processor is nobody's
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", overrides=every) as paths:
        wait_state(paths, lambda s: any(r.phase == "training" for x in s.experiments.values() for r in x.runs), "clock")
        wait_for(lambda: kept_off(paths), "the check is kept from the processor of the baseline")


@pytest.mark.slow
def test_what_starts_up_is_still_while_a_model_is_scored(tmp_path: Path) -> None:
    files = SCORED_FILES | {"score.py": SCORED_FILES["score.py"].replace("time.sleep(0.5)", "time.sleep(4)")}
    train = SCORED_TRAIN.replace("time.sleep(0.5)", "[time.sleep(0.01) for _ in range(100)]")
    project = make_project(tmp_path / "p", program=SCORED_PROGRAM, train=train, more=files)
    script = write_script(tmp_path / "s.jsonl", [])

    def switches(paths: SessionPaths) -> dict[str, str]:
        """How often each thread of the run that starts up gave up its processor, while another one is scored."""
        runs = [run for x in read_state(paths).experiments.values() for run in x.runs]
        scored = [run for run in runs if run.phase == "scoring"]
        starting = [run for run in runs if run.phase == "starting"]
        path = paths.run(starting[0].run) / "status.json" if scored and starting else None
        status: dict[str, Any] = read_json(path) if path else {}
        pids = descendants(status["shim"][1]) if status.get("shim") else []
        found = {}
        for file in (file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/status")):
            with suppress(OSError):
                found[str(file)] = file.read_text().rpartition("voluntary_ctxt_switches")[0]
        return found

    def still(paths: SessionPaths) -> bool:
        before = switches(paths)
        time.sleep(0.2)  # its code wakes up twenty times
        return bool(before) and switches(paths) == before

    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_state(paths, lambda s: any(r.phase == "training" for x in s.experiments.values() for r in x.runs), "clock")
        wait_for(lambda: still(paths), "the next run is stopped before its code asks for data")
        state = wait_end(paths)
    assert state.baseline is not None


@pytest.mark.slow
def test_a_run_that_others_starved_is_measured_again_with_its_seed(tmp_path: Path) -> None:
    project = make_project(
        tmp_path / "p", program=SCORED_PROGRAM, train=BUSY_TRAIN.replace("SECONDS = 0.2", "SECONDS = 2.0"),
        more=SCORED_FILES,
    )  # fmt: skip
    script = write_script(tmp_path / "s.jsonl", [])
    cores = os.cpu_count() or 1
    busy = [sys.executable, "-c", "while True: pass"]
    rivals = [subprocess.Popen(busy, start_new_session=True) for _ in range(6 * cores)]
    try:
        by_the_wall = ("budget.clock=wall",)  # on a clock of processor seconds it would count
        with engine(project, researcher="scripted", script=str(script), slots="cpu:1", overrides=by_the_wall) as paths:
            wait_for(lambda: paths.database.exists() and bodies(paths, e.RunFinished), "the end of the first run")
            for rival in rivals:
                rival.kill()
            state = wait_end(paths)
    finally:
        for rival in rivals:
            rival.kill()
            rival.wait()
    first, *later = state.experiments[0].runs
    assert first.ended == "abandoned" and first.metric is None and "measured again, not counted" in first.reason
    assert any(run.seed == first.seed and run.metric is not None for run in later) and state.baseline is not None
    assert any("run 1 of the baseline: others left it" in note.text for note in bodies(paths, e.Noted))


def test_what_is_so_each_time_counts() -> None:
    state = State()

    def words(share: float | None, *tries: float) -> str:
        return far_words(state, BASELINE, share, tries)

    assert words(None) == "" and words(0.8) == ""
    assert "30% of its processors" in words(0.3)
    assert words(0.31, 0.3) == "", "its machine is so"
    assert words(0.1, 0.5) and words(0.1, 0.9, 0.5) == "", "not for ever"
    assert far_words(state, 1, 0.1, ()) == "", "the unchanged code has wanted no processor"
