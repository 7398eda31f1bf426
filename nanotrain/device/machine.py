"""The device that a run computes on: measured, not assumed. Fixed, like harness.py."""

from __future__ import annotations

import ctypes
import math
import time
from dataclasses import dataclass

import torch

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Machine:
    """Where the run computes, and how."""

    device: torch.device
    dtype: torch.dtype  # of the matrix products; the weights stay float32
    compiled: bool

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def find_machine(wanted: str | None) -> Machine:
    """The requested device; without a request the GPU, or the CPU where there is none. Float32, or bfloat16 if faster.

    A GPU that was requested and cannot be used ends the run: on the CPU its number would mean something else.
    """
    cuda = wanted != "cpu" and torch.cuda.is_available()
    if wanted == "cuda" and not cuda:
        raise SystemExit(
            f"error: this run was given a GPU, and torch {torch.__version__} cannot use it: {cuda_trouble()}\n"
            " hint: nvidia-smi shows the driver and the newest CUDA that it runs; torch must be built for one as old"
        )
    if not cuda:
        torch.set_num_threads(1)  # two runs of one thread beat one run of two
        keep_freed_memory()
        return Machine(CPU, faster_dtype(CPU), compiled=False)
    torch.set_float32_matmul_precision("high")
    return Machine(torch.device("cuda"), faster_dtype(torch.device("cuda")), compiled=True)


def cuda_trouble() -> str:
    """The driver's or torch's own words on why CUDA does not start."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except Exception as error:  # RuntimeError, AssertionError: by the build of torch
        return " ".join(str(error).split()) or type(error).__name__
    return "it sees no GPU"


def keep_freed_memory() -> None:
    """Make glibc reuse large blocks: mapping new pages for every large tensor costs a fifth of a step."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):  # another C library: slower, but correct
        pass


def faster_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU that has it, and on a CPU where a product of 256x256 matrices takes less than 0.7 of the time;
    else float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    times: dict[torch.dtype, float] = {}
    for dtype in (torch.float32, torch.bfloat16):
        best, x = math.inf, torch.ones(256, 256, device=device, dtype=dtype)
        for _ in range(5):
            start = time.perf_counter()
            (x @ x).sum().item()
            best = min(best, time.perf_counter() - start)
        times[dtype] = best
    return torch.bfloat16 if times[torch.bfloat16] < 0.7 * times[torch.float32] else torch.float32
