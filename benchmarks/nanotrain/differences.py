"""Settings that nanotrain's GPU side took over or left, each alone, on a small model on the CPU.

    python -m benchmarks.nanotrain.differences [--steps 250] [--seeds 2] [--only WORDS]

A simulation at another scale: depth 4, width 64, rows of 128 tokens, 4096 tokens a step, the default corpus, one
thread. Rates, momentum, decay, softcap and schedule are those of CUDA. The number of steps is fixed, since what a step
costs on a CPU says nothing about a GPU. Seeds are interleaved; the loss is that of the validation slice.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch

from benchmarks.nanotrain.vs_karpathy import Comparison, settings
from nanotrain import train

SIZE = {"DEPTH_CPU": 4, "WIDTH_CPU": 64, "CONTEXT_CPU": 128, "BATCH_TOKENS_CPU": 2**12}
BEFORE: dict[str, Any] = {
    "POLAR_EXPRESS_CPU": False, "MUON_BETA2_CPU": 0.0, "WINDOW_PATTERN": "SL",
    "EMBED_LR_CPU": 0.6, "HEAD_LR_CPU": 0.004,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "before": BEFORE,
    "without scaled rows": {"MUON_BETA2_CPU": 0.0},
    "plain Newton-Schulz": {"POLAR_EXPRESS_CPU": False},
    "warm-down of half": {"WARMDOWN_CPU": 0.5},
    "rates not scaled by width": {"EMBED_LR_CPU": 0.6, "HEAD_LR_CPU": 0.004},
    "windows SL": {"WINDOW_PATTERN": "SL"},
    "without decay": {"MATRIX_DECAY_CPU": 0.0},
}


def of_a_gpu() -> dict[str, Any]:
    """The settings of CUDA under the names of the CPU's, without its sizes."""
    names = [name.removesuffix("_CUDA") for name in vars(train) if name.endswith("_CUDA")]
    taken = (name for name in names if hasattr(train, f"{name}_CPU") and name not in ("DEPTH", "WIDTH", "CONTEXT"))
    values = {f"{name}_CPU": getattr(train, f"{name}_CUDA") for name in taken}
    return values | SIZE | {"HEAD_DIM_CPU": 32}


def run(bench: Comparison, variant: dict[str, Any], steps: int, seed: int) -> float:
    """Bits per byte on the validation slice."""
    with settings(of_a_gpu() | variant):
        torch.manual_seed(seed)
        trainer = train.Trainer(bench.machine, train.configure(bench.machine, bench.vocab))
        loader = trainer.loader(bench.data, seed)
        for step in range(steps):
            trainer.step(loader, step / steps)
        return bench.judge(trainer)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=250, help="steps of a run (default 250)")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each (default 2)")
    parser.add_argument("--only", default="", help="variants, separated by commas (default: all)")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(VARIANTS)
    bench, found = Comparison(), {name: list[float]() for name in chosen}
    for seed in range(1, options.seeds + 1):
        for name in chosen:
            found[name].append(run(bench, VARIANTS[name], options.steps, seed))
            print(f"{name}, seed {seed}: {found[name][-1]:.4f}", flush=True)
    print(f"\n| settings | val_bpb, mean of {options.seeds} | each |\n|---|---|---|")
    for name, runs in found.items():
        print(f"| {name} | {statistics.fmean(runs):.4f} | {' '.join(f'{one:.4f}' for one in runs)} |")


if __name__ == "__main__":
    main()
