"""Escape sequences for the terminal, and copying inside a real tmux."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tui.terminal.escape_codes import Clipboard, multiplexer, notification, osc52, passthrough, title

PLAIN = {"TERM": "xterm-256color"}
SCREEN = {"TERM": "screen.xterm", "STY": "1.pts"}
TMUX = {"TERM": "tmux-256color", "TMUX": "/tmp/t,1,0"}


def test_the_multiplexer_is_detected_from_the_environment() -> None:
    assert [multiplexer(e) for e in (PLAIN, SCREEN, TMUX, {})] == ["", "screen", "tmux", ""]
    both = {**TMUX, **SCREEN}  # one in the other: nothing is wrapped, since who must not see a wrapping prints it
    assert multiplexer(both) == "both" and osc52("a", both) == osc52("a", PLAIN)


def test_escape_sequences_are_wrapped_for_each_multiplexer() -> None:
    data = base64.b64encode("a ☂ b".encode()).decode()
    assert osc52("a ☂ b", PLAIN) == f"\x1b]52;c;{data}\x07"
    assert osc52("a ☂ b", TMUX).endswith(f"\x1bPtmux;\x1b\x1b]52;c;{data}\x07\x1b\\")
    long = osc52("x" * 3000, SCREEN)
    pieces = long.removesuffix("\x1b\\").split("\x1b\\")
    assert all(piece.startswith("\x1bP") and len(piece) < 256 for piece in pieces)
    assert "".join(piece.removeprefix("\x1bP") for piece in pieces) == osc52("x" * 3000, PLAIN)
    assert osc52("x" * 200_000, PLAIN) == ""
    assert passthrough("a", PLAIN) == "a"


def test_titles_and_notifications_cannot_control_the_terminal() -> None:
    evil = "best\x1b]0;owned\x07\n\x9b31m;x"
    for text in (title(evil), notification("osc9", evil, evil, PLAIN), notification("osc777", evil, evil, PLAIN)):
        inner = text[2:-1]
        assert text.startswith("\x1b]") and text.endswith("\x07")
        assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in inner), repr(text)
    assert notification("off", "a", "b", PLAIN) == ""
    assert notification("osc777", "a;b", "c", PLAIN) == "\x1b]777;notify;a,b;c\x07"


def test_copied_text_is_also_written_to_a_file(state_folder: Path) -> None:
    written: list[str] = []
    file = Clipboard(written.append, PLAIN).copy("abc\udcff")
    assert file == state_folder / "clipboard.txt" and file.read_text() == "abc?"
    assert file.stat().st_mode & 0o077 == 0
    assert written == [osc52("abc?", PLAIN)]


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_copied_text_is_in_the_tmux_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = str(tmp_path / "s")
    subprocess.run(["tmux", "-S", name, "-f", "/dev/null", "new", "-d", "cat"], check=True)
    try:
        monkeypatch.setenv("TMUX", f"{name},1,0")
        Clipboard(lambda text: None, os.environ).copy("two\nlines ☂")
        shown = subprocess.run(["tmux", "-S", name, "show-buffer"], capture_output=True, text=True, check=True)
        assert shown.stdout == "two\nlines ☂"
    finally:
        subprocess.run(["tmux", "-S", name, "kill-server"], check=False)
