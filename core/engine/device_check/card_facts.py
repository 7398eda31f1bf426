"""The card of a slot as its driver describes it: memory, who holds it, compute capability, known peak"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from core.lab.gpu import cards
from core.lab.gpu.cards import or_none

# Peak of dense bfloat16 matrix products in TFLOP/s, from the makers' data sheets; the first name that fits.
PEAKS = (
    ("GB200", 2500.0), ("B200", 2250.0), ("GH200", 989.0), ("H200 NVL", 835.0), ("H200", 989.0), ("H100 NVL", 835.0),
    ("H100 PCIe", 756.0), ("H100", 989.0), ("H800", 989.0), ("A100", 312.0), ("A800", 312.0), ("A30", 165.0),
    ("A40", 150.0), ("A10G", 70.0), ("A10", 125.0), ("L40S", 362.0), ("L40", 181.0), ("L4", 121.0),
    ("RTX 5090", 209.5), ("RTX 6000 Ada", 364.0), ("RTX A6000", 155.0), ("RTX 4090", 165.0), ("RTX 3090", 71.0),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What NVML says of the card of a slot; None or "" for what it does not. Memory in bytes."""

    name: str
    uuid: str
    total: int | None = None
    free: int | None = None
    capability: tuple[int, int] | None = None
    peak_tflops: float | None = None
    holders: tuple[str, ...] = field(default=())  # other processes that use it, each in words

    @property
    def identity(self) -> str:
        """What stands for this card in the record of checks."""
        return self.uuid or self.name


def facts_of(slot: str) -> CardFacts | None:
    """The facts of the slot's card; None for a CPU slot. Of a slice only its name is known."""
    if not slot.startswith("gpu"):
        return None
    gpu = _whole_card(slot)
    if gpu is None:
        return CardFacts(name=f"slice {cards.visible(slot)}", uuid=cards.visible(slot))
    nvml = cards.nvml()
    name = cards.card_model(gpu) or "GPU"
    used, total = cards.memory_of(slot) or (0, None)
    return CardFacts(
        name=name,
        uuid=gpu.uuid,
        total=total,
        free=None if total is None else total - used,
        capability=cards.capability(gpu),
        peak_tflops=peak_of(name),
        holders=_holders(nvml, gpu.handle),
    )


def peak_of(name: str) -> float | None:
    """Peak of a card in TFLOP/s by its name; None for one that is not in the table."""
    words = re.sub(r"[-_]", " ", name)
    return next((peak for known, peak in PEAKS if re.search(rf"\b{known}\b", words)), None)


def used_memory(slot: str) -> int | None:
    """Bytes in use on the slot's card, by all processes; None where it is not known."""
    memory = cards.memory_of(slot) if _whole_card(slot) else None
    return memory[0] if memory else None


def _whole_card(slot: str) -> cards.Gpu | None:
    """The card of a slot; None for a CPU slot and for a slice, of which the driver's numbers do not hold."""
    return next((gpu for gpu in cards.usable() if f"gpu{gpu.index}" == cards.card_name(slot)), None)


def _holders(nvml: Any, handle: Any) -> tuple[str, ...]:
    found = or_none(partial(nvml.nvmlDeviceGetComputeRunningProcesses, handle)) or []
    return tuple(_process_words(int(one.pid), one.usedGpuMemory) for one in found)


def _process_words(pid: int, size: int | None) -> str:
    """`python (pid 812, 20.1 GB)`; a process of another container has no name here."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        name = "a process outside this container"
    held = f", {size / 2**30:.1f} GB" if size else ""
    return f"{name} (pid {pid}{held})" if pid != os.getpid() else f"this program (pid {pid}{held})"
