"""Runs the installed command as a process, on pipes or in a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("autoresearch-tui"))


def run(
    project: Path, *words: str, env: Mapping[str, str] | None = None, stdin: str = "", timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """The command's result; stdout and stderr as text."""
    return subprocess.run(
        [COMMAND, *words], cwd=project, input=stdin, capture_output=True, text=True, timeout=timeout, check=False,
        env={**os.environ, **(env or {})}, encoding="utf-8", errors="surrogateescape",
    )  # fmt: skip


class Terminal:
    """A process in a terminal. `wait_for` reads until a text has been seen."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.master = master
        self.seen = ""

    def wait_for(self, text: str, timeout: float = 200) -> str:
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and self._read(left), f"{text!r} was not seen in: {self.seen!r}"
        return self.seen

    def _read(self, left: float) -> bool:
        if select.select([self.master], [], [], left)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # the other end is closed
                return False
            self.seen += data.decode("utf-8", "replace")
            return bool(data)
        return True

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self, timeout: float = 200) -> int:
        """Read all remaining output and return the exit code."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self._read(0.2 if self.process.poll() is None else 0.0):
            if self.process.poll() is not None and not select.select([self.master], [], [], 0)[0]:
                break
        return self.process.wait(max(0.1, deadline - time.monotonic()))


@contextmanager
def terminal(project: Path, *words: str, env: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, *words], cwd=project, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", **(env or {})},
    )  # fmt: skip
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)
