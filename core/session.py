"""A session's folder: where things are, who holds it, and the list of them all.

`sessions/<name>/` stands beside program.md. The engine that owns a session holds an flock on its `lock` file for
life; that, and never a pid, says whether an engine is alive.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from core import invocation
from core.record.errors import NoSuchSession, SessionBusy, SessionError, UsageError

_DISK_RESERVE = 32 * 2**20  # bytes
_NAME = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$")


@dataclass(frozen=True, slots=True)
class SessionPaths:
    """Every path of one session. `project` is the folder of program.md."""

    project: Path
    name: str

    @property
    def folder(self) -> Path:
        return self.project / "sessions" / self.name

    @property
    def database(self) -> Path:
        return self.folder / "session.db"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def engine_log(self) -> Path:
        return self.folder / "engine.log"

    @property
    def program(self) -> Path:
        return self.folder / "program.md"

    @property
    def settings(self) -> Path:
        """Its options, which `core.options` alone reads and writes."""
        return self.folder / "settings.json"

    @property
    def pristine(self) -> Path:
        return self.folder / "pristine"

    @property
    def worktrees(self) -> Path:
        return self.folder / "worktrees"

    def worktree(self, run: int) -> Path:
        """Where one run's code stands: each run has its own, so that what one writes no other reads."""
        return self.worktrees / str(run)

    def run(self, run: int) -> Path:
        """A run's folder: output.log, curve.tsv, score.log, and out/ (what the run itself may write)."""
        return self.folder / "runs" / str(run)

    def reasoning(self, experiment: int) -> Path:
        """The researcher's stream for one experiment: JSON lines {"t": time, "k": kind, "s": text}."""
        return self.folder / "reasoning" / f"{experiment}.jsonl"

    @property
    def notebook(self) -> Path:
        """The researcher's own notes, Markdown: shown to it with every request. A person may read and edit them."""
        return self.folder / "notebook.md"

    @property
    def seen(self) -> Path:
        """Where a client notes the last event a person saw, for "while you were away"."""
        return self.folder / "seen.json"

    @property
    def branch(self) -> str:
        return f"autoresearch/{self.name}"

    @property
    def socket(self) -> Path:
        """A short path, since a Unix socket's is limited to 108 bytes however deep the project lies."""
        key = hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:16]
        return socket_folder() / f"{key}.sock"


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
        where=place, mend=f"give it in full: export AUTORESEARCH_HOME={full}",
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
            mend="set AUTORESEARCH_HOME to a folder you can write",
        ) from error
    info = folder.stat()
    if info.st_uid != os.getuid():
        raise SessionError("the socket folder belongs to another user", where=str(folder), mend="remove it")
    if info.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def check_name(name: str) -> str:
    """A session's name, which is also part of a branch name and a folder. Raises UsageError with the mend."""
    if not _NAME.match(name) or name.endswith(".lock") or ".." in name:
        raise UsageError(
            f"{name!r} is no session name",
            mend="use 1 to 64 letters, digits, dots, dashes and underscores; first and last a letter or a digit",
        )
    return name


def list_sessions(project: Path) -> list[SessionPaths]:
    """The project's sessions, newest first (by the last write of their logs)."""
    folder = project / "sessions"
    found: list[tuple[float, SessionPaths]] = []
    if folder.is_dir():
        for entry in folder.iterdir():
            paths = SessionPaths(project, entry.name)
            if paths.database.is_file():
                wal = paths.database.with_name("session.db-wal")
                stamps = [p.stat().st_mtime for p in (paths.database, wal) if p.exists()]
                found.append((max(stamps), paths))
    return [paths for _, paths in sorted(found, key=lambda pair: pair[0], reverse=True)]


def find_session(project: Path, name: str | None) -> SessionPaths:
    """The named session, or the newest. Raises NoSuchSession."""
    sessions = list_sessions(project)
    if name is None:
        if sessions:
            return sessions[0]
        raise NoSuchSession(
            "there is no session here yet",
            where=str(project),
            mend=f"start one with: {invocation.call('run', project=project)}",
        )
    for paths in sessions:
        if paths.name == name:
            return paths
    known = ", ".join(p.name for p in sessions[:8]) or "none"
    raise NoSuchSession(
        f"there is no session {name!r} (known: {known})",
        where=str(project),
        mend="name one of these, or start it with: " + invocation.call("run", "--session", name, project=project),
    )


def disk_trouble(folder: Path) -> str:
    """Why nothing may be written below `folder` just now, or "": what is left there, a run's log and git need."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return ""
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    needed = min(_DISK_RESERVE, total // 20)
    if free >= needed:
        return ""
    return f"the disk is full: {free / 2**20:.1f} MB are free, and {needed / 2**20:.1f} MB are needed to go on"


def engine_alive(paths: SessionPaths) -> bool:
    """Whether an engine holds the session, by its lock. Never creates anything."""
    try:
        descriptor = os.open(paths.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def lock_holder(paths: SessionPaths) -> int:
    """The pid that the holder wrote into the lock; 0 when unknown. For messages only."""
    try:
        return int(paths.lock.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


@contextmanager
def hold(paths: SessionPaths) -> Iterator[None]:
    """Hold the session for life. Raises SessionBusy with the first engine's pid."""
    paths.folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = lock_holder(paths)
            raise SessionBusy(
                f"session {paths.name!r} is held by the engine with pid {pid}",
                pid=pid,
                mend=f"attach to it with: {invocation.call('attach', paths.name, project=paths.project)}",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def write_json(path: Path, value: object) -> None:
    """Replace a small file, so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(value).encode())


def replace_file(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Put `data` in place of the file as a whole: whoever reads it, finds the old bytes or the new ones.

    `durable`: a crash of the machine too leaves one or the other. Raises OSError; the file then is as it was.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            os.fchmod(descriptor, mode)
            if durable:
                handle.flush()
                os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, object]:
    """A small JSON object, or an empty one when the file is missing or broken."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


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
