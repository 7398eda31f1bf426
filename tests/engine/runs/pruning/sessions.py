"""A project of short runs that say what they like of their loss, and its sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.client import read_events
from core.record import events as e
from core.record.events import Event
from core.record.state import State
from core.stats import prune
from tests.engine.support import engine, wait_end
from tests.projects import SCORED_FILES, SCORED_PROGRAM, make_project, write_script

# What a run prints of its loss, when it prints it, and what it is scored by are its own to say.
TRAIN = '''\
"""A run of 40 steps that prints its loss, and leaves a file to be scored."""
import json
import os
import socket
import time

RATE = 0.5  # best at 0.3
SHOWN = 0.0  # added to the loss that is printed
GAIN = 0.0  # of the result, whatever the curve says
AHEAD = 0  # steps that it claims to be ahead
WAY = 1  # -1: its steps go backward
EVERY = 1  # one step in so many is shown


seed = int(os.environ["AUTORESEARCH_SEED"])


def printed(step):
    return 4 - 2 * step / 40 + abs(RATE - 0.3) + SHOWN + (seed * 7919 % 101 - 50) * 1e-4


link = socket.socket(fileno=int(os.environ["AUTORESEARCH_CONTROL_FD"]))
link.send(json.dumps({"type": "ready", "params": 1}).encode())
answer, fds, _, _ = socket.recv_fds(link, 65536, 8)
for step in range(1, 41):
    time.sleep(0.05)
    if step % EVERY == 0:
        print(f"step {AHEAD + (step if WAY > 0 else 41 - step):05d} | loss {printed(step)}", flush=True)
link.send(json.dumps({"type": "done", "steps": 40, "tokens": 40}).encode())
noise = (seed % 101 - 50) * 4e-5
with open(os.path.join(os.environ["AUTORESEARCH_RUN_DIR"], "weights.json"), "w") as file:
    json.dump({"metric": 1 + (RATE - 0.3) ** 2 + noise - GAIN}, file)
'''
FILES = {
    **SCORED_FILES,
    "score.py": """\
import json, os, pathlib
saved = json.loads(pathlib.Path(os.environ["AUTORESEARCH_RUN_DIR"], "weights.json").read_text())
print(json.dumps({"metric": saved["metric"]}))
""",
}
MORE = """run = "40 steps"
[decide]
repeats = 0
refresh = 0
quarantine = 1000
[prune]
audit = 1000
"""
PROGRAM = SCORED_PROGRAM.replace('name = "loss"', 'name = "bpb"').replace('run = "10s"\n', MORE)


def change(**constants: object) -> dict[str, Any]:
    """A proposal that sets constants, on whatever code it is made from."""
    edits = [
        {"path": "train.py", "search": f"\n{name} = ", "replace": f"\n{name} = {value}  # was "}
        for name, value in constants.items()
    ]
    return {"hypothesis": f"set {constants}", "kind": "other", "edits": edits}


# Enough ends to learn from, none of them better than the baseline by more than chance. The worst come first: those that
# run when something is known are not far behind.
USUAL = [change(RATE=0.5 + n / 500) for n in range(prune.MIN_FINISHED + 2, 1, -1)]  # one may still run
HOPELESS = change(RATE=0.95)
# The same on whatever they are made from, whose curve they keep: none of them is better than the baseline or the best.
CHILDREN = [change(GAIN=-n / 1000) for n in range(len(USUAL), 0, -1)]


def session(
    folder: Path, proposals: list[dict[str, Any]], *overrides: str, **options: Any
) -> tuple[State, list[e.RunFinished], list[Event]]:
    """A session to its end: its State, how its runs ended, and its log."""
    project = folder / "p"
    if not project.exists():
        make_project(project, train=TRAIN, program=PROGRAM, more=FILES)
    script = write_script(folder / "s.jsonl", proposals)
    given = {"researcher": "scripted", "script": str(script), "slots": "cpu:2", **options}
    with engine(project, overrides=overrides, **given) as paths:
        state = wait_end(paths)
        events = list(read_events(paths))
    assert state.state == "finished", state.reason
    return state, [event.body for event in events if isinstance(event.body, e.RunFinished)], events
