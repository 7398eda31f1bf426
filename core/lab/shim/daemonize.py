"""How a shim leaves its starter, and how it leaves its last word.

Standard library only: the shim of every job loads this.
"""
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

_PR_SET_CHILD_SUBREAPER = 36


def bare_python(module: str) -> list[str]:
    """The start of a command that runs `main` of one of our modules, with nothing loaded that it does not ask for.

    Not as a file: that would be compiled anew each time.
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    code = f"import sys; sys.path.append(sys.argv.pop(1)); from {module} import main; main()"
    return [sys.executable, "-I", "-S", "-c", code, root]


def take(lock: int) -> bool:
    """Lock the run folder. Somebody who only looks whether it is locked holds it for a moment: try again."""
    for _ in range(10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.01)
        else:
            return True
    return False


def detach(folder: str) -> int:
    """Leave the starter's session. Returns, in the shim alone, where to `tell` the starter how it went."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        answer = os.read(reader, 500)
        sys.stderr.write("" if answer == b"ok" else answer.decode() or "the shim died at its start")
        sys.stderr.flush()
        os._exit(0 if answer == b"ok" else 1)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDWR)
    errors = os.open(os.path.join(folder, "shim.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not take(lock):
        os.write(writer, b"another process runs this job")
        os._exit(1)
    if os.path.exists(os.path.join(folder, "exit.json")):
        os.write(writer, b"this job has ended already")
        os._exit(1)
    for source, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(source, target)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    os.close(reader)
    return writer


def tell(writer: int, word: str) -> None:
    """Answer the starter, who waits for it: `ok`, or what went wrong."""
    os.write(writer, word.encode(errors="replace")[:500])
    os.close(writer)


def reserve(path: str) -> int:
    """Room for the last word, taken while there is room: a job that fills the disk still gets its exit file."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with suppress(OSError):
        os.posix_fallocate(fd, 0, 32768)
    return fd


def last_word(fd: int, part: str, path: str, last: dict[str, Any]) -> None:
    """Write into the reserved file, make it durable, and only then give it its name."""
    data = json.dumps(last).encode()
    os.pwrite(fd, data, 0)
    os.ftruncate(fd, len(data))
    os.fsync(fd)
    os.rename(part, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
