"""The real command in a real terminal. An emulator keeps the screen, so that tests read what a person sees."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import pyte

from tui.screens.dialogs import UNASKED_DELAY_SECONDS
from tui.terminal.calm import CALM_SECONDS

COMMAND = str(Path(sys.executable).with_name("autoresearch-tui"))


class Screen:
    """`with Screen(project, env) as screen:` starts the command; `screen.wait("RUNNING")` waits for the text."""

    def __init__(self, project: Path, env: Mapping[str, str], *words: str, columns: int = 160, lines: int = 48) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            [COMMAND, *words], cwd=project, env=dict(env), stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=_own_terminal,
        )  # fmt: skip
        os.close(slave)

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        os.close(self._master)

    def _read(self, seconds: float) -> bool:
        """Read the output of `seconds`. False when the terminal was closed."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        if b"\x1b[?2026$p" in data:
            os.write(self._master, b"\x1b[?2026;2$y")
        self.raw += data
        # The emulator cannot parse private-parameter sequences such as kitty's. They do not change the screen.
        self._stream.feed(data.replace(b"\x1b[>", b"\x1b[").replace(b"\x1b[<", b"\x1b["))
        return bool(data)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display)

    def wait(self, words: str, patience: float = 60.0) -> str:
        """Read until `words` are on the screen, and return the screen."""
        deadline = time.monotonic() + patience
        while words not in self.text:
            alive = self._read(0.1)
            if time.monotonic() > deadline or not alive:
                raise AssertionError(f"{words!r} never came to the screen:\n{self.text}")
        return self.text

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def answer(self, key: str, words: str, patience: float = 60.0) -> None:
        """Press `key` until `words` are gone: a card takes no key right after it appears, or after other keys.

        The key is pressed again only after a long wait: a second one would reach the screen behind the card.
        """
        deadline = time.monotonic() + patience
        while words in self.text:
            self._read_for(2 * UNASKED_DELAY_SECONDS + CALM_SECONDS)
            self.press(key)
            until = time.monotonic() + 20.0
            while words in self.text and time.monotonic() < until:
                self._read(0.1)
            if time.monotonic() > deadline:
                raise AssertionError(f"{words!r} never left the screen:\n{self.text}")

    def _read_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._read(0.1)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._screen.resize(lines, columns)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def vanish(self) -> None:
        """Close the terminal, as a closed window or a killed multiplexer does."""
        os.close(self._master)
        self._master = os.open(os.devnull, os.O_RDONLY)

    def end(self, patience: float = 60.0) -> int:
        """Read until the command ends and return its exit code."""
        deadline = time.monotonic() + patience
        while self.process.poll() is None:
            if not self._read(0.05):
                break
            if time.monotonic() > deadline:
                raise AssertionError(f"the command never ended:\n{self.text}")
        while select.select([self._master], [], [], 0.1)[0] and self._read(0.0):
            pass
        return self.process.wait(10)


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
