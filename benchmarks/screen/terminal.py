"""A pseudo-terminal that measures a full-screen program: bytes written, response times, processor time."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Sequence

import psutil


class Terminal:
    """Runs `argv` in a terminal of `size` (columns, rows) and answers Textual's terminal queries."""

    def __init__(
        self, argv: Sequence[str], size: tuple[int, int] = (160, 48), cwd: str | None = None, link: float | None = None
    ) -> None:
        """`link`: bytes a second of a slow link; None: no limit."""
        self.link = link
        self._credit, self._asked = 0.0, time.perf_counter()
        self.began = time.perf_counter()
        self.bytes = 0
        self.tail = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            if cwd:
                os.chdir(cwd)
            environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
            os.execvpe(argv[0], list(argv), environment)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.process = psutil.Process(self.pid)

    def read(self, seconds: float) -> bytes:
        """The first output within `seconds`."""
        if not select.select([self.fd], [], [], max(0.0, seconds))[0]:
            return b""
        room = self._room()
        if not room:
            time.sleep(0.002)
            return b""
        try:
            data = os.read(self.fd, room)
        except OSError:
            return b""
        if b"\x1b[?2026$p" in data:
            os.write(self.fd, b"\x1b[?2026;2$y")
        self.bytes += len(data)
        self.tail = (self.tail + data)[-(1 << 18) :]
        return data

    def _room(self) -> int:
        """Bytes that the link can transfer now; an idle link saves up at most 1/20 s of them."""
        if self.link is None:
            return 1 << 16
        now = time.perf_counter()
        self._credit = min(self.link / 20, self._credit + (now - self._asked) * self.link)
        self._asked = now
        room = int(self._credit)
        self._credit -= room
        return room

    def run(self, seconds: float, meanwhile: Callable[[], None] | None = None) -> tuple[float, float]:
        """Let the program run. Returns (bytes a second, share of a core in percent)."""
        bytes_before, began = self.bytes, time.perf_counter()
        cpu_before = self._cpu()
        while (left := began + seconds - time.perf_counter()) > 0:
            if meanwhile:
                meanwhile()
            self.read(min(left, 0.02))
        took = time.perf_counter() - began
        return (self.bytes - bytes_before) / took, 100 * (self._cpu() - cpu_before) / took

    def _cpu(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def press(
        self, key: bytes, marker: bytes, limit: float = 10.0, meanwhile: Callable[[], None] | None = None
    ) -> float:
        """Milliseconds from a key to the arrival of `marker`, which the key makes the program show."""
        self.tail = b""
        began = time.perf_counter()
        os.write(self.fd, key)
        self.wait_for(marker, limit, meanwhile)
        return 1000 * (time.perf_counter() - began)

    def wait_for(self, marker: bytes, limit: float = 30.0, meanwhile: Callable[[], None] | None = None) -> float:
        """Seconds from the start to the arrival of `marker`. Raises TimeoutError."""
        end = time.perf_counter() + limit
        while marker not in self.tail:
            if time.perf_counter() > end:
                raise TimeoutError(f"{marker!r} never came; the last words: {self.tail[-400:]!r}")
            if meanwhile:
                meanwhile()
            self.read(0.01)
        return time.perf_counter() - self.began

    def memory(self) -> int:
        """Bytes in use (unique to the process where the system tells)."""
        return int(self.process.memory_full_info().uss)

    def close(self) -> None:
        try:
            os.kill(self.pid, signal.SIGTERM)
            end = time.perf_counter() + 5
            while time.perf_counter() < end and os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                self.read(0.05)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.fd)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal and for a Markdown page alike."""
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "| " + " | ".join(str(c).ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in [head, *rows]
    ]
    load = f"(load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)"
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:], "", load])
