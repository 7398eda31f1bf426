"""Which runs of a session are on their clock, and whether a model is scored: locked files in one folder.

Each file is locked by the process that it speaks of, so one that was killed is not believed.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH103, PTH104, PTH108, PTH118, PTH208

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

_CLOCK, _SCORING = "clock", "scoring"


def is_locked(path: str) -> bool:
    """Whether a living process holds the lock of this file or folder, which the kernel releases however that ends."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # it may be a pipe
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


class ClockRegister:
    """The folder, as the owner of one entry sees it. `owner`: a name without dots, such as the number of a run."""

    def __init__(self, folder: str, owner: str) -> None:
        self._folder = folder
        self._owner = owner
        self._name = ""
        self._fd = -1
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def clock(self, processors: float) -> None:
        """Say that the owner is on its clock, on which it has so many processors."""
        self._enter(f"{_CLOCK}.{self._owner}.{round(1000 * processors)}")

    def scoring(self) -> None:
        """Say that the owner's model is scored."""
        self._enter(f"{_SCORING}.{self._owner}.0")

    def leave(self) -> None:
        """Withdraw the entry. Idempotent."""
        if self._fd >= 0:
            with suppress(OSError):
                os.unlink(os.path.join(self._folder, self._name))
            os.close(self._fd)
            self._fd = -1

    def others(self) -> tuple[float, bool]:
        """(processors of all other runs on their clock, whether a model of another owner is scored)."""
        processors, scoring = 0.0, False
        with suppress(FileNotFoundError):
            for name in os.listdir(self._folder):
                kind, owner, number = [*name.split("."), "", ""][:3]
                if kind in (_CLOCK, _SCORING) and owner != self._owner and self._alive(name):
                    processors += int(number) / 1000
                    scoring = scoring or kind == _SCORING
        return processors, scoring

    def _enter(self, name: str) -> None:
        """Have this entry, in place of another one: there is no moment with none."""
        if self._fd >= 0 and name == self._name:
            return
        before, before_fd = self._name, self._fd
        made = os.path.join(self._folder, f"new.{self._owner}")  # locked before anyone sees it by its name
        fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(made, os.path.join(self._folder, name))
        self._fd, self._name = fd, name
        if before_fd >= 0:
            with suppress(OSError):
                os.unlink(os.path.join(self._folder, before))
            os.close(before_fd)

    def _alive(self, name: str) -> bool:
        path = os.path.join(self._folder, name)
        if is_locked(path):
            return True
        with suppress(OSError):
            os.unlink(path)
        return False
