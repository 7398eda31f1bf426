"""Start of a shim as a daemon, its lock, and its exit file."""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH100, PTH104, PTH110, PTH118, PTH120

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import sys
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:  # to load typing takes 3 ms
    from typing import Any

DIED = "the shim died at its start"  # without a word: it was killed
_PR_SET_CHILD_SUBREAPER = 36
_MAX_EXIT_FILE_BYTES = 32768


def bare_python(module: str) -> list[str]:
    """The start of a command that runs `main` of one of our modules in a Python that loads nothing else.

    Not as a file: that would be compiled anew each time.
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    code = f"import sys; sys.path.append(sys.argv.pop(1)); from {module} import main; main()"
    return [sys.executable, "-I", "-S", "-c", code, root]


def acquire(lock: int) -> bool:
    """Lock the run's folder. A process that tests the lock holds it for a moment, so this tries several times."""
    for _ in range(10):
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.01)
    return False


def detach(folder: str) -> tuple[int, int]:
    """Leave the starter's session. Returns, in the shim alone, the pipe for `report_start` and the lock."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        answer = os.read(reader, 500)
        sys.stderr.write("" if answer == b"ok" else answer.decode() or DIED)
        sys.stderr.flush()
        os._exit(0 if answer == b"ok" else 1)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDWR)
    errors = os.open(os.path.join(folder, "shim.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not acquire(lock):
        os.write(writer, b"another process supervises this run")
        os._exit(1)
    if os.path.exists(os.path.join(folder, "exit.json")):
        os.write(writer, b"this run has already ended")
        os._exit(1)
    for source, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(source, target)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    os.close(reader)
    return writer, lock


def report_start(writer: int, answer: str) -> None:
    """Answer the waiting starter, if it lives: `ok`, or an error."""
    with suppress(OSError):
        os.write(writer, answer.encode(errors="replace")[:500])
    os.close(writer)


def reserve(path: str) -> int:
    """Allocate space for the exit file at the start, so that a run that fills the disk still gets one."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with suppress(OSError):
        os.posix_fallocate(fd, 0, _MAX_EXIT_FILE_BYTES)
    return fd


def write_exit_file(fd: int, part: str, path: str, result: dict[str, Any]) -> None:
    """Write into the reserved file, flush it to disk, and only then give it its name."""
    data = json.dumps(result).encode()
    os.pwrite(fd, data, 0)
    os.ftruncate(fd, len(data))
    os.fsync(fd)
    os.rename(part, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
