"""What a run used of its device, in one line that doctor --device reads. Fixed, like harness.py."""

from __future__ import annotations

import os
import sys
from resource import RUSAGE_SELF, getrusage

import torch

from nanotrain.device.machine import GB, Machine


def compiles() -> int:
    """Graphs that torch.compile traced in this process, and those that inductor then turned into kernels."""
    dynamo = sys.modules.get("torch._dynamo.utils")  # absent until something is compiled
    if dynamo is None:
        return 0
    built = sum(n for name, n in dynamo.counters["inductor"].items() if name in _BUILT)
    return int(dynamo.counters["stats"]["unique_graphs"] + built)


_BUILT = ("fxgraph_cache_hit", "fxgraph_cache_miss", "fxgraph_cache_bypass")  # forward and backward, one each


def peak_bytes(machine: Machine) -> int:
    """The most memory that this process held so far: of the card, cached blocks included, else of the machine."""
    if machine.cuda:
        return torch.cuda.max_memory_reserved()
    return 1024 * getrusage(RUSAGE_SELF).ru_maxrss


def device_line(machine: Machine, compiles_before: int, tokens_per_second: float) -> str:
    """The line at a run's end; `compiles_before` is compiles() when its clock started."""
    if machine.cuda:
        total = torch.cuda.get_device_properties(machine.device).total_memory
    else:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    speed, unit = (tokens_per_second / 1e6, "M") if tokens_per_second >= 1e6 else (tokens_per_second / 1e3, "k")
    return (
        f"device: compiles {compiles_before} before the clock, {compiles() - compiles_before} on it;"
        f" peak {peak_bytes(machine) / GB:.1f} GB of {total / GB:.1f}; {speed:.2f}{unit} tokens/s"
    )
