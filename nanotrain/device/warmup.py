"""The warm-up of a run: a whole training step before the clock starts, undone afterwards. Fixed, like harness.py.

Nothing is compiled, loaded or allocated for the first time on the clock. Where memory runs out a pass takes half the
rows; where a kernel fails a slower one takes its place; a step of a slow device becomes shorter.
"""

from __future__ import annotations

import copy
import time
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn as nn

from nanotrain.device.machine import Machine

FLEX, MASKED, EAGER = "compiled, FlexAttention", "compiled, masked attention", "eager"  # each slower than the last
COST = {MASKED: "a short window costs a whole row", EAGER: "about three times slower, with more memory"}
MAX_STEP_SHARE = 0.01  # of the budget: the clock is read between steps only


class WarmTrainer(Protocol):
    """What the warm-up uses of the trainer."""

    machine: Machine
    model: nn.Module
    config: Any
    rows: int
    grad_accum_steps: int
    micro_seconds: float
    kernels: str
    optimizer: Any

    @property
    def tokens_per_step(self) -> int: ...
    def loader(self, tokens: Any, seed: int) -> Any: ...
    def step(self, batches: Any, progress: float) -> torch.Tensor: ...
    def halve_rows(self) -> None: ...
    def choose_slower_kernels(self) -> bool: ...


def warm_up(trainer: WarmTrainer) -> None:
    """Take a step on random tokens by the loader's own path, then restore the weights and the optimizer.

    Raises what the step raises once there is no smaller pass and no slower kernel to try.
    """
    initial = {name: value.to("cpu", copy=True) for name, value in trainer.model.state_dict().items()}
    shared = {id(one): one for one in (trainer.model, *trainer.model.parameters())}
    optimizer = copy.deepcopy(trainer.optimizer, shared)  # the state only: the weights stay those of the model
    while not _rehearsed(trainer):
        _free(trainer)
    trainer.model.load_state_dict(initial)
    trainer.optimizer = optimizer
    _free(trainer)  # another process may use the card until this run's clock starts
    trainer.machine.wait()


def _rehearsed(trainer: WarmTrainer) -> bool:
    """Take a step, and on CUDA a second one to measure it; on failure choose what the next try does, or raise."""
    size = (trainer.rows + 2) * trainer.config.sequence_len
    random = np.random.default_rng(0).integers(trainer.config.vocab_size, size=size)
    loader = trainer.loader(random.astype(np.uint16), 0)
    try:
        for _ in range(1 + trainer.machine.cuda):
            begun = time.perf_counter()
            trainer.step(loader, 0.5)
            trainer.machine.wait()
            trainer.micro_seconds = (time.perf_counter() - begun) / trainer.grad_accum_steps
        return True
    except torch.OutOfMemoryError:
        if trainer.rows == 1:
            raise
        trainer.halve_rows()
        passes = f"{trainer.rows} rows a pass, {trainer.grad_accum_steps} passes a step"
        print(f"note: the memory of the device is full: {passes}; sums of gradients round in another order")
    except Exception as error:
        if not trainer.choose_slower_kernels():
            raise
        reason = next(iter(str(error).strip().splitlines()), "")[:200]
        now = f"{trainer.kernels} ({COST[trainer.kernels]})"
        print(f"note: a kernel does not work here, {type(error).__name__}: {reason}; the run goes on {now}")
    return False


def _free(trainer: WarmTrainer) -> None:
    trainer.model.zero_grad(set_to_none=True)
    if trainer.machine.cuda:
        torch.cuda.empty_cache()


def limit_step(trainer: WarmTrainer, seconds: float | None) -> None:
    """Halve the passes of a step until it lasts at most MAX_STEP_SHARE of a budget of `seconds` (None: of steps)."""
    passes = trainer.grad_accum_steps
    most = (seconds or float("inf")) * MAX_STEP_SHARE
    while trainer.grad_accum_steps > 1 and trainer.grad_accum_steps * trainer.micro_seconds > most:
        trainer.grad_accum_steps //= 2
    if trainer.grad_accum_steps < passes:
        print(f"note: this device is slow for its budget: steps of {trainer.tokens_per_step:,} tokens")


def fitting_tokens(most: int, size: int, vocab: int) -> int:
    """Tokens of one pass on the current card, at most `most`: an estimate from its free memory.

    `size` is depth times width. An estimate that is too high is corrected by the warm-up.
    """
    free, _ = torch.cuda.mem_get_info()
    per_token = 60 * size + 8 * vocab  # bytes saved for the backward pass, by the partition at depth 8, width 512
    return min(most, int(0.8 * free) // per_token)
