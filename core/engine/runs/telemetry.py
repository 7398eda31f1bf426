"""What a device does while a run is on its clock: clocks and throttle reasons, for the log."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from core.lab.device import Devices
from core.record.pulse import DeviceReading

EVERY = 2.0  # seconds between two looks


@dataclass(slots=True)
class Readings:
    """Those of one run so far."""

    taken: list[DeviceReading] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Median and lowest clock in MHz, the highest temperature in °C, every reason to throttle that was seen."""
        if not self.taken:
            return {}
        clocks = [r.clock_mhz for r in self.taken if r.clock_mhz is not None]
        heat = [r.temperature for r in self.taken if r.temperature is not None]
        return {
            "name": self.taken[-1].label,
            "clock_mhz": median(clocks) if clocks else None,
            "clock_mhz_least": min(clocks, default=None),
            "temperature": max(heat, default=None),
            "throttle": ", ".join(dict.fromkeys(r.throttle for r in self.taken if r.throttle)),
            "readings": len(self.taken),
        }


class DeviceSampler:
    """Reads a slot's device, one reading at a time however many runs there are."""

    def __init__(self) -> None:
        self._devices = Devices()
        self._turn = threading.Lock()

    def read(self, slot: str) -> DeviceReading:
        """The slot's device now; the processor for a CPU slot."""
        with self._turn:
            readings = {reading.name: reading for reading in self._devices.read()}
        return readings.get(slot) or readings["cpu"]

    async def follow(self, slot: str, into: Readings, on_clock: Callable[[], bool]) -> None:
        """Read every two seconds while the run is on its clock, until cancelled."""
        while True:
            if on_clock():
                into.taken.append(await asyncio.to_thread(self.read, slot))
            await asyncio.sleep(EVERY)
