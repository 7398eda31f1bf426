"""Processor time, bytes and memory of scoring at the shapes of a GPU, by a tiny model on the CPU.

    python -m benchmarks scorer [--vocab 8192,32768,65536] [--rows 64] [--device cuda|cpu] [--float32]

The scorer's own classes score random rows (2048 tokens, those of a GPU, or 64) with two real model processes. The model
has one block of width 16 and logits in bfloat16, as on a GPU. Counted is the processor time of the scorer from the
first request on, and that of each model process from its imports on: loading the model, all forward passes and the
handing over of the logits are in it. Memory is the largest sum over the three processes at one time, shared pages
counted once (PSS).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

import nanotrain
from nanotrain import prepare, process_limits
from nanotrain.model_process import ModelProcess
from nanotrain.probes import Examiner

HEAD = "self.lm_head(norm(x))"
IN_BFLOAT16 = "F.linear(norm(x).bfloat16(), self.lm_head.weight.bfloat16())"
SECONDS = 3600.0


def lay_out(folder: Path, vocab: int, context: int, half: bool) -> None:
    """A worktree and the folder of a run with random weights. In a process of its own: the scorer has no torch."""
    import torch
    from safetensors.torch import save_file

    from nanotrain import train

    shutil.copytree(Path(nanotrain.__file__).parent, folder / "tree" / "nanotrain")
    path = folder / "tree" / "nanotrain" / "train.py"
    path.write_text(path.read_text().replace(HEAD, IN_BFLOAT16 if half else HEAD))
    config = train.GPTConfig(
        vocab_size=vocab, sequence_len=context, n_layer=1, n_embd=16, head_dim=16, window_pattern="L", softcap=0.0
    )
    model = train.build_model(asdict(config))
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(std=0.3)
    (folder / "run").mkdir()
    save_file(model.state_dict(), folder / "run" / "weights.safetensors")
    (folder / "run" / "model.json").write_text(json.dumps(asdict(config)))


class PeakMemory(threading.Thread):
    """Samples the memory of this process and its descendants."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stopped, self.peak, self.spent = threading.Event(), 0.0, 0.0

    def run(self) -> None:
        while not self.stopped.wait(0.1):
            total = 0
            for pid in process_limits.process_tree(os.getpid()):
                with contextlib.suppress(OSError, ValueError):
                    found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
                    total += int(found[1]) if found else 0
            self.peak, self.spent = max(self.peak, total / 1024), time.thread_time()


def measure(vocab: int, count: int, device: str, *, half: bool) -> None:
    """Score once; prints a line."""
    random, context = np.random.default_rng(1), prepare.EVAL_CONTEXT[device]
    rows = random.integers(vocab, size=(count, context + 1), dtype=np.uint16)
    training = random.integers(vocab, size=(512, context), dtype=np.uint16)
    examiner = Examiner(rows, training, np.ones(vocab, dtype=np.int64), device)
    memory, own, models, answers, started = PeakMemory(), 0.0, 0.0, 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="autoresearch-scorer-") as name:
        words = ["--lay-out", name, "--vocab", str(vocab), "--device", device, *(() if half else ("--float32",))]
        subprocess.run([sys.executable, "-m", "benchmarks.nanotrain.scorer_cost", *words], check=True)
        order: dict[str, object] = {"worktree": f"{name}/tree", "run": f"{name}/run", "seed": 1, "imports": []}
        order["device"] = "cpu"
        stages = (examiner.examine, examiner.score, examiner.examine_again)[: 2 + (examiner.later_passes > 0)]
        with contextlib.ExitStack() as stack:
            models_of = [stack.enter_context(ModelProcess([], order, vocab, float("inf"))) for _ in stages]
            memory.start()
            for model, work in zip(models_of, stages, strict=True):
                model.load(SECONDS, SECONDS)
                begun, sampling = time.process_time(), memory.spent
                work(model)
                own += time.process_time() - begun - (memory.spent - sampling)
                models += model.monitor.cpu_seconds() - model.imported_cpu
                answers += model.answers
                model.close()
            begun, sampling = time.process_time(), memory.spent
            examiner.compare()
            own += time.process_time() - begun - (memory.spent - sampling)
            memory.stopped.set()
    print(
        f"{vocab:6}  {count:4} x {context}  {answers:4} answers  scorer {own:6.2f} s  models {models:6.2f} s  "
        f"both {own + models:6.2f} s  {memory.peak:5.0f} MB  {time.monotonic() - started:5.0f} s of wall time",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks scorer")
    parser.add_argument("--vocab", default="8192,32768,65536")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--device", default="cuda", choices=sorted(prepare.EVAL_CONTEXT))
    parser.add_argument("--float32", action="store_true", help="logits in float32")
    parser.add_argument("--lay-out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.lay_out:
        lay_out(options.lay_out, int(options.vocab), prepare.EVAL_CONTEXT[options.device], not options.float32)
        return
    process_limits.become_subreaper()
    for vocab in map(int, options.vocab.split(",")):
        measure(vocab, options.rows, options.device, half=not options.float32)


if __name__ == "__main__":
    main()
