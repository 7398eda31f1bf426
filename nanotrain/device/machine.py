"""The device that a run computes on: measured, not assumed. Fixed, like harness.py."""

from __future__ import annotations

import ctypes
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

CPU = torch.device("cpu")
GB = 2**30


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

    def free_memory(self) -> int:
        """Bytes of the card that nobody holds, at most those that the session gives this run."""
        free, total = torch.cuda.mem_get_info()
        return min(free, share_of(total))

    def release(self) -> None:
        """Give cached memory of the card back to it."""
        if self.cuda:
            torch.cuda.empty_cache()


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
        dtype = faster_dtype(CPU)
        if dtype == torch.bfloat16:
            attend_by_products()
        return Machine(CPU, dtype, compiled=False)
    check_kernels(torch.device("cuda"))
    total = torch.cuda.mem_get_info()[1]
    if (share := share_of(total)) < total:  # the rest of the card is for other runs
        torch.cuda.set_per_process_memory_fraction(share / total)
    torch.set_float32_matmul_precision("high")
    dtype = faster_dtype(torch.device("cuda"))
    if dtype == torch.float32:
        print("note: this GPU has no bfloat16: products are in float32, several times slower, with more memory")
    return Machine(torch.device("cuda"), dtype, compiled=True)


def share_of(total: int) -> int:
    """Bytes of a card of `total` bytes that this run may use: all, unless several runs share it."""
    return min(total, int(os.environ.get("AUTORESEARCH_GPU_MEMORY") or total))


def cuda_trouble() -> str:
    """The driver's or torch's own words on why CUDA does not start."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except Exception as error:  # RuntimeError, AssertionError: by the build of torch
        return words_of(error)
    return "it sees no GPU"


def check_kernels(device: torch.device) -> None:
    """End the run, as the device's fault, where a first kernel does not start there."""
    try:
        torch.ones(1, device=device).add_(1).item()
    except Exception as error:
        if is_out_of_memory(error):
            raise SystemExit(full_memory(None)) from error
        built = f"torch {torch.__version__} is built for {', '.join(torch.cuda.get_arch_list()) or 'no GPU'}"
        raise SystemExit(
            f"error: this run was given a GPU, and no kernel starts on it: {words_of(error)}; {built}\n"
            " hint: nvidia-smi shows the card and its state; a newer card needs a newer torch"
        ) from error


def words_of(error: BaseException) -> str:
    """The error's first sentence, on one line."""
    said = re.split(r"Compile with `TORCH_USE_CUDA_DSA`| Please update your GPU driver", str(error))[0]
    return " ".join(said.split())[:300] or type(error).__name__


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory of the device ran out, also where the compiler or cuBLAS says so in its own words."""
    while error is not None:
        words = str(error)
        if isinstance(error, torch.OutOfMemoryError) or "CUDA error: out of memory" in words:
            return True
        if "CUBLAS_STATUS_ALLOC_FAILED" in words or "CUDA out of memory" in words:
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def before_the_clock(machine: Machine) -> Iterator[None]:
    """Memory that runs out because other processes hold the card ends the run as the device's fault."""
    try:
        yield
    except Exception as error:
        if not (machine.cuda and is_out_of_memory(error)):
            raise
        free, total = torch.cuda.mem_get_info()
        own = torch.cuda.memory_reserved()
        if share_of(total) - own - free < total / 10:  # a context takes half a GB
            raise
        raise SystemExit(full_memory((free, own, total))) from error


def full_memory(sizes: tuple[int, int, int] | None) -> str:
    """The message of a run without memory; `sizes` are the bytes that are free, its own, and all."""
    free, own, total = sizes or (0, 0, 0)
    numbers = f": {free / GB:.1f} of {total / GB:.1f} GB are free, {own / GB:.1f} are this run's" if sizes else ""
    held = "; ".join(holders())
    return (
        f"error: this run was given a GPU, and other processes hold its memory{numbers}{held and '; ' + held}\n"
        " hint: nvidia-smi shows who holds it; end those processes, or give the session another card by --slots"
    )


def holders() -> list[str]:
    """Other processes on the card and what they hold, as far as the driver tells it here."""
    try:
        lines = torch.cuda.list_gpu_processes().splitlines()
    except Exception:  # no pynvml, or a driver that does not answer in a container
        return []
    found = [line.split() for line in lines if line.startswith("process ")]
    return [" ".join(words) for words in found if words[1] != str(os.getpid())]


def keep_freed_memory() -> None:
    """Make glibc reuse large blocks: mapping new pages for every large tensor costs a fifth of a step."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):  # another C library: slower, but correct
        pass


def attend_by_products() -> None:
    """Make scaled_dot_product_attention three plain operations: in bfloat16 the backward pass of the CPU's fused kernel
    takes a third of a step. In float32 it is the faster one, and stays.
    """
    torch.backends.cuda.enable_flash_sdp(False)  # the switch is also that of the CPU's kernel
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)


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
