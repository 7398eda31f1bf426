"""Escape codes for the clipboard, the terminal's title and desktop notifications."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from core.session.homes import state_home
from core.views import one_line

ESC, BEL, ST = "\x1b", "\x07", "\x1b\\"
MAX_OSC52_BYTES = 74_994  # of base64: the limit of xterm for one sequence; a longer text goes only to the file
MAX_SCREEN_BYTES = 240  # of one string: GNU screen passes up to 256 bytes
MAX_TMUX_SECONDS = 2.0


def multiplexer(environment: Mapping[str, str]) -> str:
    """`tmux`, `screen`, `both` (nested, the order is unknown) or "", from the environment variables."""
    screen = bool(environment.get("STY"))
    if environment.get("TMUX"):
        return "both" if screen else "tmux"
    return "screen" if screen or environment.get("TERM", "").startswith("screen") else ""


def passthrough(sequence: str, environment: Mapping[str, str]) -> str:
    """A sequence for the outer terminal, wrapped so that tmux or screen passes it on.

    Under both it stays as it is: a wrapping for the wrong multiplexer would be printed, or would scroll the screen.
    """
    inside = multiplexer(environment)
    if inside == "tmux":
        return f"{ESC}Ptmux;{sequence.replace(ESC, ESC + ESC)}{ST}"
    if inside == "screen":
        pieces = [sequence[i : i + MAX_SCREEN_BYTES] for i in range(0, len(sequence), MAX_SCREEN_BYTES)]
        return "".join(f"{ESC}P{piece}{ST}" for piece in pieces)
    return sequence


def osc52(text: str, environment: Mapping[str, str]) -> str:
    """Sequence that copies `text` to the clipboard of the user's terminal; "" when it is too long for one sequence.

    Inside tmux it stands twice: plain, for `set-clipboard on`, and wrapped, for `allow-passthrough on`.
    """
    data = base64.b64encode(text.encode("utf-8", "replace")).decode()
    if len(data) > MAX_OSC52_BYTES:
        return ""
    plain = f"{ESC}]52;c;{data}{BEL}"
    wrapped = passthrough(plain, environment)
    return plain + wrapped if multiplexer(environment) == "tmux" else wrapped


def title(words: str) -> str:
    """Sequence that sets the terminal's title (in tmux and screen: the pane's)."""
    return f"{ESC}]2;{one_line(words, 120)}{BEL}"


SAVE_TITLE, RESTORE_TITLE = f"{ESC}[22;2t", f"{ESC}[23;2t"  # on the stack of the terminal


def notification(how: str, head: str, words: str, environment: Mapping[str, str]) -> str:
    """Desktop notification by OSC 9 (iTerm2, Windows Terminal, kitty) or 777 (foot, urxvt, WezTerm); else ""."""
    head, words = (one_line(text, 160).replace(";", ",") for text in (head, words))
    if how == "osc9":
        return passthrough(f"{ESC}]9;{head}: {words}{BEL}", environment)
    if how == "osc777":
        return passthrough(f"{ESC}]777;notify;{head};{words}{BEL}", environment)
    return ""


class Clipboard:
    """Copies a text by OSC 52, by tmux, and to a file: no terminal reports whether it accepted OSC 52."""

    def __init__(self, write: Callable[[str], None], environment: Mapping[str, str]) -> None:
        self._write, self._environment = write, environment

    @property
    def file(self) -> Path:
        return state_home() / "clipboard.txt"

    def copy(self, text: str) -> Path | None:
        """Copy `text`; the file that holds it, or None. May take 2 x MAX_TMUX_SECONDS in tmux: call it in a thread."""
        if sequence := osc52(text, self._environment):
            self._write(sequence)
        if multiplexer(self._environment) in ("tmux", "both"):
            _load_tmux_buffer(text)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as handle:
                handle.write(text)
        except OSError:
            return None
        return self.file


def _load_tmux_buffer(text: str) -> None:
    """Load tmux's buffer, with `-w` (3.2) also the clipboard of its terminal: works with tmux's default settings."""
    data = text.encode("utf-8", "replace")
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        for words in (["tmux", "load-buffer", "-w", "-"], ["tmux", "load-buffer", "-"]):
            if subprocess.run(words, input=data, capture_output=True, timeout=MAX_TMUX_SECONDS).returncode == 0:
                return
