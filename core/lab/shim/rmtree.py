"""Removal of folders in which a run has written."""
# ruff: noqa: PTH101, PTH106, PTH108

from __future__ import annotations

import os
import stat
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:  # to load them takes 5 ms
    from pathlib import Path

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path | str) -> None:
    """Remove a file or folder with all its content. A missing one is no error; links are not followed. Raises OSError.

    Works for any modes and any depth: only one folder is open at a time, so neither the path length, nor the number of
    descriptors, nor Python's stack is a limit. No process that writes in it may be alive.
    """
    with suppress(FileNotFoundError):
        try:
            place = _opened(path)
        except NotADirectoryError:
            os.unlink(path)
            return
        try:
            above: list[str] = []  # names of the folders from `path` down to `place`
            left = [_emptied(place)]  # folders that remain in `path`, in each of these, and in `place`
            while above or left[0]:
                if left[-1]:
                    name, within = left[-1].pop(), place
                    place = _opened(name, within)
                    above.append(name)
                    left.append(_emptied(place))
                else:
                    within = place
                    place = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=within)
                    left.pop()
                    os.rmdir(above.pop(), dir_fd=place)
                os.close(within)
        finally:
            os.close(place)
        os.rmdir(path)


def _emptied(folder: int) -> list[str]:
    """Remove the files in an open folder. Returns the names of its subfolders."""
    with os.scandir(folder) as found:
        entries = list(found)
    folders = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.name)
        else:
            with suppress(FileNotFoundError):
                os.unlink(entry.name, dir_fd=folder)
    return folders


def _opened(path: Path | str, within: int | None = None) -> int:
    """A descriptor of a folder, made readable and writable; no link is followed."""
    place = os.open(path, _FOLDER, dir_fd=within)
    try:
        name = f"/proc/self/fd/{place}"
        if (mode := stat.S_IMODE(os.fstat(place).st_mode)) & 0o700 != 0o700:
            os.chmod(name, mode | 0o700)
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(place)
