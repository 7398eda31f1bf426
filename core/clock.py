"""Clock of all logged and measured times: Unix time that never jumps

Setting the machine's clock during a session would otherwise end a budget of hours, give runs a negative length, or
reverse the order of events.
"""

from __future__ import annotations

import time

# Advances during suspend, as the time of day does; not every system has it.
_EVEN = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
EPOCH = time.time() - time.clock_gettime(_EVEN)  # Unix time at which that clock was 0, as of this process's start


def now() -> float:
    """Unix seconds: the machine's clock at the start of this process, plus the time elapsed since."""
    return EPOCH + time.clock_gettime(_EVEN)
