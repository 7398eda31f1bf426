"""Work in git that outlasts a full disk."""

from __future__ import annotations

import errno
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from core.record.errors import LabError
from core.session.disk import disk_trouble

RETRY_SECONDS = 1.0
TRIES = 3  # where nothing is short of space any more by the time one looks
_WORDS = ("No space left on device", "Disk quota exceeded")
_Result = TypeVar("_Result")


class Patient(Protocol):
    """What `outlasting` needs of the object whose methods it wraps; `patient` may be turned off from elsewhere."""

    patient: bool
    common_dir: Path


def outlasting(work: Callable[..., _Result]) -> Callable[..., _Result]:
    """A method that is begun again, for as long as it takes, when it fails for want of space and its owner is patient.

    Only for what may be done twice. Without patience it raises what it raised.
    """

    @functools.wraps(work)
    def again(self: Patient, *args: Any, **more: Any) -> _Result:
        tries = 0
        while True:
            try:
                return work(self, *args, **more)
            except (LabError, OSError) as error:
                tries += 1
                full = bool(disk_trouble(self.common_dir))
                if not self.patient or not (full or (_for_want_of_space(error) and tries < TRIES)):
                    raise
            time.sleep(RETRY_SECONDS)
            while self.patient and disk_trouble(self.common_dir):
                time.sleep(RETRY_SECONDS)

    return again


def _for_want_of_space(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(word in str(error) for word in _WORDS)
