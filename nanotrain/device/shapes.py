"""The settings of a GPU, checked where there is none: a step on tensors that have shapes and no content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from nanotrain.device.machine import Machine
from nanotrain.device.warmup import WarmTrainer

VARIABLE = "AUTORESEARCH_RUNS_ON"  # in a check: the device of the session's runs


class ImaginedCard(Machine):
    """A GPU by its settings, whose tensors hold nothing."""

    @property
    def cuda(self) -> bool:
        return True

    def autocast(self) -> Any:
        return nullcontext()

    def wait(self) -> None:
        return None

    def release(self) -> None:
        return None

    def free_memory(self) -> int:
        return 1 << 36


def step_without_content(trainer: WarmTrainer) -> None:
    """A step on tokens of the trainer's shape. Raises what does not fit together."""
    shape = trainer.rows, trainer.config.sequence_len
    tokens = torch.empty(shape, dtype=torch.int64, device=trainer.machine.device)
    trainer.step(lambda: (tokens, tokens), 0.5)


@contextmanager
def imagined_card() -> Iterator[ImaginedCard]:
    """A card for a step whose shapes are to be checked.

    What only real tensors or a real card can do is no fault of the code: it ends the check with a note. torch says it
    by words only, in errors of several classes, of which NotImplementedError is the one that means nothing else. A
    name that is not defined is a fault whatever it is called: those of settings end in _CUDA.
    """
    try:
        yield ImaginedCard(torch.device("meta"), torch.bfloat16, compiled=True)
    except Exception as error:
        words = "" if isinstance(error, KeyError | NameError) else str(error).lower()
        if isinstance(error, NotImplementedError) or any(word in words for word in ("meta", "cuda", "nvidia")):
            print(f"note: the settings of the GPU cannot be checked without one: {' '.join(str(error).split())[:200]}")
            return
        error.add_note("This is with the settings of the GPU, whose names end in _CUDA.")
        raise
