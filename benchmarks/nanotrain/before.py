"""nanotrain of two commits side by side: time of a step, share of the processor's peak, and val_bpb at equal time.

    python -m benchmarks before [OLD] [NEW] [--seconds 20] [--seeds 4]

OLD and NEW are commits: HEAD, and the one before its last change of the training code, unless given. Each is unpacked,
and runs in turn with each seed, in a process and on a thread of its own. The budget is in seconds of that process's own
processor time, so that other processes hardly matter. The peak is that of the float32 product of two matrices of 1024,
measured after each run in the same process.
ONEDNN_MAX_CPU_ISA=AVX512_CORE before the command imitates a processor without bfloat16.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.screen.terminal import table

TOP = Path(__file__).parents[2]
# In the unpacked commit: its own trainer, data and measure.
CHILD = """
import json, sys, time, torch
from benchmarks.nanotrain.vs_karpathy import Comparison
from nanotrain.device.counts import operations_per_token
bench = Comparison()
found = bench.ours(float(sys.argv[1]), int(sys.argv[2]))
trainer = bench.trainer()
x = torch.ones(1024, 1024)
times = []
for _ in range(20):
    begun = time.process_time()
    x @ x
    times.append(time.process_time() - begun)
operations = operations_per_token(trainer.model, trainer.config)
print(json.dumps({
    "bpb": found.bpb, "steps": found.steps, "ms": 1e3 * trainer.tokens_per_step / found.tokens_a_second,
    "share": operations * found.tokens_a_second * min(times) / 2 / 1024**3, "dtype": str(bench.machine.dtype)[6:],
}))
"""


def before_the_last_change() -> str:
    """The parent of the last commit that changed the training code."""
    command = ["git", "log", "-1", "--format=%h", "--", "nanotrain/train.py", "nanotrain/device/machine.py"]
    return subprocess.run(command, cwd=TOP, check=True, stdout=subprocess.PIPE, text=True).stdout.strip() + "~1"


def unpack(commit: str, folder: Path) -> Path:
    """The files of a commit in a new folder."""
    folder.mkdir()
    packed = subprocess.run(["git", "archive", commit], cwd=TOP, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed, check=True)
    return folder


def run(tree: Path, seconds: float, seed: int) -> dict[str, Any]:
    """One run of the code in `tree`."""
    env = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(seconds), str(seed)]
    printed = subprocess.run(command, cwd=tree, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(printed.splitlines()[-1]))


def report(commits: list[str], runs: list[list[dict[str, Any]]]) -> None:
    """The table, and the difference in units of the spread of one run."""
    head = ["commit", "numbers", "ms a step", "steps", "share of fp32 peak", "val_bpb", "each"]
    rows = []
    for commit, of in zip(commits, runs, strict=True):
        means = {name: statistics.fmean(one[name] for one in of) for name in ("ms", "steps", "share", "bpb")}
        each = " ".join(f"{one['bpb']:.4f}" for one in of)
        cells = [f"{means['ms']:.1f}", f"{means['steps']:.0f}", f"{means['share']:.0%}", f"{means['bpb']:.4f}", each]
        rows.append([commit, of[0]["dtype"], *cells])
    print(table(head, rows))
    values = [[float(one["bpb"]) for one in of] for of in runs]
    difference = statistics.fmean(values[1]) - statistics.fmean(values[0])
    if len(values[0]) > 1:
        sigma = math.sqrt(statistics.fmean(statistics.variance(of) for of in values))
        error = sigma * math.sqrt(2 / len(values[0]))
        print(f"\n{difference:+.4f} val_bpb: {abs(difference) / sigma:.1f} sigma of one run ({sigma:.4f}),")
        print(f"{abs(difference) / error:.1f} standard errors of the difference")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks before", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("old", metavar="OLD", nargs="?", help="a commit (default: see above)")
    parser.add_argument("new", metavar="NEW", nargs="?", default="HEAD", help="another (default HEAD)")
    parser.add_argument("--seconds", type=float, default=20.0, help="time budget of a run (default 20)")
    parser.add_argument("--seeds", type=int, default=4, help="runs of each (default 4)")
    options = parser.parse_args()
    commits, runs = [options.old or before_the_last_change(), options.new], list[list[dict[str, Any]]]([[], []])
    with tempfile.TemporaryDirectory() as folder:
        trees = [unpack(commit, Path(folder) / f"{number}") for number, commit in enumerate(commits)]
        for seed in range(1, options.seeds + 1):
            for commit, tree, of in zip(commits, trees, runs, strict=True):
                of.append(run(tree, options.seconds, seed))
                print(f"{commit}, seed {seed}: {of[-1]['bpb']:.4f}, {of[-1]['ms']:.1f} ms a step", flush=True)
    print()
    report(commits, runs)


if __name__ == "__main__":
    main()
