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
_FULL_MESSAGES = ("No space left on device", "Disk quota exceeded", "unable to write file")  # a checkout tells no errno
_Result = TypeVar("_Result")


def retry_when_full(work: Callable[..., _Result]) -> Callable[..., _Result]:
    """A method that is repeated until the disk has space, while its object's attribute `retry_when_full` is true.

    Only for an idempotent method of an object with a `common_dir` on that disk. Otherwise its error is raised. The
    object's `waits_for_space` says why it waits.
    """

    @functools.wraps(work)
    def repeated(self: Any, *args: Any, **more: Any) -> _Result:
        while True:
            try:
                done = work(self, *args, **more)
                self.waits_for_space = ""
                return done
            except (LabError, OSError) as error:
                full = _is_full(error)
                if not (self.retry_when_full and (full or disk_trouble(self.common_dir))):
                    self.waits_for_space = ""
                    raise
                # A checkout that does not fit is removed, and then some space is free.
                self.waits_for_space = (
                    f"the disk has too little room for git: {getattr(error, 'what', error)}" if full else ""
                )
            time.sleep(RETRY_SECONDS)
            while self.retry_when_full and disk_trouble(self.common_dir):
                time.sleep(RETRY_SECONDS)

    return repeated


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(message in str(error) for message in _FULL_MESSAGES)
