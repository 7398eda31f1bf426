"""The app in a real terminal: it restores the terminal at every kind of end, and loads no heavy module."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from benchmarks.screen.terminal import Terminal
from tests.recorded import make_session

RESTORED = (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1000l")  # the other screen, the cursor, the mouse


def attach(project: Path, size: tuple[int, int] = (120, 36)) -> Terminal:
    terminal = Terminal([sys.executable, "-m", "tui.main", "attach", "-C", str(project), "nov23"], size)
    terminal.wait_for(b"FINISHED" if size[0] > 40 else b"finished")
    return terminal


def ended(terminal: Terminal, seconds: float = 200.0) -> int:
    """Read all output and return the exit status."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        terminal.read(0.05)
        pid, status = os.waitpid(terminal.pid, os.WNOHANG)
        if pid:
            while terminal.read(0.1):
                pass
            os.close(terminal.fd)
            return os.waitstatus_to_exitcode(status)
    raise AssertionError("it did not end")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal(tmp_path: Path, number: int) -> None:
    make_session(tmp_path / "project", 4)
    terminal = attach(tmp_path / "project")
    os.kill(terminal.pid, number)
    assert ended(terminal) == 0
    assert all(sequence in terminal.tail for sequence in RESTORED)
    assert b"Traceback" not in terminal.tail
    assert (tmp_path / "project/sessions/nov23/seen.json").exists()


def test_q_shows_how_to_attach_again_on_the_restored_terminal(tmp_path: Path) -> None:
    make_session(tmp_path / "project", 4)
    terminal = attach(tmp_path / "project")
    os.write(terminal.fd, b"q")
    assert ended(terminal) == 0
    after = terminal.tail.split(b"\x1b[?1049l")[-1]
    assert b"autoresearch-tui attach" in after and b" nov23" in after


def test_a_closed_terminal_ends_the_app_without_error(tmp_path: Path) -> None:
    make_session(tmp_path / "project", 4)
    terminal = attach(tmp_path / "project")
    os.close(terminal.fd)
    deadline = time.perf_counter() + 20
    while not (left := os.waitpid(terminal.pid, os.WNOHANG))[0]:
        assert time.perf_counter() < deadline, "it outlives its terminal"
        time.sleep(0.05)
    assert os.waitstatus_to_exitcode(left[1]) == 0


def test_a_redirected_screen_is_refused(tmp_path: Path) -> None:
    """Textual draws on standard error: redirected to a file, the terminal would stay empty."""
    make_session(tmp_path / "project", 4)
    command = f"{sys.executable} -m tui.main attach -C {tmp_path / 'project'} nov23"
    for lost in (tmp_path / "said", "&-"):
        terminal = Terminal(["sh", "-c", f"{command} 2>{lost}"], (120, 36))
        assert ended(terminal) == 1 and terminal.tail == b""
    assert (tmp_path / "said").read_text().startswith("autoresearch-tui: standard error is not the terminal")


def test_the_app_runs_at_twenty_by_five(tmp_path: Path) -> None:
    make_session(tmp_path / "project", 4)
    terminal = attach(tmp_path / "project", (20, 5))
    os.write(terminal.fd, b"\t4jz?\x1b")
    terminal.run(0.5)
    os.write(terminal.fd, b"\x1b")
    terminal.run(0.5)
    os.write(terminal.fd, b"q")
    assert ended(terminal) == 0 and b"Traceback" not in terminal.tail


def test_a_corrupt_log_is_reported(tmp_path: Path) -> None:
    paths = make_session(tmp_path / "project", 4)
    paths.database.write_bytes(b"this is no database, and long enough to be read as one" * 40)
    terminal = Terminal([sys.executable, "-m", "tui.main", "attach", "-C", str(paths.project), "nov23"], (120, 36))
    assert ended(terminal) == 1
    assert b"is damaged" in terminal.tail and b"Traceback" not in terminal.tail


def test_the_app_loads_no_heavy_module() -> None:
    code = (
        "import sys, tui.app, tui.control.command_palette, tui.widgets.diff.syntax\n"
        "import tui.screens.main_screen, tui.screens.reading.experiment, tui.screens.launch\n"
        "heavy = {'torch', 'git', 'anthropic', 'optuna', 'numpy', 'core.engine', 'core.lab', 'core.research'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


# The terminal has its next size while the app reads the one before.
RESIZED_MEANWHILE = """
import fcntl, os, struct, termios
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)
from textual.app import App
from textual.widgets import Static
from tui.terminal.terminal_driver import TerminalDriver

class Driver(TerminalDriver):
    def _get_terminal_size(self):
        size = super()._get_terminal_size()
        if size == (90, 30):
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 70, 0, 0))
        return size

class Sizes(App):
    def compose(self):
        yield Static("starting")
    def on_mount(self):
        self.set_interval(0.1, lambda: self.query_one(Static).update(f"{self.size.width} wide"))

Sizes(driver_class=Driver).run()
"""


def test_the_last_of_two_sizes_is_drawn(tmp_path: Path) -> None:
    terminal = Terminal([sys.executable, "-c", RESIZED_MEANWHILE], (120, 36))
    terminal.wait_for(b"120 wide")
    fcntl.ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
    terminal.wait_for(b"70 wide")
    os.kill(terminal.pid, signal.SIGTERM)
    ended(terminal)
