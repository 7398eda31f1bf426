"""Temporary files that a killed process of ours left where nobody else removes them."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from core.lab.shim.rmtree import remove_tree

LINK = "autoresearch-tmp-"  # short names of runs' temporary folders
FOLDERS = ("autoresearch-index-", "autoresearch-merge-", "autoresearch-probe-")  # each is needed for seconds only
SOCKETS = "autoresearch-"  # and the user's number: the engines' sockets, where the home's path is too long for them
OLD_SECONDS = 3600.0


def sweep(place: Path | None = None) -> list[str]:
    """Remove what earlier engines and shims left in `place` (default: the temporary folder). Returns the names.

    Only what is ours by its name and its owner, and of no use any more: links to folders that are gone, and folders
    that nobody has touched for an hour (those for sockets only when they are empty). Never raises.
    """
    place = place or Path(tempfile.gettempdir())
    removed = []
    try:
        entries = list(os.scandir(place))
    except OSError:
        return []
    for entry in entries:
        path = Path(entry.path)
        try:
            info = entry.stat(follow_symlinks=False)
            if info.st_uid != os.getuid():
                continue
            dangling = entry.name.startswith(LINK) and entry.is_symlink() and not path.exists()
            # By the clock of files: it may have been set, and then an hour too few or too many does no harm.
            old = entry.name.startswith(FOLDERS) and time.time() - info.st_mtime > OLD_SECONDS
            if dangling or old:
                remove_tree(path)
                removed.append(entry.name)
            elif entry.name.startswith(f"{SOCKETS}{os.getuid()}-") and time.time() - info.st_mtime > OLD_SECONDS:
                path.rmdir()  # an engine that lives has its socket in it, and then this fails
                removed.append(entry.name)
        except OSError:
            continue
    return sorted(removed)
