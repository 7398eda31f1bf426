"""Files that processes hold are read into memory, so that none of their pages is left to tell something by.

Whether a page of a file is in memory is kept by the kernel for all: who reads a page that nobody has read leaves a bit.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from collections.abc import Collection
from pathlib import Path

from nanotrain.process_limits import LIBC, PAGE_BYTES

_CACHESTAT = 451  # Linux 6.5, the same number on all machines
_CHUNK = 1 << 20


class HeldFiles:
    """Regular files that processes have open or mapped: their sizes in bytes, by a path that leads to each."""

    def __init__(self, pids: Collection[int]) -> None:
        self.sizes: dict[str, int] = {}
        seen: set[tuple[int, int]] = set()
        for pid in pids:
            for path in (*_mapped(pid), *_opened(pid)):
                with contextlib.suppress(OSError):
                    status = os.stat(path)  # noqa: PTH116 - of hundreds of files
                    if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
                        seen.add((status.st_dev, status.st_ino))
                        self.sizes[path] = status.st_size

    def read(self, most: int) -> None:
        """Bring them into memory, the smallest first, as far as `most` bytes hold them. Fast where they are."""
        buffer = memoryview(bytearray(_CHUNK))
        for path, size in sorted(self.sizes.items(), key=lambda one: one[1]):
            if size > most:
                return
            most -= size
            with contextlib.suppress(OSError):
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                try:
                    os.pread(file, 1, 0)  # the time of access changes once a day, and now
                    if _pages_in_memory(file) < -(-size // PAGE_BYTES):
                        for offset in range(0, size, _CHUNK):
                            os.preadv(file, [buffer], offset)
                finally:
                    os.close(file)


def _mapped(pid: int) -> list[str]:
    """Paths of the files that a process has mapped; a sandbox shows them where they are outside it."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape").splitlines()
        return list(dict.fromkeys(line[line.index("/") :] for line in lines if "/" in line))
    return []


def _opened(pid: int) -> list[str]:
    """Files that a process has open; paths that lead to them wherever they are."""
    with contextlib.suppress(OSError):
        return [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]  # noqa: PTH208
    return []


def _pages_in_memory(file: int) -> int:
    """Pages of an open file that are in memory; 0 where the kernel does not say."""
    found = (ctypes.c_uint64 * 5)()
    whole = (ctypes.c_uint64 * 2)()
    call = (ctypes.c_long(_CACHESTAT), ctypes.c_long(file), whole, found, ctypes.c_long(0))
    return int(found[0]) if LIBC.syscall(*call) == 0 else 0
