"""The compile cache that a run hands on to later runs: what was in it before the run could read any data.

A cache can hold anything. Taken at this moment, by the shim, it holds nothing that was learned from data. Of a plain
command, whose number is its own word, it is taken at the end.
"""
# pathlib and shutil cost as much as the rest of a run's start:
# ruff: noqa: PTH103, PTH118

from __future__ import annotations

import os
import stat

from core.lab.shim.rmtree import remove_tree

NAME = "compiled"  # in a run's folder, where the run itself cannot reach
MAX_BYTES = 300 << 20  # copying more would cost a start more than it saves
_MAX_FILES = 50_000
_CHUNK = 1 << 20


def keep(cache: str, folder: str) -> None:
    """Copy the files in `cache`, in which a live run may write, into the run's folder; nothing where they are too many.
    No link is followed, so nothing comes along that the run cannot read.
    """
    target = os.path.join(folder, NAME)
    try:
        if not _copied(cache, target):
            remove_tree(target)
    except OSError:  # a full disk: later runs compile for themselves
        remove_tree(target)


def _copied(cache: str, target: str) -> bool:
    """Whether all of it was copied, and it is not too much."""
    size = files = 0
    for place, _, names, within in os.fwalk(cache):  # by descriptors, and no link
        folder = os.path.join(target, os.path.relpath(place, cache))
        os.makedirs(folder, mode=0o700, exist_ok=True)
        for name in names:
            try:
                source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=within)
            except OSError:  # a link, or removed since
                continue
            try:
                if stat.S_ISREG(os.fstat(source).st_mode):
                    files += 1
                    size += _copy(source, os.path.join(folder, name), MAX_BYTES - size)
            finally:
                os.close(source)
            if size >= MAX_BYTES or files > _MAX_FILES:
                return False
    return size > 0


def _copy(source: int, path: str, most: int) -> int:
    """Copy an open file, `most` bytes of it; returns its bytes."""
    status, copied = os.fstat(source), 0
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 | status.st_mode & 0o100)
    try:
        while copied < most and (data := os.read(source, min(_CHUNK, most - copied))):
            copied += os.write(target, data)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(target)
    return copied
