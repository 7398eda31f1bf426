"""What is true this second and kept by nobody: device readings, progress, who is thinking.

The engine sends a Pulse once a second to each client; it is also the heartbeat. A newer one replaces an older one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReading:
    """One device. Shares are 0..1, memory in bytes, power in watts, temperature in °C; None: not known here."""

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
    """What a slot is doing. `fraction` 0..1 of the run's budget (None while it has no clock), `seconds` in phase."""

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
    thinking: int | None = None  # experiment being thought about
    thinking_seconds: float = 0.0
    waiting: str = ""  # why the researcher waits, "" when it does not
    engine_memory: int = 0  # bytes
    trouble: str = ""  # what holds the engine up that cannot be logged (a full disk)
