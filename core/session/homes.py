"""Folders of state, caches and sockets"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs

from core.record.errors import SessionError

MAX_FOLDER_BYTES = 81  # of the path: with /<16 digits>.sock it fits the 104 bytes of the smallest limit


def state_home() -> Path:
    """`$AUTORESEARCH_HOME`, or the platform's state folder (`~/.local/state/autoresearch-tui`). Raises SessionError."""
    return _own_home() or _absolute(platformdirs.user_state_dir("autoresearch-tui"))


def cache_home() -> Path:
    """`$AUTORESEARCH_HOME/cache`, or the platform's cache folder (`~/.cache/autoresearch-tui`). Raises SessionError."""
    own = _own_home()
    return own / "cache" if own else _absolute(platformdirs.user_cache_dir("autoresearch-tui"))


def _own_home() -> Path | None:
    value = os.environ.get("AUTORESEARCH_HOME")
    return _absolute(os.path.expanduser(value)) if value else None  # noqa: PTH111 - Path's raises where there is no home


def _absolute(place: str) -> Path:
    """Raises SessionError for a relative path, which is another folder for each working directory."""
    path = Path(place)
    if path.is_absolute():
        return path
    full = "/a/folder" if place.startswith("~") else f'"$PWD/{os.path.normpath(place)}"'
    raise SessionError(
        "the folder for state and caches is a relative path, which depends on the working directory",
        where=place, hint=f"give an absolute path: export AUTORESEARCH_HOME={full}",
    )  # fmt: skip


def socket_folder() -> Path:
    """A folder of mode 0700 with a path short enough for a socket: below `state_home`, else in /tmp."""
    folder = state_home() / "run"
    if len(os.fsencode(folder)) > MAX_FOLDER_BYTES:
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
        folder = Path("/tmp") / f"autoresearch-{os.getuid()}-{digest}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SessionError(
            f"could not create the folder for the engine's socket ({str(error.strerror).lower()})",
            where=str(folder),
            hint="set AUTORESEARCH_HOME to a writable folder",
        ) from error
    info = folder.stat()
    if info.st_uid != os.getuid():
        raise SessionError("the socket folder belongs to another user", where=str(folder), hint="remove it")
    if info.st_mode & 0o077:
        folder.chmod(0o700)
    return folder
