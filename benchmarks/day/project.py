"""The project of a day: one-second runs, scored by processes that are forked from the harness's template."""

from __future__ import annotations

import os
import random
import sys
import venv
from pathlib import Path

from tests.projects import SCORED_FILES, SCORED_PROGRAM, SCORED_TRAIN, make_project, write_script

PRODUCT = Path(__file__).resolve().parents[2]
BETTER_SHARE = 0.05  # of the proposals
# It has the name of nanotrain's scorer, since only that is lent the template, and starts models as that does.
SCORER = '''\
"""Scores a run by a process that is forked from the harness's template, or started in the sandbox without it."""
import json, os, signal, subprocess, sys
from pathlib import Path

from nanotrain.isolation.forked_process import Template, TemplateLost

MODEL = """
import json, os, time
time.sleep(0.05)
print(json.load(open(os.path.join(os.read(0, 4096).decode(), "weights.json")))["rate"])
"""


def forked(template, run):
    """What the model printed; None where the template was lost."""
    asked, ask = os.pipe()
    os.write(ask, run.encode())
    os.close(ask)
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    try:
        process = template.start(MODEL, env, None, asked)
    except TemplateLost as lost:
        return print(f"not forked: {lost}")
    finally:
        os.close(asked)
    said, code = process.stdout.read(), process.wait()
    process.close()
    if code == -signal.SIGKILL and template.has_ended():
        return print("the template was lost")
    return said if code == 0 else sys.exit(f"the model ended with {code}: {process.stderr.read()!r}")


def started(run):
    command = [*json.loads(os.environ["AUTORESEARCH_CAGE"]), sys.executable, "-P", "-B", "-c", MODEL]
    done = subprocess.run(command, input=run.encode(), capture_output=True, start_new_session=True)
    return done.stdout if done.returncode == 0 else sys.exit(f"the model ended with {done.returncode}: {done.stderr!r}")


run, template = os.environ["AUTORESEARCH_RUN_DIR"], Template.lent()
rate = float((template and forked(template, run)) or started(run))
print(json.dumps({"metric": 1.0 + (rate - 0.3) ** 2, "probes": {"rate": {"ok": True}}}))
'''


def light_python(folder: Path) -> None:
    """Make `python` one without torch: what the template loads is empty, since the real one takes it two seconds."""
    venv.create(folder, symlinks=True)
    packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    for name in ("torch/__init__.py", "safetensors/__init__.py", "safetensors/torch.py"):
        (packages / name).parent.mkdir(exist_ok=True)
        (packages / name).touch()
    os.environ |= {"VIRTUAL_ENV": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def day_project(folder: Path, proposals: int, seed: int) -> tuple[Path, Path]:
    """(project, script of proposals): runs take a second, one proposal in twenty is better than all before."""
    package = folder / "nanotrain"
    (package / "isolation").mkdir(parents=True)
    for name in ("__init__.py", "isolation/__init__.py", "isolation/forked_process.py"):
        (package / name).write_text((PRODUCT / "nanotrain" / name).read_text())
    (package / "score.py").write_text(SCORER)
    program = SCORED_PROGRAM.replace("python score.py", "python -m nanotrain.score")
    train = SCORED_TRAIN.replace("time.sleep(0.5)  # starting up", "time.sleep(0.1)  # starting up")
    train = train.replace("SECONDS = 0.2", "SECONDS = 0.8")
    files = {"prepare.py": SCORED_FILES["prepare.py"]}
    project = make_project(folder, program=program, train=train, more=files)
    draw, rate, lines = random.Random(seed), 0.5, []
    for number in range(1, proposals + 1):
        better = draw.random() < BETTER_SHARE
        rate = rate - 0.0004 if better else rate
        text = train.replace("RATE = 0.5", f"RATE = {rate if better else 0.6 + 0.3 * draw.random():.5f}")
        edit = {"path": "train.py", "content": f"{text}# change {number}\n"}
        lines.append({"hypothesis": f"change {number} lowers the loss", "kind": "other", "edits": [edit]})
    return project, write_script(folder.parent / f"{folder.name}.jsonl", lines)
