"""Recording of the demo: a session of nanotrain on the CPU, run by the product itself, packed into tui/replay/demo.

    python -m benchmarks.record_demo [STEPS_A_RUN] [FOLDER]      (make demo: about ten minutes)

The code starts from settings worse than nanotrain's own, so that ten minutes bring improvements. The proposals are
written below; their results are measured, with a step budget, so that a busy machine gives the same. Nothing is edited
afterwards but the recorder's own paths.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from core.client import follow, read_state, start_engine
from core.session.options import EngineOptions
from core.session.paths import SessionPaths
from core.views import sentence
from tui.replay.demo import ARCHIVE, NAME, PROJECT

ROOT = Path(__file__).resolve().parents[1]
TRAIN = "nanotrain/train.py"
WORSE = (
    ("MATRIX_LR_CPU = 0.04 ", "MATRIX_LR_CPU = 0.01 "),
    ("WARMDOWN_CPU = 0.4 ", "WARMDOWN_CPU = 0.05"),
    ("EMBED_LR_CPU = 0.6 ", "EMBED_LR_CPU = 0.1 "),
    ("HEAD_LR_CPU = 0.02 ", "HEAD_LR_CPU = 0.002"),
)
MAX_OUTPUT_BYTES = 60_000  # of a run's output that are packed


def idea(hypothesis: str, thinking: str, kind: str, expected: float, *edits: tuple[str, str]) -> dict[str, Any]:
    changes = [{"path": TRAIN, "search": old, "replace": new} for old, new in edits]
    return {
        "hypothesis": hypothesis, "rationale": thinking.split("\n")[0], "thinking": thinking, "kind": kind,
        "expected": expected, "edits": changes, "seconds": max(4.0, len(thinking) / 90),
    }  # fmt: skip


PROPOSALS = (
    idea(
        "Cool down over the last 40% of the run: the rate is still at its peak when it ends",
        "The loss falls until the last step, and then stops where the noise of a full learning rate leaves it.\n"
        "A linear warm-down usually buys more than its share of the steps costs. 5% is hardly any; 40% is what most "
        "short schedules settle on. I change this and nothing else, so that whatever it shows is due to it.\n"
        "Hypothesis: WARMDOWN 0.05 to 0.4; expect −0.05.",
        "schedule", -0.05, ("WARMDOWN_CPU = 0.05", "WARMDOWN_CPU = 0.4 "),
    ),
    idea(
        "Double Muon's step size: the update has unit spectral norm, and 0.01 of it moves too slowly",
        "Each matrix moves by its rate at every step, whatever the gradient's size. With 150 steps and a rate of "
        "0.01 a matrix of norm one is hardly turned over once.\nTwice that should still be stable: the blocks are "
        "normed on both sides.\nHypothesis: MATRIX_LR 0.01 to 0.02; expect −0.03.",
        "optimizer", -0.03, ("MATRIX_LR_CPU = 0.01 ", "MATRIX_LR_CPU = 0.02 "),
    ),
    idea(
        "Mix the next token's embedding into the stream: the model then sees where it is going",
        "The largest gain left is information. The embedding of the following token is there in the row, one place "
        "to the right; adding it to the stream costs nothing.\nWhether this is allowed, the scorer will say. It "
        "feels too good.\nHypothesis: the loss collapses.",
        "architecture", -1.0,
        ("x = x0 = norm(self.embed(tokens))",
         "x = x0 = norm(self.embed(tokens) + self.embed(tokens.roll(-1, 1)))"),
    ),
    idea(
        "Embeddings learn six times faster: rare tokens see few steps and need large ones",
        "AdamW's rate for the embeddings is 0.1. A token that occurs every thousand tokens is updated twice a step, "
        "a rare one hardly ever, and all rows share one rate.\nHypothesis: EMBED_LR 0.1 to 0.6; expect −0.08.",
        "optimizer", -0.08, ("EMBED_LR_CPU = 0.1 ", "EMBED_LR_CPU = 0.6 "),
    ),
    idea(
        "A thousand times the step size of gates and scalars: if slow is bad, fast must be good",
        "A bold one, to see where the edge is: rate 20. I expect it to diverge; then the bound above is known.",
        "optimizer", 0.0, ("SCALAR_LR = 0.02 ", "SCALAR_LR = 20.0 "),
    ),
    idea(
        "The head ten times faster: it has to find the unigram distribution before anything else",
        "The head starts at nearly nothing. Its rate decides how many steps go by before the first thing there is "
        "to learn, how often each token occurs, is learnt: the first forty steps of every curve are just that.\n"
        "Hypothesis: HEAD_LR 0.002 to 0.02; expect −0.1.",
        "optimizer", -0.1, ("HEAD_LR_CPU = 0.002", "HEAD_LR_CPU = 0.02 "),
    ),
    idea(
        "Muon at 0.04: the step up to 0.02 should not have been the last",
        "Between 0.01 and 0.02 the curve only gained. The optimum lies further up, and the last run shows no sign "
        "of unrest.\nHypothesis: MATRIX_LR to 0.04; expect −0.02.",
        "optimizer", -0.02, ("MATRIX_LR_CPU = 0.02 ", "MATRIX_LR_CPU = 0.04 "),
    ),
    idea(
        "Name the width of the MLP after what it is",
        "A slip of mine, as it turned out: the name is used below.",
        "simplification", 0.0, ("MLP_RATIO = 4 ", "MLP_WIDTHS = 4"),
    ),
    idea(
        "GELU in place of the squared ReLU: smoother gradients early in training",
        "The squared ReLU is cheap and sparse. At this size the difference is within the noise more often than "
        "outside it.\nHypothesis: no gain; worth knowing.",
        "architecture", 0.0,
        ("result: torch.Tensor = self.c_proj(F.relu(self.c_fc(x)).square())",
         "result: torch.Tensor = self.c_proj(F.gelu(self.c_fc(x)))"),
    ),
    idea(
        "Depth 3 at the same width: steps are counted here, not seconds",
        "Two blocks of 64 channels are little. A third costs half as much time again, which this budget of steps "
        "does not count; in one of seconds I would expect the opposite.\nHypothesis: DEPTH 2 to 3; expect −0.01.",
        "architecture", -0.01, ("DEPTH_CPU = 2 ", "DEPTH_CPU = 3 "),
    ),
    idea(
        "Clip the gradient at 1: the spikes of the first steps throw the second moments off",
        "Clipping costs a norm a step. Muon's updates are normed as they are, so only the embeddings and the head "
        "can gain from it.\nHypothesis: GRAD_CLIP 0 to 1; expect nothing, which would be good to know.",
        "optimizer", 0.0, ("GRAD_CLIP = 0.0 ", "GRAD_CLIP = 1.0 "),
    ),
    idea(
        "Without value embeddings: fewer parameters, a simpler block",
        "They are a third of all parameters. If they do not pay within 150 steps, the code is better off without.\n"
        "Hypothesis: worse by about 0.02; an ablation.",
        "simplification", 0.02, ("VALUE_EMBED_EVERY_CPU = 1 ", "VALUE_EMBED_EVERY_CPU = 0 "),
    ),
    idea(
        "Warm up over the first tenth: with these rates the first steps go too far",
        "All rates have grown since the baseline. The first ten steps of the best run rise before they fall.\n"
        "Hypothesis: WARMUP 0 to 0.1; expect −0.005.",
        "schedule", -0.005, ("WARMUP = 0.0  ", "WARMUP = 0.1  "),
    ),
)  # fmt: skip


def prepare(folder: Path, steps: int) -> SessionPaths:
    """A clone of this repository with the worse settings committed, and the script beside it."""
    project = folder / PROJECT
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{ROOT}", str(project)], check=True)
    train = project / TRAIN
    text = train.read_text()
    for old, new in WORSE:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    train.write_text(text)
    identity = ["-c", "user.name=demo", "-c", "user.email=demo@localhost"]
    subprocess.run(["git", *identity, "commit", "-qam", "Settings to begin with"], cwd=project, check=True)
    script = "".join(json.dumps(p, ensure_ascii=False) + "\n" for p in PROPOSALS)
    (folder / "script.jsonl").write_text(script, encoding="utf-8")
    paths = SessionPaths(project, NAME)
    options = EngineOptions(
        researcher="scripted", script=str(folder / "script.jsonl"), slots="cpu:2", seed=7, run_budget=f"{steps}steps"
    )
    start_engine(paths, options)
    return paths


def pack(paths: SessionPaths, target: Path) -> int:
    """The session's log and the files that a replay shows. Returns the archive's bytes."""
    recorder = str(paths.project.parent)
    with tempfile.TemporaryDirectory() as holder:
        copy = Path(holder) / "session.db"
        source = sqlite3.connect(paths.database)
        source.execute("VACUUM INTO ?", (str(copy),))
        source.close()
        db = sqlite3.connect(copy)
        for table in ("events", "experiments", "head"):
            db.execute(f"UPDATE {table} SET body = replace(body, ?, '~')", (recorder,))
        db.commit()
        db.execute("VACUUM")
        db.close()
        files = {"session.db": copy.read_bytes(), "program.md": paths.program.read_bytes()}
        for name in ("reasoning/*.jsonl", "runs/*/output.log", "runs/*/curve.tsv"):
            for path in paths.folder.glob(name):
                data = path.read_bytes()[:MAX_OUTPUT_BYTES].replace(recorder.encode(), b"~")
                files[path.relative_to(paths.folder).as_posix()] = data
        target.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(target, "w:xz", preset=9) as archive:
            for name, data in sorted(files.items()):
                info = tarfile.TarInfo(f"{PROJECT}/sessions/{NAME}/{name}")
                info.size, info.mode = len(data), 0o644
                archive.addfile(info, io.BytesIO(data))
    return target.stat().st_size


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 150
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="demo-", dir="/tmp"))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["AUTORESEARCH_HOME"] = str(folder / "state")
    paths = prepare(folder, steps)
    for event in follow(paths, 0):
        if said := sentence(event):
            print(said, flush=True)
    state = read_state(paths)
    size = pack(paths, ARCHIVE)
    print(f"\n{state.total} experiments, {dict(state.verdicts)}: {size / 1000:.0f} kB in {ARCHIVE}")
    shutil.rmtree(folder / PROJECT / "sessions" / NAME / "worktrees", ignore_errors=True)


if __name__ == "__main__":
    main()
