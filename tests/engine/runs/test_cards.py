"""Sessions on cards that break and work again, by a driver made for the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.client import read_state, start_engine
from core.engine.runs.card_watch import suspects_card
from core.record import commands as c
from core.record import events as e
from core.record.errors import CardsTaken
from core.record.pulse import DeviceReading
from core.session.lock import lock_holder
from core.session.options import EngineOptions
from core.session.paths import SessionPaths
from tests.engine.support import accepted, bodies, engine, kill_engine, refused, wait_end, wait_for, wait_state
from tests.false_driver import FalseDriver
from tests.projects import PROGRAM, SCORED_FILES, SCORED_PROGRAM, SCORED_TRAIN, TRAIN, make_project, rate, write_script

# With RATE 0.4, or where the driver's state says so, a run says what torch says without a card.
ON_A_CARD = TRAIN.replace(
    "time.sleep(SECONDS)\n",
    """time.sleep(SECONDS)
state = ["hold=1"]
while "hold=1" in state:
    state = open(os.environ["LD_LIBRARY_PATH"] + "/state").read().split()
    time.sleep(0.02)
if RATE == 0.4 or "fail=" + os.environ["AUTORESEARCH_SLOT"] in state:
    raise RuntimeError("CUDA error: unspecified launch failure")
if "quiet=" + os.environ["AUTORESEARCH_SLOT"] in state:
    print("UserWarning: CUDA initialization: CUDA unknown error - this may be due to an incorrectly set up environment")
if RATE == 0.2:
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
""",
)
# A scorer that has no memory where the driver's state says so: in a slot, or (`crowd`) beside a run that trains. With
# `crowd=1` it waits for the second run, which starts up as long; with `hold=1` for another state.
SCORER = """\
import ctypes, json, os, pathlib, sys, time
ctypes.CDLL(os.environ["LD_LIBRARY_PATH"] + "/libcuda.so.1")  # it uses the card, for long enough to be seen
time.sleep(0.5)
out = pathlib.Path(os.environ["AUTORESEARCH_RUN_DIR"])
while True:
    state = pathlib.Path(os.environ["LD_LIBRARY_PATH"], "state").read_text()
    beside = [run for run in out.parent.parent.iterdir() if not (run / "exit.json").exists()]
    if (beside and "crowd=" in state) or "score=" + os.environ["AUTORESEARCH_SLOT"] in state:
        sys.exit("torch.OutOfMemoryError: CUDA out of memory.")
    if "crowd=1" not in state and "hold=1" not in state:
        break
    time.sleep(0.02)
print(json.dumps({"metric": 1.0 + (json.loads((out / "weights.json").read_text())["rate"] - 0.3) ** 2}))
"""
STARTING_UP = """\
waits = "crowd=1"
while waits in (state := open(os.environ["LD_LIBRARY_PATH"] + "/state").read()) or "begin=1" in state:
    if "begin=1" in state:
        print("the first run", flush=True)
        waits = "begin=1"
    time.sleep(0.02)
"""
FEW = ("decide.baseline=2",)
WORDS = "CUDA does not start: cuInit: error 999 CUDA_ERROR_UNKNOWN (unknown error)"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FalseDriver:
    made = FalseDriver(tmp_path / "driver")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(made.folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return made


@pytest.mark.parametrize(
    ("how", "said"), [("fail", "unspecified launch failure"), ("quiet", "the run did not use its card")]
)
def test_a_broken_card_is_set_aside_and_its_run_goes_to_another(
    tmp_path: Path, driver: FalseDriver, how: str, said: str
) -> None:
    driver.say(f"cuda=999 only=0 {how}=gpu0")
    project = make_project(tmp_path / "p", train=ON_A_CARD)
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.3")])
    with engine(project, researcher="scripted", script=str(script), slots="gpu:0,1") as paths:
        state = wait_end(paths)
    assert state.state == "finished", state.reason
    assert state.experiments[1].verdict == "kept" and set(state.aside) == {"gpu0"} and WORDS in state.aside["gpu0"]
    failed, *others = state.experiments[0].runs
    assert failed.ended == "abandoned" and failed.slot == "gpu0" and f"gpu0 does not work: {WORDS}" in failed.reason
    counted = [run for run in others if "measured again" not in run.reason]  # on a busy machine
    assert said in failed.reason and {run.ended for run in counted} == {"done"}
    assert {run.slot for run in (*others, *state.experiments[1].runs)} == {"gpu1"}
    assert any(note.level == "warning" and "gpu0 set aside" in note.text for note in state.notes)


def test_without_a_card_that_works_the_session_pauses_and_goes_on_by_itself(
    tmp_path: Path, driver: FalseDriver
) -> None:
    driver.say("cuda=999 fail=gpu0")
    project = make_project(tmp_path / "p", train=ON_A_CARD)
    with engine(project, researcher="human", slots="gpu:0") as paths:
        state = wait_state(paths, lambda s: s.state == "paused", "the pause")
        assert "no slot is left" in state.reason and WORDS in state.reason and "hint: nvidia-smi" in state.reason
        driver.say("")
        state = wait_state(paths, lambda s: s.baseline is not None, "the baseline on the card that works again")
        assert state.state == "running" and not state.aside


@pytest.mark.slow
def test_a_card_with_errors_in_its_memory_is_set_aside_for_a_while(tmp_path: Path, driver: FalseDriver) -> None:
    driver.say("hold=1 ecc=1")
    project = make_project(tmp_path / "p", train=ON_A_CARD)
    with engine(project, researcher="human", slots="gpu:0") as paths:
        wait_state(paths, lambda s: any(r.phase == "training" for r in s.live_runs()), "the first run")
        driver.say("fail=gpu0 ecc=3")
        state = wait_state(paths, lambda s: s.state == "paused", "the pause")
        assert state.aside == {"gpu0": "2 uncorrected ECC errors in its memory"}
        driver.say("ecc=3")
        state = wait_state(paths, lambda s: s.baseline is not None, "the baseline")
        assert state.state == "running" and not state.aside


def test_the_words_of_a_run_are_no_excuse(tmp_path: Path, driver: FalseDriver) -> None:
    project = make_project(tmp_path / "p", train=ON_A_CARD)
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.4"), rate("0.5", "0.2")])
    with engine(project, researcher="scripted", script=str(script), slots="gpu:0") as paths:
        state = wait_end(paths)
    assert [state.experiments[n].verdict for n in (1, 2)] == ["crashed", "crashed"] and not state.aside
    assert [len(state.experiments[n].runs) for n in (1, 2)] == [1, 1]
    assert "gpu0 has 24.0 GB" in state.experiments[2].reason and "23.0 GB are free now" in state.experiments[2].reason


def test_a_change_that_breaks_each_card_counts_as_crashed_at_the_third(tmp_path: Path, driver: FalseDriver) -> None:
    driver.say("cuda=999")
    project = make_project(tmp_path / "p", train=ON_A_CARD)
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.4")])
    with engine(project, researcher="scripted", script=str(script), slots="gpu") as paths:
        state = wait_end(paths)
    x = state.experiments[1]
    assert x.verdict == "crashed" and [run.ended for run in x.runs] == ["abandoned", "abandoned", "crashed"]
    assert "this was so in 3 runs" in x.reason and len({run.slot for run in x.runs}) == 3 == len(state.aside)
    assert bodies(paths, e.SlotsChanged)[-1].slots == ("gpu0", "gpu1", "gpu2", "gpu3")


def scored_project(folder: Path) -> Path:
    more = {**SCORED_FILES, "score.py": SCORER}
    train = SCORED_TRAIN.replace("time.sleep(0.5)  # starting up\n", STARTING_UP)
    return make_project(folder, train=train, program=SCORED_PROGRAM, more=more)


@pytest.mark.slow
def test_runs_share_a_card_that_has_the_memory_for_them(tmp_path: Path, driver: FalseDriver) -> None:
    reads = "time.sleep(SECONDS)\nassert os.environ['AUTORESEARCH_GPU_MEMORY'] == str(10 * 2**30)\n"
    program = PROGRAM.replace("[budget]", '[slots]\ngpu_memory = "10 GB"\n[budget]')
    project = make_project(tmp_path / "p", train=TRAIN.replace("time.sleep(SECONDS)\n", reads), program=program)
    with engine(project, researcher="human", slots="gpu:0,1") as paths:
        state = wait_state(paths, lambda s: s.baseline is not None, "the baseline")
        assert state.slots == ("gpu0.0", "gpu0.1", "gpu1.0", "gpu1.1")
        assert {run.slot for run in state.experiments[0].runs} == {"gpu0.0", "gpu0.1", "gpu1.0"}
        assert "runs go to gpu1.0 gpu1.1" in accepted(paths, c.ChangeSlots("gpu:1"))
        assert "already" in refused(paths, c.ChangeSlots("gpu1.0"))


@pytest.mark.slow
def test_two_sessions_do_not_take_the_same_card(tmp_path: Path, driver: FalseDriver) -> None:
    driver.say("count=2")
    projects = [make_project(tmp_path / name, train=ON_A_CARD) for name in ("a", "b", "c")]
    with engine(projects[1], researcher="human") as other:
        assert read_state(other).slots == ("gpu0", "gpu1")
        accepted(other, c.ChangeSlots("gpu:1"))
        wait_state(other, lambda s: s.baseline is not None and not s.live_runs(), "the end of what ran on gpu0")
        with engine(projects[0], researcher="human") as paths:
            state = read_state(paths)
            said = f"gpu1 is left out: session s in {projects[1]} (pid {lock_holder(other)}) uses it"
            assert state.slots == ("gpu0",) and state.engine is not None and said in state.engine.conditions
            assert "Simulated" in state.engine.device and "2 ×" not in state.engine.device
            assert "gpu1 is used by session s" in refused(paths, c.ChangeSlots("gpu:1"))
            with pytest.raises(CardsTaken, match=r"gpu0 is used by session s in .*; gpu1 is used by") as caught:
                start_engine(SessionPaths(projects[2], "s"), EngineOptions(researcher="human"))
            assert caught.value.hint == "wait for its end, or use another: --slots cpu:2"
            kill_engine(other)
            assert accepted(paths, c.ChangeSlots("gpu:0,1")) == "runs go to gpu0 gpu1"


@pytest.mark.slow
def test_a_scoring_that_fails_is_repeated_on_a_quiet_card(tmp_path: Path, driver: FalseDriver) -> None:
    driver.say("begin=1")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.4")])
    project = scored_project(tmp_path / "p")
    with engine(project, researcher="scripted", script=str(script), slots="gpu:0", overrides=FEW) as paths:
        output = paths.run(1) / "output.log"
        wait_for(lambda: output.exists() and "the first run" in output.read_text(), "the start of the first run")
        driver.say("crowd=1")
        wait_state(paths, lambda s: bodies(paths, e.RunFinished), "the end of the run that gave way")
        driver.say("crowd=2")
        state = wait_end(paths)
    assert state.state == "finished" and state.experiments[1].verdict == "kept", state.reason
    runs = [run for x in state.experiments.values() for run in x.runs]
    gave_way = [run for run in runs if run.ended == "abandoned"]
    assert gave_way and all("made room for a scoring" in run.reason and run.seconds == 0 for run in gave_way)
    assert {run.ended for run in runs if run not in gave_way} == {"done"}


@pytest.mark.slow
def test_a_scorer_without_memory_on_its_card_pauses_the_session_and_is_no_verdict(
    tmp_path: Path, driver: FalseDriver
) -> None:
    driver.say("score=gpu0 free=1")
    with engine(scored_project(tmp_path / "p"), researcher="human", slots="gpu:0", overrides=FEW) as paths:
        state = wait_state(paths, lambda s: s.state == "paused", "the pause")
        assert "other programs use 23.0 of the 24.0 GB of its memory" in state.reason
        assert state.baseline is None and not state.verdicts
        driver.say("")
        wait_state(paths, lambda s: s.baseline is not None, "the baseline")


@pytest.mark.slow
def test_a_card_that_breaks_while_scoring_is_set_aside(tmp_path: Path, driver: FalseDriver) -> None:
    driver.say("hold=1")
    with engine(scored_project(tmp_path / "p"), researcher="human", slots="gpu:1,2", overrides=FEW) as paths:
        wait_state(paths, lambda s: any(r.phase == "scoring" for r in s.live_runs()), "the first scoring")
        driver.say("score=gpu1 lost=1")
        state = wait_state(paths, lambda s: s.aside, "a slot set aside")
        assert set(state.aside) == {"gpu1"} and "GPU is lost" in state.aside["gpu1"]
        assert "no slot set aside works: gpu1: the driver says: GPU is lost" in refused(paths, c.Resume())
        driver.say("lost=1")
        wait_state(paths, lambda s: s.baseline is not None, "the baseline on the other card")


@pytest.mark.parametrize(
    ("shares", "suspected"), [((0.0, 0.0), True), ((0.0, 0.5), False), ((0.0,), False), ((None, None), False)]
)
def test_a_run_that_left_its_card_idle_is_suspected(shares: tuple[float | None, ...], suspected: bool) -> None:
    done = e.RunFinished(run=1, experiment=1, ended="done", metric=None, seconds=9, wall_seconds=9, exit_code=0)
    readings = [DeviceReading(name="gpu0", label="", utilisation=share) for share in shares]
    assert suspects_card(done, "step 1 on cuda:0", readings) is suspected
