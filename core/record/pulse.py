"""Pulse: device readings and progress, sent to each client once a second and never logged

A newer Pulse replaces an older one. It is also the heartbeat of the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

POWER_CAP = "power cap"  # a card's usual state at full load, as `throttle`


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReading:
    """One device. Shares are 0..1, memory in bytes, power in watts, temperature in °C; None: unknown."""

    name: str  # "cpu", "gpu0"
    label: str  # "2 cores", "NVIDIA H100 80GB HBM3"
    utilisation: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    power: float | None = None
    temperature: float | None = None
    clock_mhz: float | None = None
    throttle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotReading:
    """One slot. `fraction`: 0..1 of the run's budget, None while its clock is not running; `seconds`: in the phase."""

    slot: str
    experiment: int | None = None
    run: int | None = None
    phase: str = "idle"
    fraction: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    time: float
    slots: tuple[SlotReading, ...] = ()
    devices: tuple[DeviceReading, ...] = ()
    thinking: int | None = None  # experiment that the researcher works on, for the longest time of several
    thinking_seconds: float = 0.0
    waiting: str = ""  # why the researcher waits, "" when it does not
    thoughts: tuple[int, ...] = ()  # all experiments that it works on, the oldest thought first
    thought_seconds: tuple[float, ...] = ()  # of each
    trouble: str = ""  # why the engine cannot write its log (a full disk)
