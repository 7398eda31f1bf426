"""Removing folders that code under test has written in."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path


def remove_tree(path: Path) -> None:
    """Remove a file or folder whatever its modes are; symbolic links are not followed. Missing is fine."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        if path.exists():  # something in it vanished under our hands: once more
            shutil.rmtree(path, ignore_errors=True)
    except PermissionError:
        # A folder without write or search permission: open each one up from the top, then try again.
        with contextlib.suppress(OSError):
            path.chmod(0o700)
        for place, folders, _ in os.walk(path):
            for folder in (Path(place, name) for name in folders):
                if not folder.is_symlink():
                    with contextlib.suppress(OSError):
                        folder.chmod(0o700)
        shutil.rmtree(path)
