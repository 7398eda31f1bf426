"""The warm-up of a run: a whole training step before the clock starts, undone afterwards. Fixed, like harness.py.

Nothing is compiled, loaded or allocated for the first time on the clock. Where memory runs out a pass takes fewer
rows; where a kernel fails a slower one takes its place; a step of a slow device becomes shorter.
"""

from __future__ import annotations

import copy
import random
import time
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn as nn

from nanotrain.device.machine import GB, Machine, is_out_of_memory

FLEX, MASKED, EAGER = "compiled, FlexAttention", "compiled, masked attention", "eager"  # each slower than the last
COST = {MASKED: "a short window costs a whole row", EAGER: "about three times slower, with more memory"}
MAX_STEP_SHARE = 0.01  # of the budget: the clock is read between steps only
# Of the trainer's attributes those that the warm-up chooses, or that hold no state of their own.
_KEPT = frozenset(("machine", "config", "model", "loss", "rows", "grad_accum_steps", "micro_seconds", "kernels"))


class WarmTrainer(Protocol):
    """What the warm-up uses of the trainer."""

    machine: Machine
    model: nn.Module
    config: Any
    rows: int
    grad_accum_steps: int
    micro_seconds: float
    kernels: str

    @property
    def tokens_per_step(self) -> int: ...
    def loader(self, tokens: Any, seed: int) -> Any: ...
    def step(self, batches: Any, progress: float) -> torch.Tensor: ...
    def halve_rows(self) -> None: ...
    def set_kernels(self, kernels: str) -> None: ...


def warm_up(trainer: WarmTrainer, seconds: float | None = None) -> None:
    """Take a step on random tokens by the loader's own path, then restore weights, buffers, the trainer's attributes
    and the random numbers. `seconds` is the budget as far as it is known, by which the size of a pass is chosen.

    Raises what the step raises once there is no smaller pass and no slower kernel to try.
    """
    devices = [torch.cuda.current_device()] if trainer.machine.cuda else []
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices):
        initial = {name: value.detach().to("cpu", copy=True) for name, value in _tensors(trainer.model).items()}
        state = _state(trainer)
        while not _rehearsed(trainer, seconds):
            _free(trainer)
        _restore(trainer, initial, state)
    random.setstate(python)
    np.random.set_state(numpy)
    _free(trainer)  # another process may use the card until this run's clock starts
    trainer.machine.wait()


def _rehearsed(trainer: WarmTrainer, seconds: float | None) -> bool:
    """Take a step, and on CUDA a second one to measure it; on failure choose what the next try does, or raise."""
    size = (trainer.rows + 2) * trainer.config.sequence_len
    tokens = np.random.default_rng(0).integers(trainer.config.vocab_size, size=size)
    try:
        trainer.set_kernels(trainer.kernels)
        loader = trainer.loader(tokens.astype(np.uint16), 0)
        for _ in range(1 + trainer.machine.cuda):
            begun = time.perf_counter()
            trainer.step(loader, 0.5)
            trainer.machine.wait()
            trainer.micro_seconds = (time.perf_counter() - begun) / trainer.grad_accum_steps
    except Exception as error:
        _adapt(trainer, error)
        return False
    if trainer.machine.cuda and seconds and trainer.micro_seconds > MAX_STEP_SHARE * seconds and trainer.rows > 1:
        passes = _halved(trainer)
        print(f"note: this device is slow for its budget: {passes}; sums of gradients round in another order")
        return False
    return True


def _adapt(trainer: WarmTrainer, error: Exception) -> None:
    """Make the next try smaller or slower by the kind of the error, which is raised when that is not possible."""
    if is_out_of_memory(error):
        if trainer.rows == 1:
            raise error
        passes = _halved(trainer)
        print(f"note: the memory of the device is full: {passes}; sums of gradients round in another order")
        return
    if trainer.kernels == EAGER:
        raise error
    trainer.kernels = MASKED if trainer.kernels == FLEX else EAGER
    reason = next(iter(str(error).strip().splitlines()), "")[:200]
    now = f"{trainer.kernels} ({COST[trainer.kernels]})"
    print(f"note: a kernel does not work here, {type(error).__name__}: {reason}; the run goes on {now}")


def _halved(trainer: WarmTrainer) -> str:
    trainer.halve_rows()
    return f"{trainer.rows} rows a pass, {trainer.grad_accum_steps} passes a step"


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _state(trainer: WarmTrainer) -> dict[str, Any]:
    """Copies of the trainer's other attributes, such as the optimizer; the weights in them stay those of the model."""
    shared: dict[int, Any] = {id(one): one for one in (trainer, trainer.model, *_tensors(trainer.model).values())}
    state = {}
    for name, value in vars(trainer).items():
        if name not in _KEPT:
            try:
                state[name] = copy.deepcopy(value, shared)
            except (TypeError, RuntimeError):  # it cannot be copied, such as a CUDA graph, and keeps what it is
                continue
    return state


@torch.no_grad()
def _restore(trainer: WarmTrainer, initial: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    for name, value in _tensors(trainer.model).items():
        if name in initial and initial[name].shape == value.shape:
            value.copy_(initial[name])
    for name, value in state.items():
        setattr(trainer, name, value)


def _free(trainer: WarmTrainer) -> None:
    trainer.model.zero_grad(set_to_none=True)
    trainer.machine.release()


def limit_step(trainer: WarmTrainer, seconds: float | None) -> None:
    """Make a step of fewer passes until it lasts at most MAX_STEP_SHARE of a budget of `seconds` (None: of steps)."""
    passes = trainer.grad_accum_steps
    most = (seconds or float("inf")) * MAX_STEP_SHARE
    while trainer.grad_accum_steps > 1 and trainer.grad_accum_steps * trainer.micro_seconds > most:
        trainer.grad_accum_steps //= 2
    if trainer.grad_accum_steps < passes:
        print(f"note: this device is slow for its budget: steps of {trainer.tokens_per_step:,} tokens")


def fitting_tokens(most: int, config: Any, machine: Machine) -> int:
    """Tokens of one pass, at most `most`, for the free memory of the card: an estimate, which the warm-up corrects.

    The bytes that a token saves for the backward pass were counted at depth 8, width 512.
    """
    wide = machine.dtype.itemsize // 2  # float32 products save twice as much
    per_token: int = 60 * config.n_layer * config.n_embd * wide + 8 * config.vocab_size
    return max(1, min(most, int(0.8 * machine.free_memory() - 1.5 * GB) // per_token))
