"""A run that is hopelessly behind is stopped, one that is audited goes on, and neither is ever kept by that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core import views
from core.engine.runs.run_key import RunKey
from core.record import events as e
from core.record.state import State
from core.stats import prune
from tests.engine.support import bodies, engine, wait_end
from tests.projects import SCORED_FILES, make_project, rate, write_script

STEPS = 40
# The loss at a share of the schedule, and what is printed of it, are the run's own to say.
TRAIN = '''\
"""A run of 40 steps that prints its loss, and leaves a file to be scored."""
import json
import os
import socket
import time

RATE = 0.5  # best at 0.3
SHOWN = 0.0  # added to the loss that is printed


def printed(step):
    return 4 - 2 * step / 40 + abs(RATE - 0.3) + SHOWN


link = socket.socket(fileno=int(os.environ["AUTORESEARCH_CONTROL_FD"]))
link.send(json.dumps({"type": "ready", "params": 1}).encode())
answer, fds, _, _ = socket.recv_fds(link, 65536, 8)
for step in range(1, 41):
    time.sleep(0.05)
    print(f"step {step:05d} | loss {printed(step):.4f}", flush=True)
link.send(json.dumps({"type": "done", "steps": 40, "tokens": 40}).encode())
noise = (int(os.environ["AUTORESEARCH_SEED"]) % 101 - 50) * 4e-5
with open(os.path.join(os.environ["AUTORESEARCH_RUN_DIR"], "weights.json"), "w") as file:
    json.dump({"metric": 1 + (RATE - 0.3) ** 2 + noise}, file)
'''
FILES = {
    **SCORED_FILES,
    "score.py": """\
import json, os, pathlib
saved = json.loads(pathlib.Path(os.environ["AUTORESEARCH_RUN_DIR"], "weights.json").read_text())
print(json.dumps({"metric": saved["metric"]}))
""",
}
PROGRAM = """\
+++
edit = ["train.py"]
run = "python train.py"
prepare = "python prepare.py"
score = "python score.py"
[metric]
name = "bpb"
[budget]
run = "40 steps"
[decide]
repeats = 0
refresh = 0
[prune]
audit = 1000
+++
# A test
"""
# Enough ends to learn from: a little worse each, so that the baseline stays the best.
USUAL = [rate("0.5", f"0.5{n:02}") for n in range(2, 3 + prune.MIN_FINISHED)]  # one may still run
HOPELESS = rate("0.5", "0.95")


def _shown(by: float, **more: Any) -> dict[str, Any]:
    """A proposal that changes what is printed only."""
    edits = [{"path": "train.py", "search": "SHOWN = 0.0", "replace": f"SHOWN = {by}"}]
    return {"hypothesis": f"what is shown, by {by}", "kind": "other", "edits": edits, **more}


def _session(folder: Path, proposals: list[dict[str, Any]], *overrides: str) -> tuple[State, list[e.RunFinished]]:
    project = make_project(folder / "p", train=TRAIN, program=PROGRAM, more=FILES)
    script = write_script(folder / "s.jsonl", proposals)
    options: dict[str, Any] = {"researcher": "scripted", "script": str(script), "slots": "cpu:2"}
    with engine(project, **options, overrides=overrides) as paths:
        state = wait_end(paths)
        ends = bodies(paths, e.RunFinished)
    assert state.state == "finished", state.reason
    return state, ends


def test_a_hopeless_run_is_stopped_and_has_no_number(tmp_path: Path) -> None:
    state, ends = _session(tmp_path, [*USUAL, HOPELESS, rate("0.5", "0.3")])
    last = state.experiments[len(USUAL) + 1]
    assert last.verdict == "pruned" and last.metric is None and last.values == (), last
    assert "stopped early at" in last.reason and "above that of the baseline" in last.reason
    (end,) = [end for end in ends if end.experiment == last.number]
    assert end.ended == "killed" and end.stopped_at and 0.3 < end.stopped_at < 0.95 and not end.audit
    assert end.saved > 0 and end.metric is None
    assert (state.stopped_early, state.audited) == (1, 0) and state.saved_seconds == end.saved
    assert state.verdicts["pruned"] == 1
    found = views.status(state, False, state.time)["device"]["saved"]
    assert found["stopped"] == 1 and 0 < found["share"] < 0.5 and found["believed"]
    assert "0 of 0 audited were wrong" in views.device_use(state, state.time).stops()
    # A good one is not stopped, and leads.
    assert state.best == len(USUAL) + 2


def test_an_audited_run_goes_to_its_end_and_is_judged_by_its_number(tmp_path: Path) -> None:
    state, ends = _session(tmp_path, [*USUAL, HOPELESS], "prune.audit=1")
    last = state.experiments[len(USUAL) + 1]
    assert last.verdict == "discarded" and last.metric is not None
    (end,) = [end for end in ends if end.experiment == last.number]
    assert end.ended == "done" and end.audit and end.stopped_at and end.saved == 0
    assert (state.stopped_early, state.audited, state.audits_wrong) == (0, 1, 0)


def test_switched_off_nothing_is_stopped(tmp_path: Path) -> None:
    state, _ = _session(tmp_path, [*USUAL, HOPELESS], "prune.on=false")
    assert state.experiments[len(USUAL) + 1].verdict == "discarded" and state.stopped_early == state.audited == 0


def test_no_run_can_tell_whether_it_is_audited(tmp_path: Path) -> None:
    key = RunKey("s", 1)
    chosen = [run for run in range(1, 4001) if key.audits(run, 20)]
    assert 140 < len(chosen) < 270
    assert chosen == [run for run in range(1, 4001) if RunKey("s", 1).audits(run, 20)], "also after a resume"
    assert chosen != [run for run in range(1, 4001) if RunKey("t", 1).audits(run, 20)]
