"""Removal of temporary files that killed engines and shims left behind."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from core.lab.shim.clocks.clock_register import is_locked
from core.lab.shim.rmtree import remove_tree
from core.temporary import HELD_PREFIX

LINK_PREFIX = "autoresearch-tmp-"  # short names of runs' temporary folders
FOLDER_PREFIXES = (  # each in use for seconds, or as long as a model is scored: minutes
    "autoresearch-add-", "autoresearch-imports-", "autoresearch-index-", "autoresearch-key-", "autoresearch-merge-",
    "autoresearch-probe-", "autoresearch-python-", "autoresearch-scored-", "autoresearch-sign-",
)  # fmt: skip
SOCKET_PREFIX = "autoresearch-"  # and the user's id: engines' sockets, where the home's path is too long for them
STALE_SECONDS = 3600.0


def remove_stale(place: Path | None = None) -> list[str]:
    """Remove stale files of this user in `place` (default: the temporary folder). Returns their names; never raises.

    Stale are links to folders that are gone, folders whose process has died (`core.temporary`), and other folders with
    our names that are unchanged for an hour (a socket folder only when it is empty).
    """
    try:
        entries = list(os.scandir(place or tempfile.gettempdir()))
    except OSError:
        return []
    removed = []
    for entry in entries:
        with suppress(OSError):
            if _remove_if_stale(Path(entry.path)):
                removed.append(entry.name)
    return sorted(removed)


def _remove_if_stale(path: Path) -> bool:
    info = path.lstat()
    if info.st_uid != os.getuid():
        return False
    # By the wall clock, as file times are: where it was set, an hour too few or too many does no harm.
    old = time.time() - info.st_mtime > STALE_SECONDS
    dangling = path.name.startswith(LINK_PREFIX) and path.is_symlink() and not path.exists()
    left = path.name.startswith(HELD_PREFIX) and not is_locked(str(path))
    if dangling or left or (old and path.name.startswith(FOLDER_PREFIXES)):
        remove_tree(path)
    elif old and path.name.startswith(f"{SOCKET_PREFIX}{os.getuid()}-"):
        path.rmdir()  # fails while an engine has its socket in it
    else:
        return False
    return True
