"""Locks of cards: one session at a time uses a card, also where several users share a machine

A lock is an flock, which ends with its process, on a file of the user's own for each card, in a folder of /tmp that all
users share. Nobody writes into a file of another user, links are not followed, and the file says who holds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from core.lab.gpu import cards
from core.record.errors import SessionError
from core.session.homes import state_home
from core.text import one_line, printable

FOLDER = Path("/tmp/autoresearch-cards")
_MAX_BYTES = 4096  # of what a holder says
_TRIES = 5  # to lock a file: one who only looks at a lock holds it for a moment


class CardLocks:
    """The locks of one session, or of a try; they end with the process or with `release`."""

    def __init__(self, name: str, project: Path) -> None:
        self._says = json.dumps({"session": name, "project": str(project), "pid": os.getpid()})
        self._held: dict[str, int] = {}  # file descriptors, by UUID
        self._uuids: dict[str, str] = {}  # of cards: one that is lost may not tell it any more

    def take(self, slots: Sequence[str]) -> dict[str, str]:
        """Lock the cards of these slots. Returns those slots whose card another session holds, with who that is."""
        taken: dict[str, str] = {}
        for slot in slots:
            uuid = self._uuid(slot)
            if uuid and uuid not in self._held and (holder := self._lock(uuid)):
                taken[slot] = holder
        return taken

    def keep_only(self, slots: Sequence[str]) -> None:
        """Give back the cards that none of these slots is on."""
        kept = {self._uuid(slot) for slot in slots}
        for uuid in [uuid for uuid in self._held if uuid not in kept]:
            os.close(self._held.pop(uuid))

    def _uuid(self, slot: str) -> str:
        card = cards.card_name(slot)
        uuid = self._uuids[card] = self._uuids.get(card) or cards.uuid_of(card)
        return uuid

    def release(self) -> None:
        self.keep_only(())

    def _lock(self, uuid: str) -> str:
        """Lock a card, or return who holds it."""
        folder = _open_folder()
        try:
            if holder := _holder(folder, uuid, apart_from=f"{uuid}.{os.getuid()}"):
                return holder
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.open(f"{uuid}.{os.getuid()}", flags, 0o644, dir_fd=folder)
        except OSError as error:
            return f"something else ({FOLDER}/{uuid}.{os.getuid()}: {str(error.strerror).lower()})"
        finally:
            os.close(folder)
        if not _ours(file) or not _flocked(file, fcntl.LOCK_EX):
            said = _read(file)
            os.close(file)
            return said
        os.fchmod(file, 0o644)  # other users see the lock, whatever the umask
        os.ftruncate(file, 0)
        os.pwrite(file, self._says.encode(), 0)
        self._held[uuid] = file
        return ""


def holder_of(slot: str) -> str:
    """The session that holds the card of a slot, in words; "" when none does. Keeps no lock."""
    uuid = cards.uuid_of(slot)
    if uuid:
        with suppress(OSError, SessionError):
            folder = _open_folder()
            try:
                return _holder(folder, uuid)
            finally:
                os.close(folder)
    return ""


def _open_folder() -> int:
    """The folder of all users; the user's own where that cannot be used."""
    with suppress(OSError):
        with suppress(FileExistsError):
            FOLDER.mkdir()
            FOLDER.chmod(0o1777)
        folder = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        info = os.fstat(folder)
        if os.access(FOLDER, os.W_OK) and (info.st_mode & stat.S_ISVTX or info.st_uid in (0, os.getuid())):
            return folder
        os.close(folder)
    own = state_home() / "cards"
    own.mkdir(parents=True, exist_ok=True)
    return os.open(own, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _holder(folder: int, uuid: str, apart_from: str = "") -> str:
    """Who holds the card, by the files of all users."""
    for name in os.listdir(folder):
        if not name.startswith(f"{uuid}.") or name == apart_from:
            continue
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except OSError:
            continue
        try:
            if not _flocked(file, fcntl.LOCK_SH):
                return _read(file)
        finally:
            os.close(file)
    return ""


def _ours(file: int) -> bool:
    info = os.fstat(file)
    return stat.S_ISREG(info.st_mode) and info.st_uid == os.getuid() and info.st_nlink == 1


def _flocked(file: int, how: int) -> bool:
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(0.01)
        with suppress(OSError):
            fcntl.flock(file, how | fcntl.LOCK_NB)
            return True
    return False


def _read(file: int) -> str:
    """The words of a lock's holder on itself. Another user may have written anything."""
    try:
        info, said = os.fstat(file), json.loads(os.pread(file, _MAX_BYTES, 0))
        name, project, pid = str(said["session"]), str(said["project"]), int(said["pid"])
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"
    what = "a try" if name.startswith(".") else f"session {name}"
    words = f"{what} in {project} (pid {pid}{_user(info.st_uid)})"
    return printable(one_line(words, 300))


def _user(uid: int) -> str:
    if uid == os.getuid():
        return ""
    try:
        return f", user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f", user {uid}"
