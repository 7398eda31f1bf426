"""Repetition of git writes that fail on a full disk."""

from __future__ import annotations

import errno
import functools
import time
from collections.abc import Callable
from typing import Any, TypeVar

from core.record.errors import LabError
from core.session.disk import disk_trouble

RETRY_SECONDS = 1.0
_MAX_TRIES = 3  # where the disk has space again by the time it is checked
_FULL_MESSAGES = ("No space left on device", "Disk quota exceeded")
_Result = TypeVar("_Result")


def retry_when_full(work: Callable[..., _Result]) -> Callable[..., _Result]:
    """A method that is repeated until the disk has space, while its object's attribute `retry_when_full` is true.

    Only for an idempotent method of an object with a `common_dir` on that disk. Otherwise its error is raised.
    """

    @functools.wraps(work)
    def repeated(self: Any, *args: Any, **more: Any) -> _Result:
        tries = 0
        while True:
            try:
                return work(self, *args, **more)
            except (LabError, OSError) as error:
                tries += 1
                full = bool(disk_trouble(self.common_dir)) or (_is_full(error) and tries < _MAX_TRIES)
                if not (self.retry_when_full and full):
                    raise
            time.sleep(RETRY_SECONDS)
            while self.retry_when_full and disk_trouble(self.common_dir):
                time.sleep(RETRY_SECONDS)

    return repeated


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(message in str(error) for message in _FULL_MESSAGES)
