"""Devices of the machine (GPUs, processor, memory): readings, slots, and the environment of a slot."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache

from core.lab.container import cores, memory_total, memory_used
from core.lab.gpu import cards
from core.lab.gpu.cards import or_none
from core.record.errors import UsageError
from core.record.pulse import POWER_CAP, DeviceReading

_THROTTLES = (
    (0x8, "hardware slowdown"), (0x40, "hot"), (0x20, "hot (software)"), (0x80, "power brake"), (0x4, POWER_CAP),
)  # fmt: skip
_MAX_CPU_SLOTS = 64
_GPU = "GPU"  # a card whose name is not known
_REFRESH_SECONDS = 60.0  # between two new looks at a driver that has stopped to answer
_SLOT = re.compile(r"^(?:(cpu)\d+|(gpu)(?:\d+|-[0-9a-f]{8})(?:\.\d+)?)$")  # gpu0.1: the second slot of a shared card
MAX_SHARING = 16  # runs on one card


class Devices:
    """Reader of all devices, by NVML and psutil; for one thread at a time. A reading takes about 1 ms per GPU."""

    def __init__(self) -> None:
        import psutil

        self._psutil = psutil
        psutil.cpu_percent(None)  # the first call only starts the interval that the next one measures
        self._refreshed = float("-inf")

    def read(self, slots: tuple[str, ...] | None = None) -> tuple[DeviceReading, ...]:
        """One reading per GPU, then processor and main memory. A value that a device does not provide is None. `slots`:
        of the GPUs those of these slots alone.
        """
        with cards.TURN:
            found = [self._gpu(gpu) for gpu in _used(slots)]
            silent = any(reading.memory_used is None and reading.utilisation is None for reading in found)
            broken = silent or any(gpu.trouble for gpu in cards.gpus())
            if broken and time.monotonic() > self._refreshed + _REFRESH_SECONDS:
                self._refreshed = time.monotonic()
                cards.refresh()  # the driver was reloaded, or a card is lost or back
        return (*found, self._cpu())

    def describe(self, slots: tuple[str, ...] | None = None) -> str:
        """The machine in one line: `2 × NVIDIA H100 80GB HBM3 · 16 cores · 126 GB` or `2 cores · 24 GB, no GPU`.

        `slots`: with the cards of these slots alone.
        """
        size = memory_total()
        memory = f"{size / 2**30:.0f} GB" if size >= 2**30 else f"{size >> 20} MB"
        names = Counter(cards.card_model(gpu) or _GPU for gpu in _used(slots))
        gpus = [f"{count} × {name}" if count > 1 else name for name, count in names.items()]
        rest = f"{_cores_words()} · {memory}"
        return " · ".join([*gpus, rest]) if gpus else f"{rest}, no GPU"

    def _cpu(self) -> DeviceReading:
        return DeviceReading(
            name="cpu", label=_cores_words(), utilisation=self._psutil.cpu_percent(None) / 100,
            memory_used=memory_used(), memory_total=memory_total(), temperature=self._cpu_heat(),
            clock_mhz=or_none(lambda: self._psutil.cpu_freq().current) or None,
        )  # fmt: skip

    def _cpu_heat(self) -> float | None:
        groups = or_none(self._psutil.sensors_temperatures) or {}
        for name in ("coretemp", "k10temp", "zenpower", "cpu_thermal"):
            if groups.get(name):
                return float(max(reading.current for reading in groups[name]))
        return None

    def _gpu(self, gpu: cards.Gpu) -> DeviceReading:
        nvml, handle = cards.nvml(), gpu.handle
        memory = or_none(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        reasons = or_none(lambda: int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))) or 0
        return DeviceReading(
            name=f"gpu{gpu.index}", label=cards.card_model(gpu) or _GPU,
            utilisation=or_none(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100),
            memory_used=int(memory.used) if memory else None, memory_total=int(memory.total) if memory else None,
            power=or_none(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
            temperature=or_none(lambda: float(nvml.nvmlDeviceGetTemperature(handle, 0))),
            clock_mhz=or_none(lambda: float(nvml.nvmlDeviceGetClockInfo(handle, 1))),
            throttle=next((word for bit, word in _THROTTLES if reasons & bit), ""),
        )  # fmt: skip


def _used(slots: tuple[str, ...] | None) -> list[cards.Gpu]:
    """The cards of these slots that answer; None: all."""
    own = None if slots is None else {card.index for card in map(cards.card_of, slots) if card}
    return [gpu for gpu in cards.usable() if own is None or gpu.index in own]


@cache
def driver() -> str:
    """Version of the NVIDIA driver and of the newest CUDA it supports; "" without a driver."""
    version = cards.driver_version()
    cuda = or_none(lambda: int(cards.nvml().nvmlSystemGetCudaDriverVersion())) if version else None
    return f"{version} (CUDA {cuda // 1000}.{cuda % 1000 // 10})" if cuda else version


def _cores_words() -> str:
    count = cores()
    return f"{count} core{'s' * (count != 1)}"


def default_slots(*, alone: bool = False) -> tuple[str, ...]:
    """One slot per GPU that CUDA_VISIBLE_DEVICES allows; without one two CPU slots, or one on a single core. `alone`:
    only one, for a metric that other runs on the machine would change.

    Raises UsageError for a CUDA_VISIBLE_DEVICES that names no card, and where no card that it allows can be used.
    """
    allowed = cards.allowed()
    if not allowed.slots and allowed.broken:
        what = "; ".join(["no GPU can be used", *allowed.left_out])
        raise UsageError(what, hint="to run on the processor: --slots cpu:2")
    slots = allowed.slots or tuple(f"cpu{i}" for i in range(min(2, cores())))
    return slots[:1] if alone else slots


def parse_slots(text: str) -> tuple[str, ...]:
    """`cpu:2` → cpu0, cpu1; `gpu:0,1` or `gpu0,gpu1` → gpu0, gpu1; `gpu` and `cpu` alone: all, two.

    Raises UsageError.
    """
    words = text.strip().lower()
    if words.startswith(("gpu-", *(f"gpu{digit}" for digit in range(10)))):  # names, as they are shown
        words = f"gpu:{words}"
    kind, _, rest = words.partition(":")
    hint = "write cpu:2 for two CPU slots, or gpu:0,1 for the cards 0 and 1"
    if kind == "cpu" and (rest.isdecimal() or not rest):
        count = int(rest or min(2, cores()))
        if not 1 <= count <= _MAX_CPU_SLOTS:
            raise UsageError(f"{count} CPU slots are not possible: 1 to {_MAX_CPU_SLOTS}", where="--slots", hint=hint)
        return tuple(f"cpu{i}" for i in range(count))
    if kind == "gpu":
        allowed = cards.allowed()
        if not allowed.slots:
            what = "; ".join(["no NVIDIA GPU found (or no driver)", *allowed.left_out])
            raise UsageError(what, where="--slots", hint="use --slots cpu:2")
        parts = [part.strip().removeprefix("gpu") for part in rest.split(",")] if rest else []
        if all(_SLOT.match(f"gpu{part}") for part in parts):
            own = (cards.card_name(part) for part in parts)
            names = (f"gpu{int(part) if part.isdecimal() else part}" for part in own)
            slots = tuple(dict.fromkeys(names)) or allowed.slots
            if missing := [slot for slot in slots if slot not in allowed.slots]:
                what = f"a session may not use {missing[0]}, only {', '.join(allowed.slots)}"
                raise UsageError("; ".join([what, *allowed.left_out]), where="--slots", hint=hint)
            return slots
    raise UsageError(f"{text!r} does not name slots", where="--slots", hint=hint)


def kind_of(slots: Sequence[str]) -> str:
    """What runs in these slots use, `cuda` or `cpu`: all slots of a session are of one kind."""
    return "cuda" if slots and slots[0].startswith("gpu") else "cpu"


def option_of(slot: str) -> str:
    """The value of --slots that names the card or slice of a GPU slot; that of one CPU slot."""
    return "cpu:1" if slot.startswith("cpu") else f"gpu:{cards.card_name(slot).removeprefix('gpu')}"


def shared(slots: tuple[str, ...], memory: int | None) -> tuple[str, ...]:
    """As many slots on each card as runs of `memory` bytes fit, `gpu0.0` and `gpu0.1`; a slice of a card has one.

    Raises UsageError for a card that is too small for one run.
    """
    names: list[str] = []
    for slot in slots:
        size = None if memory is None or slot.startswith(("cpu", "gpu-")) else cards.memory_of(slot)
        fit = min(MAX_SHARING, size[1] // memory) if size and memory else 1
        if size and memory and not fit:
            what = f"{slot} has {size[1] / 2**30:.1f} GB, and a run needs {memory / 2**30:.1f} (gpu_memory)"
            raise UsageError(what, where="--slots", hint="name other cards, or lower gpu_memory below [slots]")
        names += [slot] if fit == 1 else [f"{slot}.{number}" for number in range(fit)]
    return tuple(names)


def threads_for(slots: tuple[str, ...], asked: int | None) -> int:
    """Threads of a run: as asked; all cores for the only CPU slot; its part of a card's cores where runs share cards;
    else 0, the default of `slot_environment`.
    """
    sharing = max(Counter(map(cards.card_name, slots)).values()) if slots[:1] and slots[0].startswith("gpu") else 1
    if sharing > 1:
        return asked or _share_of_cores(sharing)
    return asked or (cores() if len(slots) == 1 and slots[0].startswith("cpu") else 0)


def _share_of_cores(sharing: int) -> int:
    """The cores of one of `sharing` runs on a card, where all cards are used."""
    return max(1, cores() // (sharing * max(1, len(cards.usable()))))


def threads_words(slots: tuple[str, ...], threads: int) -> tuple[str, str]:
    """How many threads a run in a CPU slot has, and the way to more; "" for GPU slots, on one core, and with all."""
    count, every = threads or 1, cores()
    if not slots or not slots[0].startswith("cpu") or every == 1:
        return "", ""
    said = f"a run has {count} thread{'s' * (count != 1)} of {every} (OMP_NUM_THREADS={count})"
    more = "write [slots] and below it threads = N in program.md, or give a run all cores with --slots cpu:1"
    return f"slots {' '.join(slots)}: {said}", more if count < every else ""


def slot_environment(slot: str, threads: int = 0) -> dict[str, str]:
    """Environment variables that bind a run to its slot: one GPU or none, and `threads`; 0: one thread in a CPU slot,
    with a GPU its share of the cores.
    """
    match = _SLOT.match(slot)
    if match is None:
        raise UsageError(f"{slot!r} is not a slot", where="--slots")
    # Passive waits free the core for other runs; spinning threads of two runs slow each other down severalfold.
    env = {"OMP_WAIT_POLICY": "PASSIVE", "AUTORESEARCH_SLOT": slot}
    if match[2]:
        share = threads or _share_of_cores(1)
        return {**env, "AUTORESEARCH_DEVICE": "cuda", **cards.variables(slot), "OMP_NUM_THREADS": str(share)}
    count = str(threads or 1)
    return {**env, "AUTORESEARCH_DEVICE": "cpu", **cards.variables(slot), "OMP_NUM_THREADS": count,
            "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}  # fmt: skip
