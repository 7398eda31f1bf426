"""The same model under nanotrain's settings and under those of karpathy/autoresearch, for the same time.

    python -m benchmarks.nanotrain.vs_karpathy [--seconds 20] [--seeds 3]

Both train the architecture, data, tokens and batch size of nanotrain on one CPU thread, in turn. The budget is in
seconds of that thread's own CPU time, so that other processes do not matter. The loss is measured on the validation
slice. Karpathy's settings are those of the published train.py: learning rates scaled by (width / 768) ** -0.5, Muon
with five fixed iterations, row-wise second moment and cautious, decaying weight decay, logits capped at 15, separate
betas for x0_lambdas, no warmup, warmdown for half the time. Its batch of 2**19 tokens allows no step in 20 s on a CPU;
both use nanotrain's, which favours Karpathy's settings.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nanotrain import corpus, prepare, probes, train
from nanotrain.device.machine import find_machine
from nanotrain.device.warmup import warm_up

KARPATHY: dict[str, Any] = {
    "MATRIX_LR_CPU": 0.04,
    "EMBED_LR_CPU": 0.6,  # scaled below
    "HEAD_LR_CPU": 0.004,  # scaled below
    "SCALAR_LR": 0.5,  # of the x0_lambdas; a hundredth of it for the residual ones
    "ADAM_BETAS": (0.8, 0.95),
    "ADAM_EPS": 1e-10,
    "EMBED_DECAY": 0.0,
    "GRAD_CLIP": 0.0,
    "WARMUP": 0.0,
    "WARMDOWN_CPU": 0.5,
    "FINAL_LR": 0.0,
    "EMBED_STD": 1.0,
    "MATRIX_SCALE": 1.0,
    "HEAD_STD": 0.001,
    "X0_SCALE": 0.1,
    "SOFTCAP_CPU": 15.0,
    "ROPE_BASE_CPU": 10000.0,
}
DECAY = 0.2  # of the matrices, cautious, fading with time
MOMENTUM_STEPS = 300  # Karpathy's momentum rises over steps, not over time
ITERATIONS = (  # coefficients of the Newton-Schulz iterations, one triple each
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


class KarpathyAdam(train.AdamW):
    """torch's AdamW over groups with different betas."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__([])
        self.adamw = torch.optim.AdamW(groups, betas=KARPATHY["ADAM_BETAS"], eps=train.ADAM_EPS, fused=True)

    def step(self, lrm: float) -> None:
        for group in self.adamw.param_groups:
            group["lr"] = group["peak"] * lrm
        self.adamw.step()


class KarpathyMuon(train.Muon):
    """Muon of Karpathy's train.py: other coefficients, a second moment by row or column, cautious decay."""

    second: list[torch.Tensor] | None = None
    steps = 0

    @torch.no_grad()
    def step(self, lrm: float, momentum: float) -> None:
        self.steps += 1
        momentum = 0.85 + 0.10 * min(1.0, self.steps / MOMENTUM_STEPS)
        decay = self.weight_decay * (1 - self.progress)
        stacks = [torch.cat([m.view(-1, *m.shape[-2:]) for m in group]) for group in self.groups]
        axes = [-1 if s.size(-2) >= s.size(-1) else -2 for s in stacks]
        if self.second is None:
            self.second = [torch.zeros_like(s.mean(axis, keepdim=True)) for s, axis in zip(stacks, axes, strict=True)]
        for i, (group, stack, axis) in enumerate(zip(self.groups, stacks, axes, strict=True)):
            gradient = torch.cat([m.grad.view(-1, *m.shape[-2:]) for m in group if m.grad is not None])
            self.momentum_buffers[i].lerp_(gradient, 1 - momentum)
            update = orthogonal(gradient.lerp_(self.momentum_buffers[i], momentum))
            update = normalized(update, self.second[i], axis)
            rate = self.lr * lrm * max(1.0, stack.size(-2) / stack.size(-1)) ** 0.5
            stack = stack - rate * update - rate * decay * stack * (update * stack >= 0)
            for m, new in zip(group, stack.split([m.shape[:-2].numel() for m in group]), strict=True):
                m.copy_(new.view_as(m))

    progress = 0.0


def orthogonal(x: torch.Tensor) -> torch.Tensor:
    """(N, rows, columns), each orthogonalized by the fixed Newton-Schulz iterations, in float32 (faster on a CPU)."""
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    for a, b, c in ITERATIONS:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def normalized(update: torch.Tensor, second: torch.Tensor, axis: int) -> torch.Tensor:
    """Scale rows (or columns) by their running second moment; the norm of the matrix is kept."""
    mean = update.square().mean(axis, keepdim=True)
    before = mean.sum((-2, -1), keepdim=True).sqrt()
    second.lerp_(mean, 1 - 0.95)
    factor = second.clamp_min(1e-10).rsqrt()
    after = (mean * factor.square()).sum((-2, -1), keepdim=True).sqrt()
    return update * factor * (before / after.clamp_min(1e-10))


@contextmanager
def settings(values: dict[str, Any]) -> Iterator[None]:
    """Change constants of train.py within the block."""
    before = {name: getattr(train, name) for name in values}
    try:
        for name, value in values.items():
            setattr(train, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(train, name, value)


@dataclass(frozen=True)
class Outcome:
    bpb: float
    steps: int
    tokens_a_second: float


class Comparison:
    """Runs over data that are loaded once."""

    def __init__(self) -> None:
        ready = prepare.prepare(corpus.kjv())
        self.vocab = int(ready.manifest["vocab"])
        self.data = np.fromfile(ready.train, dtype="<u2")
        self.lengths = np.fromfile(ready.tokenizer / "token_bytes.bin", dtype=np.uint8).astype(np.int64)
        val = np.fromfile(ready.folder / "val.bin", dtype="<u2")
        self.rows = probes.rows_of(val, self.lengths, "cpu")
        self.machine = find_machine("cpu")

    def ours(self, seconds: float, seed: int) -> Outcome:
        torch.manual_seed(seed)
        return self.run(self.trainer(), seconds, seed)

    def his(self, seconds: float, seed: int) -> Outcome:
        scale = (train.WIDTH_CPU / 768) ** -0.5
        scaled = {name: KARPATHY[name] * scale for name in ("EMBED_LR_CPU", "HEAD_LR_CPU")}
        with settings(KARPATHY | scaled):
            torch.manual_seed(seed)
            trainer = self.trainer()
            model = trainer.model
            assert isinstance(model, train.GPT)
            in_blocks = (p for name, p in model.named_parameters() if name.startswith("blocks."))
            matrices: list[torch.Tensor] = list(in_blocks)  # gates, too
            trainer.optimizer.muon = KarpathyMuon(matrices, {"matrix": KARPATHY["MATRIX_LR_CPU"], "decay": DECAY})
            groups: list[dict[str, Any]] = [
                {"params": parameters, "peak": peak, "weight_decay": decay}
                for parameters, peak, decay in trainer.optimizer.adamw.groups[:2]  # all but gates and scalars
            ]
            for value, peak, betas in (
                (model.resid_lambdas, KARPATHY["SCALAR_LR"] * 0.01, KARPATHY["ADAM_BETAS"]),
                (model.x0_lambdas, KARPATHY["SCALAR_LR"], (0.96, 0.95)),
            ):
                groups.append({"params": [value], "peak": peak, "betas": betas, "weight_decay": 0.0})
            trainer.optimizer.adamw = KarpathyAdam(groups)
            return self.run(trainer, seconds, seed)

    def trainer(self) -> train.Trainer:
        made = train.Trainer(self.machine, train.configure(self.machine, self.vocab))
        warm_up(made)
        return made

    def run(self, trainer: train.Trainer, seconds: float, seed: int) -> Outcome:
        loader = trainer.loader(self.data, seed)
        start, step = time.process_time(), 0
        while (progress := (time.process_time() - start) / seconds) < 1:
            if isinstance(trainer.optimizer.muon, KarpathyMuon):
                trainer.optimizer.muon.progress = progress
            trainer.step(loader, progress)
            step += 1
        took = time.process_time() - start
        return Outcome(self.judge(trainer), step, step * trainer.tokens_per_step / took)

    @torch.inference_mode()
    def judge(self, trainer: train.Trainer) -> float:
        """Bits per byte on the validation slice, with the scorer's own cross-entropy."""
        nats, size = [], 0
        for row in self.rows:
            logits = trainer.model(torch.from_numpy(row[None, :-1].astype(np.int64)))[0].float().numpy()
            lengths = self.lengths[row[1:]]
            nats.append(float(probes.cross_entropy(logits, row[1:])[lengths > 0].sum()))
            size += int(lengths.sum())
        return math.fsum(nats) / math.log(2) / size


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="time budget of a run (default 20)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each (default 3)")
    options = parser.parse_args()
    bench = Comparison()
    found: dict[str, list[Outcome]] = {"nanotrain": [], "karpathy's": []}
    for seed in range(1, options.seeds + 1):
        found["nanotrain"].append(bench.ours(options.seconds, seed))
        found["karpathy's"].append(bench.his(options.seconds, seed))
    print(f"| settings | val_bpb, mean of {options.seeds} | each | steps | tokens/s |\n|---|---|---|---|---|")
    for name, runs in found.items():
        mean = statistics.fmean(run.bpb for run in runs)
        each = " ".join(f"{run.bpb:.4f}" for run in runs)
        steps = statistics.fmean(run.steps for run in runs)
        speed = statistics.fmean(run.tokens_a_second for run in runs)
        print(f"| {name} | {mean:.4f} | {each} | {steps:.0f} | {speed:,.0f} |")


if __name__ == "__main__":
    main()
