"""Output of a run: cleaned of control sequences, bounded in size, and searched for the loss curve."""

from __future__ import annotations

import os
import re
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:  # to load typing takes 3 ms
    from pathlib import Path
    from typing import Any

_HEAD_BYTES = 8 << 20
_TAIL_BYTES = 2 << 20
_CURVE_LINES = 20_000  # after every so many, the interval between two lines is doubled

_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
_C1 = re.compile(rb"\xc2+[\x80-\x9f]+")
_UNFINISHED = re.compile(rb"\x1b[^\x07\n]{0,200}\Z|\r\Z")
_CONTROLS = bytes(b for b in range(32) if b not in b"\n\t") + b"\x7f"
_STEP = re.compile(rb"step\W{0,4}?(\d{1,12})", re.I)
_LOSS = re.compile(rb"loss\W{0,4}?([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?|[-+]?(?:nan|inf))", re.I)


class Cleaner:
    """Removes escape sequences and control characters from a stream, also those split between two chunks."""

    def __init__(self) -> None:
        self._held = self._half = b""

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        data = self._held + data
        self._held = b""
        if not final and (match := _UNFINISHED.search(data[-256:])):
            cut = len(data) - (len(data[-256:]) - match.start())
            data, self._held = data[:cut], data[cut:]
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\x1b" in data:
            data = _ESCAPES.sub(b"", data)
        # The two-byte controls last: removing an escape sequence can join their halves.
        data = self._half + data.translate(None, _CONTROLS)
        kept = data if final else data.rstrip(b"\xc2")
        self._half = data[len(kept) :]
        return _C1.sub(b"", kept) if b"\xc2" in kept else kept


def clean(data: bytes) -> str:
    """Bytes of output as text without control sequences; UTF-16 by its byte order mark, else UTF-8."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = data.decode("utf-16", "replace").encode()
    data = data.removeprefix(b"\xef\xbb\xbf")
    return Cleaner().feed(data, final=True).decode("utf-8", "replace")


def logged(log: Path, tail: str, most: int | None = None) -> str:
    """A run's output from its log, of that at most the last `most` bytes.

    `tail`, its end as the run's shim holds it in memory, is added where a full disk has cut the log.
    """
    try:
        with log.open("rb") as file:
            if most is not None:
                file.seek(max(0, file.seek(0, os.SEEK_END) - most))
            output = clean(file.read())
    except OSError:
        output = ""
    return output if output.endswith(tail) else f"{output}\n{tail}"


class OutputLog:
    """A log file with the first 8 MB and at least the last 2 MB of the output."""

    def __init__(self, path: str, head: int = _HEAD_BYTES, tail: int = _TAIL_BYTES) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._head, self._tail = head, tail
        self._size = self.total = 0
        self.recent = b""  # the last few kilobytes

    def write(self, data: bytes) -> None:
        """Append. On a full disk output is lost, and the run goes on."""
        self.total += len(data)
        self.recent = (self.recent + data)[-8192:]
        with suppress(OSError):
            self._size += os.pwrite(self._fd, data, self._size)
            if self._size > self._head + 2 * self._tail:
                self._drop_middle()

    def _drop_middle(self) -> None:
        tail = os.pread(self._fd, self._tail, self._size - self._tail)
        tail = tail[tail.find(b"\n") + 1 :]
        mark = b"\n[... %d MB of output left out here ...]\n" % ((self.total - self._head - len(tail)) >> 20)
        os.ftruncate(self._fd, self._head)
        self._size = self._head
        for part in (mark, tail):
            self._size += os.pwrite(self._fd, part, self._size)

    def close(self) -> None:
        os.close(self._fd)


class Curve:
    """The loss curve found in the output: `seconds<TAB>step<TAB>loss` lines, at most five a second."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._carry = b""
        self._last, self._interval, self._lines = -1.0, 0.2, 0
        self._pending: bytes | None = None
        self.step: int | None = None
        self.loss: float | None = None

    def feed(self, data: bytes, seconds: float) -> None:
        """`seconds` is the clock at which `data` arrived."""
        lines = (self._carry + data).split(b"\n")
        self._carry = lines.pop()[-4096:]
        if b"loss" not in data.lower() and not any(b"loss" in line.lower() for line in lines[:1]):
            return
        # A curve cannot show more lines at once: only the newest are read.
        for line in lines[-64:]:
            if len(line) < 4096:
                self._read(line, seconds)

    def _read(self, line: bytes, seconds: float) -> None:
        loss = _LOSS.search(line)
        step = _STEP.search(line) if loss else None
        if loss is None or step is None:
            return
        self.step, self.loss = int(step[1]), float(loss[1])
        self._pending = b"%.3f\t%d\t%s\n" % (seconds, self.step, repr(self.loss).encode())
        if seconds - self._last >= self._interval:
            self._last = seconds
            self.flush()

    def restart(self) -> None:
        """The clock starts anew."""
        self._last = -1.0

    def flush(self) -> None:
        if self._pending is not None:
            with suppress(OSError):
                os.write(self._fd, self._pending)
                self._lines += 1
                if self._lines % _CURVE_LINES == 0:
                    self._interval *= 2
            self._pending = None

    def close(self) -> None:
        self.flush()
        os.close(self._fd)


def count(value: Any) -> int | None:
    """`value` if it is a valid count from a run, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else None


def sha256(value: Any) -> str | None:
    """`value` if it is a valid SHA-256 from a run, else None."""
    return value if isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef") else None
