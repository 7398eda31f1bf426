"""A device on which nothing starts, and one whose memory others hold: the run ends, and the device is at fault."""

from __future__ import annotations

import pytest
import torch

from nanotrain.device import machine

FAULT = "error: this run was given a GPU, and "


def test_a_device_on_which_no_kernel_starts_ends_the_run() -> None:
    """The meta device stands for a card that the build has no kernels for: both have tensors and compute nothing."""
    machine.check_kernels(machine.CPU)
    with pytest.raises(SystemExit) as ended:
        machine.check_kernels(torch.device("meta"))
    said = str(ended.value)
    assert said.startswith(f"{FAULT}no kernel starts on it: ") and f"torch {torch.__version__} is built for" in said
    assert "\n hint: nvidia-smi" in said


def test_memory_that_others_hold_is_told_with_the_numbers() -> None:
    said = machine.full_memory((1 << 30, 2 << 30, 80 << 30))
    assert said.startswith(f"{FAULT}other processes hold its memory: 1.0 of 80.0 GB are free, 2.0 are this run's")
    assert machine.full_memory(None).startswith(f"{FAULT}other processes hold its memory") and "\n hint: " in said


@pytest.mark.parametrize(
    ("words", "full"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB", True),
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("CUDA error: no kernel image is available for execution on the device", False),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_memory_that_ran_out_is_told_from_other_failures(words: str, full: bool) -> None:
    assert machine.is_out_of_memory(RuntimeError(words)) is full
    wrapped = ValueError("a backend of the compiler failed")
    wrapped.__cause__ = RuntimeError(words)
    assert machine.is_out_of_memory(wrapped) is full
