"""What the driver says of a card, and what a run's output says of its device

The driver is asked in a process of its own: one that was reloaded answers a new process only, and a card that hangs
does not stop the engine. Whether CUDA starts is in `core/lab/sandbox/card_start.py`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from core.lab.gpu import cards

LOOK_SECONDS = 30.0  # a card that has fallen off the bus can hold a call for seconds
# What a run says when its device is at fault, and at many other times: the look at the card decides.
_DEVICE = re.compile(
    r"cuda|nvidia|\bgpu|\bxid\b|\becc\b|cudnn|cublas|\bnccl|\bnvml|unspecified launch failure|device not ready"
    r"|out of memory|RESOURCE_EXHAUSTED",
    re.IGNORECASE,
)
_NO_DEVICE = re.compile(
    r"CUDA initialization|CUDA unknown error|no NVIDIA driver|No CUDA|driver on your system is too old|no GPU found"
    r"|cuda (is )?not available|falling back to cpu",
    re.IGNORECASE,
)
_NO_MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|OUT_OF_MEMORY|MemoryAllocation|_ALLOC_FAILED|RESOURCE_EXHAUSTED|hold its memory",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CardHealth:
    """`trouble`: why the driver cannot use the card, "" when it can. `errors`: its uncorrected memory errors since the
    driver was loaded; `free` and `total` memory in bytes. None: unknown.
    """

    trouble: str = ""
    errors: int | None = None
    free: int | None = None
    total: int | None = None


def speaks_of_device(output: str) -> bool:
    """Whether a run's output may be about its device."""
    return bool(_DEVICE.search(output))


def speaks_of_no_device(output: str) -> bool:
    """Whether a run's output may say that it goes on without its device."""
    return bool(_NO_DEVICE.search(output))


def speaks_of_memory(output: str) -> bool:
    """Whether a run's output says that the memory of its card was not enough."""
    return bool(_NO_MEMORY.search(output))


def ask_driver(slot: str) -> CardHealth:
    """What the driver says of the card of a GPU slot. Ends after `LOOK_SECONDS` at the latest."""
    card = cards.card_of(slot)
    command = [sys.executable, "-P", "-m", "core.lab.gpu.card_health", card.uuid if card else ""]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LOOK_SECONDS, cwd="/", check=False
        )
        return CardHealth(**json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return CardHealth(trouble=f"the driver gave no answer within {LOOK_SECONDS:g} s")
    except OSError as error:
        return CardHealth(trouble=f"the driver could not be asked: {error}")
    except (ValueError, TypeError):
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return CardHealth(trouble=f"asking the driver ended with {done.returncode}: {last}")


def main() -> None:
    """Print what the driver says of the card with the UUID of the command line; "": only whether it answers."""
    print(json.dumps(asdict(_health(sys.argv[1]))))


def _health(uuid: str) -> CardHealth:
    try:
        import pynvml as driver

        driver.nvmlInit()
        if not uuid:
            return CardHealth()
        card = driver.nvmlDeviceGetHandleByUUID(uuid)
        memory = _read(driver, lambda: driver.nvmlDeviceGetMemoryInfo(card))
        _read(driver, lambda: driver.nvmlDeviceGetUtilizationRates(card))
        errors = _read(driver, lambda: int(driver.nvmlDeviceGetTotalEccErrors(card, 1, 0)))  # since it was loaded
    except Exception as error:
        return CardHealth(trouble=f"the driver says: {error}")
    if memory is None:
        return CardHealth(errors=errors)
    return CardHealth(errors=errors, free=int(memory.free), total=int(memory.total))


def _read(driver: Any, read: Callable[[], Any]) -> Any:
    """What the driver answers; None for what a card, a slice or an old driver does not provide."""
    try:
        return read()
    except driver.NVMLError as error:
        if error.value in (driver.NVML_ERROR_NOT_SUPPORTED, driver.NVML_ERROR_FUNCTION_NOT_FOUND,
                           driver.NVML_ERROR_NO_PERMISSION):  # fmt: skip
            return None
        raise


if __name__ == "__main__":
    main()
