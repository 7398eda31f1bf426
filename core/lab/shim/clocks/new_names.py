"""How many names of missing files the kernel has learned: code that reads data out of them makes it learn very many.

The kernel remembers a name that was looked up, also where there is no such file, and answers faster the next time. So a
run can leave data in names, one bit a name, and a later one read it by the time that each takes; but what it asks for
is known from then on. The number is of the whole machine: others' work only adds to it.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH123

from __future__ import annotations

KNOWN_NAMES = "/proc/sys/fs/dentry-state"  # its first number is that of all known names, its fifth of missing files'


class NewNames:
    """Names of missing files that were new to the kernel, summed over samples: it forgets some as well. `path`: of its
    count.
    """

    def __init__(self, path: str = KNOWN_NAMES) -> None:
        self._path = path
        self._last = self._known()
        self._new = 0

    @property
    def total(self) -> int | None:
        """All so far, at the last sample; None where the kernel does not tell."""
        return None if self._last is None else self._new

    def sample(self) -> None:
        known = self._known()
        if known is not None and self._last is not None:
            self._new += max(0, known - self._last)
        self._last = known

    def _known(self) -> int | None:
        try:
            with open(self._path) as file:
                known, _, _, _, missing, *_ = map(int, file.read().split())
                return missing or known  # 0 before Linux 5.0
        except (OSError, ValueError):
            return None
