"""Readings of a device during a run's clock: clock rate, temperature, reasons to throttle."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from core.lab.device import Devices
from core.lab.gpu import cards
from core.lab.gpu.card_health import CardHealth
from core.record.pulse import DeviceReading

SAMPLE_SECONDS = 2.0


def facts(readings: Sequence[DeviceReading]) -> dict[str, Any]:
    """Median and lowest clock in MHz, highest temperature in °C, all reasons to throttle; {} without readings."""
    if not readings:
        return {}
    clocks = [r.clock_mhz for r in readings if r.clock_mhz is not None]
    heat = [r.temperature for r in readings if r.temperature is not None]
    return {
        "name": readings[-1].label,
        "clock_mhz": median(clocks) if clocks else None,
        "clock_mhz_least": min(clocks, default=None),
        "temperature": max(heat, default=None),
        "throttle": ", ".join(dict.fromkeys(r.throttle for r in readings if r.throttle)),
        "readings": len(readings),
    }


def memory_words(slot: str, readings: Sequence[DeviceReading], health: CardHealth) -> str:
    """How much memory the card of a slot has, had in use while the run trained, and has free now."""
    used = max((r.memory_used for r in readings if r.memory_used is not None), default=None)
    parts = (("has {} GB", health.total), ("{} GB were in use at most on the clock", used),
             ("{} GB are free now", health.free))  # fmt: skip
    known = [words.format(f"{size / 2**30:.1f}") for words, size in parts if size is not None]
    return f"{slot} {', '.join(known)}" if known else f"the memory of {slot} is not known"


class DeviceSampler:
    """Reads the device of a slot; concurrent runs take turns."""

    def __init__(self) -> None:
        self._devices = Devices()
        self._turn = threading.Lock()

    def read(self, slot: str) -> DeviceReading:
        """Present reading of the slot's device; the processor for a CPU slot."""
        with self._turn:
            readings = {reading.name: reading for reading in self._devices.read()}
        card = cards.card_of(slot)
        return readings.get(f"gpu{card.index}" if card else slot) or readings["cpu"]

    async def follow(self, slot: str, into: list[DeviceReading], on_clock: Callable[[], bool]) -> None:
        """Read every two seconds while `on_clock` is true, until cancelled."""
        while True:
            if on_clock():
                into.append(await asyncio.to_thread(self.read, slot))
            await asyncio.sleep(SAMPLE_SECONDS)
