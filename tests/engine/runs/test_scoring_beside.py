"""The next clock of a card starts while the run before it is scored, where that needs no card; no verdict comes early.

Probes and trainings go on until files are there, so that nothing depends on the machine's speed.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.client import read_events, read_state
from core.lab import container
from core.record import events as e
from core.record.state import Run, State
from core.session.disk import read_json
from core.session.paths import SessionPaths
from tests.engine.support import (
    bodies,
    engine,
    final_verdicts,
    kill_engine,
    slot_seconds,
    wait_end,
    wait_for,
    wait_state,
)
from tests.false_driver import FalseDriver
from tests.projects import SCORED_FILES, SCORED_PROGRAM, SCORED_TRAIN, make_project, write_script

SCORE = """\
import ctypes, json, os, pathlib, time
rate = json.loads(pathlib.Path(os.environ["AUTORESEARCH_RUN_DIR"], "weights.json").read_text())["rate"]
number = 1.0 + (rate - 0.3) ** 2
USE
if rate == 0.2:  # the best number of all
    FIRST
    while not os.path.exists("PROBES"): time.sleep(0.02)
time.sleep(0.5)
print(json.dumps({"rejected": "it looks ahead"} if rate == 0.2 else {"metric": number}))
"""
PENDING = 'print(json.dumps({"metric": number, "pending": True}), flush=True)'


@dataclass
class Scene:
    paths: SessionPaths
    probes: Path  # the file for which the probes of the first experiment wait
    training: Path  # and the training of the second

    def run(self, experiment: int) -> Run:
        return read_state(self.paths).experiments[experiment].runs[-1]

    def phases(self) -> list[str | None]:
        """Those of the first two experiments."""
        return [
            x.runs[-1].phase if x.runs else None for n, x in read_state(self.paths).experiments.items() if n in (1, 2)
        ]

    def waits(self, experiment: int) -> bool:
        """Whether a run of an experiment has started up and waits for its clock."""
        live = [run for run in read_state(self.paths).live_runs() if run.experiment == experiment]
        return any(read_json(self.paths.run(run.run) / "status.json").get("phase") == "ready" for run in live)


@contextmanager
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, card: bool, first: str) -> Iterator[Scene]:
    """A session on one card whose second experiment waits for its clock or trains while the first is scored."""
    if container.cores() < 2:
        pytest.skip("one processor is too few for a scoring beside a run")
    driver = FalseDriver(tmp_path / "driver")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver.folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    program = SCORED_PROGRAM.replace('edit = ["train.py"]', 'edit = ["train.py"]\ninputs = ["gate"]')
    use = f'ctypes.CDLL("{driver.folder}/libcuda.so.1")\ntime.sleep(0.5)' if card else ""
    probes = tmp_path / "probes"
    score = SCORE.replace("USE", use).replace("FIRST", first).replace("PROBES", str(probes))
    train = SCORED_TRAIN.replace("SECONDS = 0.2", "SECONDS = 4.5")  # enough to see the memory of its card
    project = make_project(tmp_path / "p", train=train, program=program, more={**SCORED_FILES, "score.py": score})
    gate = project / "gate"
    gate.mkdir()
    until = "while not os.path.exists('gate/{}'): time.sleep(0.02)\ntime.sleep(0.5)\n"
    waits = [
        {"path": "train.py", "search": "time.sleep(SECONDS)\n", "replace": until.format(name)} for name in ("1", "2")
    ]
    rates = [{"path": "train.py", "search": "RATE = 0.5", "replace": f"RATE = {r}"} for r in (0.2, 0.7, 0.8)]
    proposals: list[Any] = [
        {"hypothesis": f"change {n}", "kind": "other", "edits": [edit, *waits[n : n + 1]]}
        for n, edit in enumerate(rates)
    ]
    script = write_script(tmp_path / "s.jsonl", proposals)
    overrides = ("decide.baseline=1", "budget.run=5m")
    with engine(project, slots="gpu:0", researcher="scripted", script=str(script), overrides=overrides) as paths:
        it = Scene(paths, probes, gate / "2")
        wait_for(lambda: it.phases()[:1] == ["training"] and it.waits(2), "the second to be up beside the first")
        (gate / "1").touch()
        yield it


def whole(scene: Scene) -> State:
    """The session's end, after which each of the three was judged once, by one run."""
    scene.probes.touch()
    scene.training.touch()
    state = wait_end(scene.paths)
    assert [x.verdict for n, x in state.experiments.items() if n] == ["rejected", "discarded", "discarded"]
    assert sorted(final_verdicts(scene.paths)) == [1, 2, 3] and state.best == 0
    counted = [[r for r in x.runs if r.ended != "abandoned"] for x in state.experiments.values()]
    assert [len(runs) for runs in counted] == [1, 1, 1, 1]
    assert not any(body.verdict == "kept" for body in bodies(scene.paths, e.Judged))
    slot_seconds(scene.paths)
    return state


def clock_started(state: State, experiment: int) -> float:
    return state.experiments[experiment].runs[-1].clock_started or 0.0


def finished(paths: SessionPaths, experiment: int) -> float:
    """When the last run of an experiment was logged as ended, its scoring included."""
    ends = ((event.time, event.body) for event in read_events(paths))
    return [at for at, body in ends if isinstance(body, e.RunFinished) and body.experiment == experiment][-1]


def test_a_scoring_without_the_card_goes_on_beside_the_next_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene(tmp_path, monkeypatch, card=False, first="pass") as it:
        wait_for(lambda: it.phases() == ["scoring", "training"], "the next clock beside the scoring")
        assert read_state(it.paths).experiments[1].verdict is None
        it.training.touch()
        wait_for(lambda: it.phases() in (["scoring", "saving"], ["scoring", "scoring"]), "the end of the next clock")
        assert read_state(it.paths).experiments[1].verdict is None
        state = whole(it)
        assert clock_started(state, 3) > finished(it.paths, 1), "no more than one is scored beside a clock"


def test_an_engine_that_is_killed_between_number_and_probes_judges_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene(tmp_path, monkeypatch, card=True, first=PENDING) as it:
        wait_for(lambda: it.phases() == ["scoring", "training"], "the next clock beside the probes")
        scored, trains = it.run(1).run, it.run(2).run
        kill_engine(it.paths, signal.SIGKILL)
        state = read_state(it.paths)
        assert state.experiments[1].verdict is None and state.best == 0
        with engine(it.paths.project):
            wait_state(it.paths, lambda s: s.state == "running", "the next engine")
            wait_for(lambda: it.phases() == ["scoring", "training"], "both to go on")
            assert (it.run(1).run, it.run(2).run) == (scored, trains), "neither ran again"
            whole(it)


def test_probes_that_need_no_card_go_on_beside_the_next_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scene(tmp_path, monkeypatch, card=True, first=PENDING) as it:
        wait_for(lambda: it.phases() == ["scoring", "training"], "the next clock beside the probes")
        it.training.touch()
        whole(it)


def test_a_scoring_that_uses_the_card_ends_before_the_next_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene(tmp_path, monkeypatch, card=True, first="pass") as it:
        wait_for(lambda: it.phases()[0] == "scoring" and it.waits(2), "a start that waits for the scoring")
        state = whole(it)
        assert clock_started(state, 2) > finished(it.paths, 1)


def test_a_scorer_that_ends_before_its_probes_gives_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scene(tmp_path, monkeypatch, card=False, first=f"{PENDING}; raise SystemExit(0)") as it:
        state = wait_state(it.paths, lambda s: s.state == "paused", "the pause")
        assert "its last line says that they are pending" in state.reason
        assert state.experiments[1].verdict is None and state.best == 0
