"""Slices of cards (MIG): which device files a slot's card or slice needs."""

from __future__ import annotations

from functools import partial

from core.lab.gpu import cards, nodes
from core.lab.gpu.cards import or_none, text_of


def slot_files(slot: str) -> tuple[str, ...]:
    """The device files that a run of `slot` gets: of its card, with the capability files of its slice, or of all slices
    of the card where CUDA chooses one or the driver does not tell them apart. None for a CPU slot.
    """
    own, part = cards.device_files(slot), _instances(cards.visible(slot)) if "-" in slot else None
    minors = [path.removeprefix("/dev/nvidia") for path in own]
    return (*own, *(cap for minor in minors if minor.isdecimal() for cap in nodes.slice_nodes(int(minor), part)))


def _instances(name: str) -> tuple[int, int] | None:
    """The numbers of the GPU instance and compute instance of a slice; None where the driver does not tell them."""
    driver = cards.nvml()
    for gpu in cards.usable():
        for index in range(int(or_none(partial(driver.nvmlDeviceGetMaxMigDeviceCount, gpu.handle)) or 0)):
            part = or_none(partial(driver.nvmlDeviceGetMigDeviceHandleByIndex, gpu.handle, index))
            uuid = or_none(partial(driver.nvmlDeviceGetUUID, part)) if part else None
            if uuid and text_of(uuid).lower().startswith(name.lower()):
                outer = or_none(partial(driver.nvmlDeviceGetGpuInstanceId, part))
                inner = or_none(partial(driver.nvmlDeviceGetComputeInstanceId, part))
                return None if outer is None or inner is None else (int(outer), int(inner))
    return None
