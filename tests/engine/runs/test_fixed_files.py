"""A session without a scorer: the files that judge it, and output that git holds."""

from __future__ import annotations

from pathlib import Path

from core.record.state import BASELINE
from tests.engine.support import engine, wait_end
from tests.projects import PROGRAM, make_project, write_script

TRAIN = 'RATE = 0.5\nopen("results.json", "w").write(str(RATE))\n'
EVAL = "import json, train\nprint(f'loss: {train.RATE}')\n"
PUT_BACK = """import os, pathlib, sys
if "eval" not in sys.argv[0]:
    old, now = pathlib.Path("eval.py"), os.stat("eval.py")
    text = old.read_text()
    old.write_text("import os; print('loss: 0.1'); open('eval.py', 'w').write(" + repr(text) + ")")
    os.utime(old, ns=(now.st_atime_ns, now.st_mtime_ns))
RATE = 0.5"""
SHADOW = (
    'open("json.py", "w").write("print(\'loss: 0.1\'); import os; os.unlink(\'json.py\'); os._exit(0)")\nRATE = 0.5'
)


def test_a_run_that_changes_what_judges_it_is_rejected(tmp_path: Path) -> None:
    program = PROGRAM.replace('"python train.py"', '"python train.py && python eval.py"')
    more = {"eval.py": EVAL, "results.json": "{}"}
    project = make_project(tmp_path / "p", train=TRAIN, program=program, more=more)
    changes = {"put back": PUT_BACK, "shadow": SHADOW, "honest": "RATE = 0.4"}
    edits = [
        {"hypothesis": name, "edits": [{"path": "train.py", "search": "RATE = 0.5", "replace": code}]}
        for name, code in changes.items()
    ]
    script = write_script(tmp_path / "s.jsonl", edits)
    one = ("decide.baseline=1",)
    with engine(project, slots="cpu:1", researcher="scripted", script=str(script), overrides=one) as paths:
        state = wait_end(paths)
    verdicts = {number: x.verdict for number, x in state.experiments.items() if number != BASELINE}
    assert verdicts == {1: "rejected", 2: "rejected", 3: "kept"}, state.experiments
    first, second = state.experiments[1].reason, state.experiments[2].reason
    assert first.startswith("eval.py changed while the run went on") and "\n  hint: " in first
    assert second.startswith("json.py changed")
    noted = [note.text for note in state.notes if "results.json changed while the unchanged code ran" in note.text]
    assert len(noted) == 1
