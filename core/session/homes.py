"""The folders of state, caches and sockets, and what the system does to processes at logout."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs

from core.record.errors import SessionError


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
    """Raises SessionError for a relative path: engine and clients, each in its own folder, would never meet there."""
    path = Path(place)
    if path.is_absolute():
        return path
    full = "/a/folder" if place.startswith("~") else f'"$PWD/{os.path.normpath(place)}"'
    raise SessionError(
        "the folder for state and caches is a relative path: it would be another one in each folder",
        where=place, hint=f"give it in full: export AUTORESEARCH_HOME={full}",
    )  # fmt: skip


def socket_folder() -> Path:
    """A folder of mode 0700 short enough for a socket; falls back to the system's /tmp when home lies too deep."""
    preferred = state_home() / "run"
    if len(os.fsencode(preferred)) + 22 < 104:
        folder = preferred
    else:
        digest = hashlib.sha256(os.fsencode(preferred)).hexdigest()[:8]
        folder = Path("/tmp") / f"autoresearch-{os.getuid()}-{digest}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SessionError(
            f"the folder for the engine's socket cannot be made ({str(error.strerror).lower()})",
            where=str(folder),
            hint="set AUTORESEARCH_HOME to a folder you can write",
        ) from error
    info = folder.stat()
    if info.st_uid != os.getuid():
        raise SessionError("the socket folder belongs to another user", where=str(folder), hint="remove it")
    if info.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def kills_user_processes() -> bool:
    """Whether logind is set to kill what a user leaves running at logout."""
    if not Path("/run/systemd/system").is_dir():
        return False
    files = [Path("/etc/systemd/logind.conf"), *sorted(Path("/etc/systemd/logind.conf.d").glob("*.conf"))]
    setting = "no"
    for file in files:
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            key, _, value = line.partition("=")
            if key.strip() == "KillUserProcesses":
                setting = value.strip().lower()
    return setting in ("yes", "true", "1", "on")
