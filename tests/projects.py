"""Small real projects for tests: a git repository with a train.py whose runs take a fraction of a second."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TRAIN = '''\
"""A run that ends at once: the metric is a plain function of the constants."""
import os
import time

RATE = 0.5  # best at 0.3
SECONDS = 0.05  # how long to take

time.sleep(SECONDS)
noise = (int(os.environ.get("AUTORESEARCH_SEED", "0")) % 7001 - 3500) * 1e-7
for step in range(3):
    print(f"step {step:05d} | loss {2.0 - 0.1 * step:.4f}", flush=True)
print(f"loss: {1.0 + (RATE - 0.3) ** 2 + noise:.6f}")
'''

# A train.py that prints its loss and never ends.
ENDLESS = 'import time\nprint("loss: 0.5", flush=True)\nwhile True:\n    time.sleep(0.1)\n'
PROGRAM = """\
+++
edit = ["train.py"]
run = "python train.py"
[metric]
name = "loss"
direction = "min"
pattern = '^loss:\\s*(\\S+)'
[budget]
run = "10s"
+++
# A test
Make RATE better.
"""


IDENTITY = ("-c", "user.name=someone", "-c", "user.email=someone@localhost", "-c", "init.defaultBranch=main",
            "-c", "commit.gpgsign=false", "-c", "maintenance.auto=false")  # fmt: skip


def git(folder: Path, *words: str, **env: str) -> str:
    """Run git in `folder` as somebody, with `env` beside what there is, and return what it printed."""
    done = subprocess.run(
        ["git", *IDENTITY, *words], cwd=folder, capture_output=True, text=True, env={**os.environ, **env}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_project(
    folder: Path, *, train: str = TRAIN, program: str = PROGRAM, more: Mapping[str, str] | None = None
) -> Path:
    """A committed project in `folder`; `more` files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (more or {}).items():
        (folder / name).write_text(text)
    (folder / "train.py").write_text(train)
    (folder / "program.md").write_text(program)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def rate(old: str, new: str, **more: Any) -> dict[str, Any]:
    """A proposal that changes RATE, as a line of a script."""
    edits = [{"path": "train.py", "search": f"RATE = {old}", "replace": f"RATE = {new}"}]
    return {"hypothesis": f"RATE {old} to {new} lowers the loss", "kind": "optimizer", "edits": edits, **more}


def write_script(path: Path, proposals: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(dict(p)) + "\n" for p in proposals))
    return path


def own_home(folder: Path) -> dict[str, str]:
    """The environment of a person with a home of their own and no keys."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ANTHROPIC", "OPENAI", "AUTORESEARCH"))}
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    return {**env, "HOME": str(home), "AUTORESEARCH_HOME": str(home / "state"), "TERM": "xterm-256color"}


SCORED_TRAIN = '''\
"""A run that starts up for a while, asks for its data, trains, and leaves a file to be scored."""
import json
import os
import socket
import time

RATE = 0.5  # best at 0.3
SECONDS = 0.2  # of training

time.sleep(0.5)  # starting up
link = socket.socket(fileno=int(os.environ["AUTORESEARCH_CONTROL_FD"]))
link.send(json.dumps({"type": "ready", "params": 1}).encode())
answer, fds, _, _ = socket.recv_fds(link, 65536, 8)
text = os.read(fds[0], 1000).decode()
time.sleep(SECONDS)
print(f"step 00001 | loss {len(text)}", flush=True)
link.send(json.dumps({"type": "done", "steps": 1, "tokens": len(text)}).encode())
with open(os.path.join(os.environ["AUTORESEARCH_RUN_DIR"], "weights.json"), "w") as file:
    json.dump({"rate": RATE}, file)
'''
SCORED_FILES = {
    "prepare.py": """\
import json, pathlib
data = pathlib.Path("data.txt").resolve()
data.write_text("training text")
print("laying out data")
print(json.dumps({"train": {"data.txt": str(data)}, "info": {"size": 13}}))
""",
    "score.py": """\
import json, os, pathlib, time
time.sleep(0.5)
rate = json.loads(pathlib.Path(os.environ["AUTORESEARCH_RUN_DIR"], "weights.json").read_text())["rate"]
if rate > 1:
    print(json.dumps({"rejected": "the rate is out of this world", "probes": {"rate": {"ok": False}}}))
else:
    print(json.dumps({"metric": 1.0 + (rate - 0.3) ** 2, "probes": {"rate": {"ok": True}}}))
""",
}
SCORED_PROGRAM = """\
+++
edit = ["train.py"]
run = "python train.py"
prepare = "python prepare.py"
score = "python score.py"
[metric]
name = "loss"
[budget]
run = "10s"
+++
# A test with a scorer
"""


def make_scored_project(folder: Path) -> Path:
    """A committed project whose metric a scorer computes, and whose runs get their data over the control channel."""
    return make_project(folder, train=SCORED_TRAIN, program=SCORED_PROGRAM, more=SCORED_FILES)
