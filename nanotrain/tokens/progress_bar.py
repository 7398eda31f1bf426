"""Progress of a step of the preparation. Standard library only."""

from __future__ import annotations

import sys
import threading
import time


class ProgressBar:
    """Progress in bytes, speed and time left: one line redrawn on a terminal, a line every five seconds elsewhere."""

    def __init__(self, name: str, start: int, total: int | None, *, quiet: bool = False) -> None:
        """`start`: bytes that were done before; `total` None: not known; `quiet`: nothing is printed."""
        self.name, self.start, self.total, self.quiet = name, start, total, quiet
        self.got = start
        self.begun = self.shown = time.monotonic()
        self.tty = sys.stdout.isatty()
        self._lock = threading.Lock()

    def add(self, more: int) -> None:
        """`more` bytes are done. Threads may call it."""
        with self._lock:
            self.got += more
            self._show()

    def _show(self, last: bool = False) -> None:
        now, got = time.monotonic(), self.got
        if self.quiet or (not last and now - self.shown < (0.1 if self.tty else 5.0)):
            return
        self.shown = now
        speed = max((got - self.start) / max(now - self.begun, 1e-6), 1e-6)
        drawn, left = f"{got / 1e6:,.0f} MB", ""
        if self.total:
            share = got / self.total
            drawn = f"[{'#' * round(20 * share):<20}] {100 * share:3.0f}% of {self.total / 1e6:,.0f} MB"
            left = f", {_time((self.total - got) / speed)} left" if got > self.start and not last else ""
        line = f"prepare: {self.name} {drawn}, {speed / 1e6:.1f} MB/s{left}"
        print(f"\r{line}\033[K" if self.tty else line, end="" if self.tty else "\n", flush=True)

    def close(self) -> None:
        """The step has ended."""
        self._show(last=True)
        if self.tty and not self.quiet:
            print(flush=True)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
