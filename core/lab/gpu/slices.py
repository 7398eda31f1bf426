"""Slices of cards (MIG): which device files a slot's card or slice needs."""

from __future__ import annotations

from functools import partial

from core.lab.gpu import cards, nodes
from core.lab.gpu.cards import or_none


def slot_files(slot: str) -> tuple[str, ...]:
    """The device files that a run of `slot` gets: of its card, with the capability files of its slice, or of all slices
    of the card where CUDA chooses one or the driver does not tell them apart. None for a CPU slot.
    """
    own, part = cards.device_files(slot), _instances(cards.visible(slot)) if "-" in slot else None
    minors = [path.removeprefix("/dev/nvidia") for path in own]
    return (*own, *(cap for minor in minors if minor.isdecimal() for cap in nodes.slice_nodes(int(minor), part)))


def _instances(name: str) -> tuple[int, int] | None:
    """The numbers of the GPU instance and compute instance of a slice; None where the driver does not tell them."""
    driver, known = cards.nvml(), cards.slices().items()
    part = next((part for uuid, (_, part) in known if uuid.lower().startswith(name.lower())), None)
    outer = or_none(partial(driver.nvmlDeviceGetGpuInstanceId, part)) if part else None
    inner = or_none(partial(driver.nvmlDeviceGetComputeInstanceId, part)) if part else None
    return None if outer is None or inner is None else (int(outer), int(inner))
