"""The driver's GPUs, and those of them that CUDA_VISIBLE_DEVICES allows, by the rules of CUDA"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, TypeVar

from core.lab.gpu import nodes
from core.record.errors import UsageError

T = TypeVar("T")

TURN = threading.RLock()  # a reading and a new look at the driver take turns
VARIABLE = "CUDA_VISIBLE_DEVICES"
_NO_GPU = ("", "-1", "none", "void", "nodevfiles")  # of CUDA, of Slurm and of container runtimes
_SLICE = re.compile(r"^MIG-([0-9a-f]{8})[0-9a-f-]*$", re.IGNORECASE)  # a part of a card, by its UUID


@dataclass(frozen=True, slots=True)
class Gpu:
    """A card of the driver. `trouble` is the driver's word when it cannot be used (lost, forbidden, broken)."""

    index: int
    handle: Any
    uuid: str
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Allowed:
    """`slots` for each card or slice in the order of the variable, and what of it was left out, in words. `broken`:
    something was left out that does not work.
    """

    slots: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    broken: bool = False


def or_none(read: Callable[[], T]) -> T | None:
    """The result, or None: each driver or card raises another exception for a missing function or sensor."""
    try:
        return read()
    except Exception:
        return None


def text_of(value: Any) -> str:
    """A text of NVML, which is bytes in some versions."""
    return value.decode() if isinstance(value, bytes) else str(value)


@cache
def nvml() -> Any:
    """The NVML module, initialised, or None where there is no driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        return None
    return pynvml


def driver_version() -> str:
    """Version of the driver; "" without one."""
    driver = nvml()
    return text_of(or_none(driver.nvmlSystemGetDriverVersion) or "") if driver else ""


_numbers: dict[str, int] = {}  # of each card that this process has seen, by its UUID


@cache
def gpus() -> tuple[Gpu, ...]:
    """Every card that the driver counts, in its order (that of the bus); one that does not answer has a `trouble`.

    A card keeps the number that it had at first, and stays in the list when the driver does not list it any more.
    """
    driver = nvml()
    count = int(or_none(driver.nvmlDeviceGetCount) or 0) if driver else 0
    found = {gpu.uuid or f"{gpu.index}": gpu for gpu in (_gpu(driver, index) for index in range(count))}
    for uuid, number in _numbers.items():
        silent = found.pop(str(number), None)
        trouble = silent.trouble if silent else "the driver does not list it"
        found[uuid] = replace(found[uuid], index=number) if uuid in found else Gpu(number, None, uuid, trouble)
    _numbers.update((gpu.uuid, gpu.index) for gpu in found.values() if gpu.uuid)
    return tuple(sorted(found.values(), key=lambda gpu: gpu.index))


def refresh() -> None:
    """Ask the driver again: what it said before is void once it was reloaded or has lost a card."""
    with TURN:
        if driver := nvml():
            or_none(driver.nvmlShutdown)
        nvml.cache_clear()
        gpus.cache_clear()


def _gpu(driver: Any, index: int) -> Gpu:
    try:
        handle = driver.nvmlDeviceGetHandleByIndex(index)
        return Gpu(index, handle, text_of(driver.nvmlDeviceGetUUID(handle)))
    except Exception as error:
        return Gpu(index, None, "", str(error) or type(error).__name__)


def usable() -> list[Gpu]:
    """The cards that answer."""
    return [gpu for gpu in gpus() if not gpu.trouble]


def allowed() -> Allowed:
    """The slots that this process's CUDA_VISIBLE_DEVICES allows; no more than CUDA would see.

    As CUDA does, it ends at the first entry that names no card. Raises UsageError when that is the first entry:
    a wrong name is not a wish to use no card.
    """
    broken = tuple(f"gpu{gpu.index} is left out: {gpu.trouble}" for gpu in gpus() if gpu.trouble)
    given = os.environ.get(VARIABLE)
    if none_wanted():
        return Allowed((), (f"{VARIABLE}={given} allows no GPU",) if gpus() else ())
    if given is None or not gpus():
        broken = broken or _silent_driver()
        return Allowed(tuple(f"gpu{gpu.index}" for gpu in usable()), broken, bool(broken))
    entries = [part.strip() for part in given.split(",")]
    slots: list[str] = []
    left_out: list[str] = []
    for position, entry in enumerate(entries):
        named = _named(entry)
        if isinstance(named, str):
            if not slots and not left_out:
                raise UsageError(f"{entry!r} in {VARIABLE} {named}", where=VARIABLE, hint=_hint())
            left_out.append(f"{','.join(entries[position:])} in {VARIABLE} is left out: {entry!r} {named}")
            break
        if isinstance(named, Gpu) and named.trouble:
            left_out.append(f"gpu{named.index} is left out: {named.trouble}")
            continue
        slot = _slice_slot(entry) if named is None else f"gpu{named.index}"
        if slot not in slots:
            slots.append(slot)
    return Allowed(tuple(slots), tuple(left_out), bool(left_out))


def none_wanted() -> bool:
    """Whether CUDA_VISIBLE_DEVICES says that no GPU may be used."""
    return os.environ.get(VARIABLE, "0").split(",")[0].strip().lower() in _NO_GPU


def driver_trouble() -> str:
    """Why there is no driver, in the words of its management library (NVML); "" where that answers."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:
        return str(error) or type(error).__name__
    return ""


def _silent_driver() -> tuple[str, ...]:
    """Why cards whose device files are there are not used; nothing when the driver counts cards, or none is there."""
    files = nodes.cards_here()
    if gpus() or not files:
        return ()
    why = driver_trouble() or "counts no card"
    said = f"{', '.join(files)}: not used, since the driver's management library (NVML) says: {why}"
    return (f"{said}; run nvidia-smi, and start a container with NVIDIA_DRIVER_CAPABILITIES=compute,utility",)


def _named(entry: str) -> Gpu | str | None:
    """The card that an entry names, None for a slice of a card, or why it names none."""
    if entry.isdecimal():
        return next((gpu for gpu in gpus() if gpu.index == int(entry)), None) or "is the number of no GPU"
    if _SLICE.match(entry):
        known = slices()
        return None if not known or any(uuid.lower().startswith(entry.lower()) for uuid in known) else "names no slice"
    found = [gpu for gpu in gpus() if len(entry) > len("GPU-") and gpu.uuid.lower().startswith(entry.lower())]
    if len(found) == 1:
        return found[0]
    return f"fits {len(found)} GPUs" if found else "names no GPU"


def _hint() -> str:
    cards = " ".join(f"{gpu.index} ({gpu.uuid})" for gpu in usable())
    return f"the GPUs here are {cards}: export {VARIABLE}={usable()[0].index}" if cards else f"unset {VARIABLE}"


def _slice_slot(entry: str) -> str:
    found = _SLICE.match(entry)
    return f"gpu-{found[1].lower()}" if found else entry


def visible(slot: str) -> str:
    """What CUDA_VISIBLE_DEVICES is in a run of `slot`: the number of a card, or the full name of a slice.

    Beside a card that does not answer it is the card's UUID: CUDA may count the cards that answer only. A slice is
    looked up by the beginning of its UUID, which its slot is named by.
    """
    card = card_name(slot)
    name = card.removeprefix("gpu")
    if name.startswith("-"):
        entries = [part.strip() for part in os.environ.get(VARIABLE, "").split(",")]
        return next((part for part in [*entries, *slices()] if _slice_slot(part) == card), f"MIG{name}")
    if any(gpu.trouble for gpu in gpus()):
        return next((gpu.uuid for gpu in gpus() if gpu.index == int(name) and gpu.uuid), name)
    return name


def variables(slot: str) -> dict[str, str]:
    """The variables by which CUDA sees the card of `slot` alone, numbered as the driver numbers them."""
    if not slot.startswith("gpu"):
        return {VARIABLE: ""}
    return {VARIABLE: visible(slot), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def card_name(slot: str) -> str:
    """The card or slice of a GPU slot, `gpu0` for `gpu0.1`; several slots may share one."""
    return slot.partition(".")[0]


def uuid_of(slot: str) -> str:
    """UUID of the card or the slice of a GPU slot; "" for a CPU slot, and where it is not known."""
    name = card_name(slot)
    if name.startswith("gpu-"):
        return next((uuid for uuid in slices() if _slice_slot(uuid) == name), "")
    return next((gpu.uuid for gpu in gpus() if f"gpu{gpu.index}" == name), "")


def memory_of(slot: str) -> tuple[int, int] | None:
    """Memory of a slot's card that is in use, and all of it, in bytes; None where that is not known."""
    found = _asked(card_of(slot), "nvmlDeviceGetMemoryInfo")
    return (int(found.used), int(found.total)) if found else None


def memory_errors(slot: str) -> int | None:
    """Uncorrected errors of the memory of a slot's card since the driver was loaded; None where that is not known."""
    found = _asked(card_of(slot), "nvmlDeviceGetTotalEccErrors", 1, 0)
    return None if found is None else int(found)


def card_model(card: Gpu | None) -> str:
    """The product name of a card, such as `NVIDIA H100 80GB HBM3`; "" where there is none or it is not known."""
    return text_of(_asked(card, "nvmlDeviceGetName") or "")


def capability(card: Gpu) -> tuple[int, int] | None:
    """The compute capability of a card; None where it is not known."""
    found = _asked(card, "nvmlDeviceGetCudaComputeCapability")
    return (int(found[0]), int(found[1])) if found else None


def _asked(card: Gpu | None, function: str, *arguments: int) -> Any:
    """What a function of NVML answers for a card; None without a card, and for one that does not answer."""
    with TURN:
        return or_none(lambda: getattr(nvml(), function)(card.handle, *arguments)) if card and card.handle else None


def card_of(slot: str) -> Gpu | None:
    """The card of a slot, or that its slice is of; None for a CPU slot, and where the driver does not know it."""
    name = card_name(slot)
    if name.startswith("gpu-"):
        return next((gpu for uuid, (gpu, _) in slices().items() if _slice_slot(uuid) == name), None)
    return next((gpu for gpu in gpus() if f"gpu{gpu.index}" == name), None)


def device_files(slot: str) -> tuple[str, ...]:
    """The device file of the slot's card, or of the card that its slice is of; none for a CPU slot. Those of all cards
    where the driver does not know that card.
    """
    if not slot.startswith("gpu"):
        return ()
    own = card_of(slot)
    if own is None:  # the driver does not say which card the slice is of
        return tuple(f"/dev/nvidia{gpu.index}" for gpu in usable())
    minor = _asked(own, "nvmlDeviceGetMinorNumber")
    return (f"/dev/nvidia{own.index if minor is None else minor}",)


def slices() -> dict[str, tuple[Gpu, Any]]:
    """UUID of every slice of a card, with its card and its handle."""
    driver, found = nvml(), {}
    for gpu in usable():
        for index in range(int(or_none(partial(driver.nvmlDeviceGetMaxMigDeviceCount, gpu.handle)) or 0)):
            part = or_none(partial(driver.nvmlDeviceGetMigDeviceHandleByIndex, gpu.handle, index))
            uuid = or_none(partial(driver.nvmlDeviceGetUUID, part)) if part else None
            if uuid:
                found[text_of(uuid)] = gpu, part
    return found
