"""A program in a real tmux: keys are typed as by a person, and the screen is read as text."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

NAMES = {
    "escape": "Escape", "enter": "Enter", "space": "Space", "tab": "Tab", "shift+tab": "BTab", "backspace": "BSpace",
    "delete": "DC", "up": "Up", "down": "Down", "left": "Left", "right": "Right", "pageup": "PPage",
    "pagedown": "NPage", "home": "Home", "end": "End",
}  # fmt: skip
BROKEN = ("Traceback (most recent call last)", "autoresearch-tui: internal error")


def have_tmux() -> bool:
    return shutil.which("tmux") is not None


def tmux_key(key: str) -> str:
    """tmux's name of a key from Textual's: `ctrl+p` is `C-p`, `question_mark` is `?`."""
    from textual.keys import key_to_character

    if key in NAMES:
        return NAMES[key]
    if key.startswith("ctrl+"):
        return f"C-{NAMES.get(key[5:], key[5:])}"
    if key.startswith("f") and key[1:].isdigit():
        return key.upper()
    return key_to_character(key) or key


class Tmux:
    """`with Tmux(argv, cwd, env) as t:`: the program in a window of its own server; `size` in columns and lines."""

    def __init__(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], size: tuple[int, int] = (160, 48)
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ar-tmux-", dir="/tmp")
        self._socket = f"{self._folder.name}/s"
        self._code = Path(self._folder.name) / "code"
        self._env = {**env, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        words = " ".join(f"'{word}'" for word in argv)
        shell = f"{words}; echo $? > '{self._code}'; sleep 600"  # keeps its last output on screen
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), "-c", str(cwd), shell
        )

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *words], env=self._env, capture_output=True, text=True, check=False, timeout=30
        )
        return done.stdout

    def __enter__(self) -> Tmux:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._tmux("kill-server")
        self._folder.cleanup()

    # -- in ---------------------------------------------------------------------------------------------------------

    def press(self, *keys: str) -> None:
        """Press keys, by Textual's names."""
        for key in keys:
            name = tmux_key(key)
            literal = len(name) == 1
            self._tmux("send-keys", *(["-l"] if literal else []), *(["--"] if literal else []), name)

    def type(self, text: str) -> None:
        """Send text, or an escape sequence such as a mouse's, unchanged."""
        self._tmux("send-keys", "-l", "--", text)

    def click(self, x: int, y: int, button: int = 0) -> None:
        """Press and release the mouse at a cell (from 1); buttons 64 and 65 are the wheel."""
        self.type(f"\x1b[<{button};{x};{y}M")
        if button < 64:
            self.type(f"\x1b[<{button};{x};{y}m")

    def resize(self, columns: int, lines: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    # -- out --------------------------------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        return self._tmux("capture-pane", "-p", "-S", "-40")

    @property
    def title(self) -> str:
        return self._tmux("display-message", "-p", "#{pane_title}").strip()

    @property
    def code(self) -> int | None:
        """The program's exit code once it has ended."""
        try:
            return int(self._code.read_text())
        except (OSError, ValueError):
            return None

    def whole(self) -> str:
        """The screen; raises AssertionError when it shows a traceback or an error."""
        text = self.text
        assert not any(words in text for words in BROKEN), text
        return text

    def wait(self, wanted: str | Callable[[str], bool], patience: float = 60.0) -> str:
        """Wait until the screen shows it."""
        there = (lambda text: wanted in text) if isinstance(wanted, str) else wanted
        deadline = time.monotonic() + patience
        while not there(text := self.whole()):
            assert time.monotonic() < deadline, f"{wanted!r} never came to the screen:\n{text}"
            time.sleep(0.05)
        return text


def environment(home: Path) -> dict[str, str]:
    """The user's environment without API keys, with a private home and an editor that changes nothing."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ANTHROPIC", "OPENAI", "TMUX", "SSH_", "XDG_"))}
    home.mkdir(parents=True, exist_ok=True)
    return {**env, "HOME": str(home), "AUTORESEARCH_HOME": str(home / "state"), "EDITOR": "true", "VISUAL": ""}
