"""What is said to the terminal itself: clipboard, title, notifications. Pure text, but for `Clipboard.copy`.

Nothing here paints: the sequences are written between Textual's frames, or not at all when nobody asked for them.
"""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from core.session.homes import state_home
from core.views import one_line

ESC, BEL, ST = "\x1b", "\x07", "\x1b\\"
OSC52_LIMIT = 74_994  # bytes of base64: what xterm takes in one sequence; longer goes to the file alone
SCREEN_PIECE = 240  # GNU screen passes strings through up to 256 bytes
TMUX_SECONDS = 2.0


def multiplexer(environment: Mapping[str, str]) -> str:
    """`tmux`, `screen`, `both` (one in the other, and nobody can say which is the inner) or "" by the environment."""
    screen = bool(environment.get("STY"))
    if environment.get("TMUX"):
        return "both" if screen else "tmux"
    return "screen" if screen or environment.get("TERM", "").startswith("screen") else ""


def through(sequence: str, environment: Mapping[str, str]) -> str:
    """A sequence for the outer terminal, wrapped so that tmux or screen lets it pass.

    As it is where both are: a wrapping for the wrong one would be printed, or would scroll the other's screen.
    """
    inside = multiplexer(environment)
    if inside == "tmux":
        return f"{ESC}Ptmux;{sequence.replace(ESC, ESC + ESC)}{ST}"
    if inside == "screen":
        pieces = [sequence[i : i + SCREEN_PIECE] for i in range(0, len(sequence), SCREEN_PIECE)]
        return "".join(f"{ESC}P{piece}{ST}" for piece in pieces)
    return sequence


def osc52(text: str, environment: Mapping[str, str]) -> str:
    """`text` for the clipboard of the terminal at the other end; "" when it is too long for one.

    Inside tmux the sequence is given twice: plain, for `set-clipboard on`, and wrapped, for `allow-passthrough on`.
    """
    data = base64.b64encode(text.encode("utf-8", "replace")).decode()
    if len(data) > OSC52_LIMIT:
        return ""
    plain = f"{ESC}]52;c;{data}{BEL}"
    wrapped = through(plain, environment)
    return plain + wrapped if multiplexer(environment) == "tmux" else wrapped


def title(words: str) -> str:
    """The terminal's title (tmux and screen take it as the pane's)."""
    return f"{ESC}]2;{one_line(words, 120)}{BEL}"


TITLE_KEEP, TITLE_BACK = f"{ESC}[22;2t", f"{ESC}[23;2t"  # the title that was there, kept on the terminal's stack


def notification(how: str, head: str, words: str, environment: Mapping[str, str]) -> str:
    """A desktop notification by OSC 9 (iTerm2, Windows Terminal, kitty) or 777 (foot, urxvt, WezTerm); "": none."""
    head, words = (one_line(text, 160).replace(";", ",") for text in (head, words))
    if how == "osc9":
        return through(f"{ESC}]9;{head}: {words}{BEL}", environment)
    if how == "osc777":
        return through(f"{ESC}]777;notify;{head};{words}{BEL}", environment)
    return ""


class Clipboard:
    """Copying where nobody can say whether the terminal took it: by OSC 52, through tmux itself, and into a file."""

    def __init__(self, write: Callable[[str], None], environment: Mapping[str, str]) -> None:
        self._write = write
        self._environment = environment

    @property
    def file(self) -> Path:
        return state_home() / "clipboard.txt"

    def copy(self, text: str) -> Path | None:
        """Copy, and return the file that holds the text too (None when the disk refuses).

        Up to TMUX_SECONDS inside tmux: call it in a thread.
        """
        if sequence := osc52(text, self._environment):
            self._write(sequence)
        if multiplexer(self._environment) in ("tmux", "both"):
            _tell_tmux(text)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as handle:
                handle.write(text)
        except OSError:
            return None
        return self.file


def _tell_tmux(text: str) -> None:
    """tmux's own buffer, and with `-w` (3.2) the clipboard of its terminal: works with its default settings."""
    for words in (["tmux", "load-buffer", "-w", "-"], ["tmux", "load-buffer", "-"]):
        try:
            done = subprocess.run(
                words, input=text.encode("utf-8", "replace"), capture_output=True, timeout=TMUX_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return
        if done.returncode == 0:
            return
