"""Temporary folders that are known to be left over once their process has died, however that was."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

HELD_PREFIX = "autoresearch-held-"


@contextlib.contextmanager
def own_folder(kind: str) -> Iterator[str]:
    """An empty folder, removed at the end. It is locked for this process's life, from before it has its name on, so
    that `core.lab.stale_tmp` removes it after a kill. Where folders cannot be locked, it waits there for an hour.
    """
    folder = tempfile.mkdtemp(prefix=f"autoresearch-{kind}-")
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            name = Path(folder).name.replace("autoresearch-", HELD_PREFIX, 1)
            folder = str(Path(folder).rename(Path(folder).with_name(name)))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
