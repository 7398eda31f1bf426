"""The state of the machine as a model that is scored reads it: its size is true, the rest the same on every machine.

Honest code reads it for its log, or to choose how much it does at once; what changes there is a message between
processes (docs/sandbox.md).
"""

from __future__ import annotations

import os


def files() -> dict[str, str]:
    """The content of each file of /proc by path: half of the memory is in use, and nothing runs."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 10
    memory = {"MemTotal": total, "MemFree": total // 2, "MemAvailable": total // 2, "Buffers": 0, "Cached": 0,
              "SwapCached": 0, "Active": 0, "Inactive": 0, "SwapTotal": 0, "SwapFree": 0, "Shmem": 0,
              "Slab": 0, "SReclaimable": 0}  # fmt: skip
    own = {"VmPeak": total // 2, "VmSize": total // 2, "VmHWM": 1 << 20, "VmRSS": 1 << 20, "VmSwap": 0}
    one = " 0" * 10
    processors = "".join(f"cpu{number}{one}\n" for number in range(os.cpu_count() or 1))
    return {
        "/proc/meminfo": "\n".join(f"{name}: {size:>15} kB" for name, size in memory.items()),
        "/proc/loadavg": "0.00 0.00 0.00 1/1 2",
        "/proc/stat": f"cpu {one}\n{processors}intr 0\nctxt 0\nbtime 0\nprocesses 2\nprocs_running 1\nprocs_blocked 0",
        "/proc/self/status": "Name:\tpython\nState:\tR (running)\n"
        + "\n".join(f"{name}:\t{size:>8} kB" for name, size in own.items()),
        "/proc/self/statm": f"{total // 8} {1 << 18} {1 << 16} 1 0 {1 << 18} 0",
    }
