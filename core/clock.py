"""The time of day for everything that is logged or measured: it runs evenly, whatever is done to the machine's clock.

A clock that is set right (or wrong) in the middle of a session would otherwise end its budget of hours at once, make
runs of negative length, and turn the order of its events round.
"""

from __future__ import annotations

import time

# Counts while the machine sleeps, as the time of day does; not every system has one.
_EVEN = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
EPOCH = time.time() - time.clock_gettime(_EVEN)  # of this process: what to add to that clock


def now() -> float:
    """Unix seconds as the machine's clock told them when this process began, plus what has gone by since."""
    return EPOCH + time.clock_gettime(_EVEN)
