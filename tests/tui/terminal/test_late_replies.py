"""Replies of the terminal that come late, in pieces or unasked are no keys; a person's Esc, keys and pastes are."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from textual import events
from textual._xterm_parser import XTermParser
from textual.message import Message

from benchmarks.screen.terminal import Terminal
from core.client import read_state
from core.record.state import State
from tests.engine.support import engine, wait_state
from tests.projects import make_project
from tests.tui.terminal.test_terminal import ended
from tui.terminal.input_pieces import InputPieces
from tui.terminal.terminal_driver import messages_of

REPLIES = (
    "\x1b[?2026;2$y", "\x1b[?62;22c", "\x1b[>41;354;0c", "\x1b[12;40R", "\x1b[8;24;80t", "\x1b[0n", "\x1b[?29u",
    "\x1b[?997;1n", "\x1b[I", "\x1b[O", "\x1b]11;rgb:1e1e/1e1e/1e1e\x07", "\x1b]4;1;rgb:ffff/0000/0000\x1b\\",
    "\x1b]52;c;aGVsbG8geQ==\x07", "\x1bP>|tmux 3.4\x1b\\", "\x1bP1+r544e=787465726d\x1b\\", "\x1b_Gi=31;OK\x1b\\",
)  # fmt: skip


def messages(pieces: Sequence[str], pause: float) -> list[Message]:
    """What comes of input in these pieces, with so many seconds between two."""
    split, parser = InputPieces(), XTermParser()
    found: list[Message] = []
    now = 0.0
    for piece in (*pieces, ""):
        for _ in range(int((pause if piece else 9.0) / 0.02)):
            now += 0.02
            found += [m for p in split.tick(now) for m in messages_of(p, parser)]
        found += [m for p in split.feed(piece, now) for m in messages_of(p, parser)] if piece else []
    return found


def keys(*pieces: str, pause: float = 0.3) -> list[str]:
    return [m.key for m in messages(pieces, pause) if isinstance(m, events.Key)]


@pytest.mark.parametrize("reply", REPLIES)
def test_a_reply_cut_anywhere_is_no_key_but_for_its_esc(reply: str) -> None:
    for pause in (0.0, 0.05, 0.2, 0.5, 1.0):
        for cut in range(1, len(reply)):
            assert keys(reply[:cut], reply[cut:], pause=pause) in ([], ["escape"]), (pause, cut)
        assert keys(*reply, pause=pause) in ([], ["escape"]), pause
    assert keys(reply) == []


def test_a_persons_esc_and_the_key_after_it_are_both_keys() -> None:
    for pause in (0.12, 0.3, 1.0):
        assert keys("\x1b", "j", pause=pause) == ["escape", "j"]
        assert keys("\x1b", "P", pause=pause) == ["escape", "P"]
        assert keys("\x1b", "[", "]", pause=pause) == ["escape", "left_square_bracket", "right_square_bracket"]
        assert keys("\x1b", "O", "j", pause=pause) == ["escape", "O", "j"]
        assert keys("\x1b", "\x1b", "y", pause=pause) == ["escape", "escape", "y"]
    split = InputPieces()
    assert split.feed("\x1b", 0.0) == [] and [p.kind for p in split.tick(0.1)] == ["escape"], "an Esc was held longer"
    assert [p.text for p in split.feed("hello [x] P", 0.2)] == ["hello [x] P"]


def test_keys_of_all_terminals_are_keys_whole_and_in_pieces() -> None:
    for sequence, key in (
        ("\x1b[B", "down"), ("\x1bOA", "up"), ("\x1b[1;5C", "ctrl+right"), ("\x1b[[A", "f1"), ("\x1b[5~", "pageup"),
        ("\x1b[27u", "escape"), ("\x1b[121;;121u", "y"), ("\x1b\x7f", "ctrl+w"), ("\x1bj", "alt+j"),
    ):  # fmt: skip
        assert keys(sequence) == [key]
    assert keys("\x1b[", "B") == ["down"]
    assert keys("\x1b", "[B") == ["escape", "down"]
    assert keys("\x1b[?20", "é", "y") == ["é", "y"], "a sequence that breaks off eats no typed text"
    assert keys("\x1b]1", "y", "\r", "q") == ["enter", "q"]


def test_a_paste_is_a_paste_wherever_its_marks_are_cut() -> None:
    text = "\x1b[200~Say yes\ry\x1b[201~"
    for cut in range(1, len(text)):
        for pause in (0.0, 0.3):
            found = [m for m in messages((text[:cut], text[cut:]), pause) if not isinstance(m, events.Key)]
            assert [m.text for m in found if isinstance(m, events.Paste)] == ["Say yes\ry"], cut
            assert keys(text[:cut], text[cut:], pause=pause) in ([], ["escape"]), cut


def _write(terminal: Terminal, keys: bytes, seconds: float) -> None:
    os.write(terminal.fd, keys)
    terminal.run(seconds)


@pytest.mark.slow
def test_late_replies_neither_stop_a_session_nor_lose_a_text(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    with engine(project, "nov23", researcher="human") as paths:
        wait_state(paths, lambda s: 1 in s.experiments and s.baseline, "a wait for a person")
        terminal = Terminal([sys.executable, "-m", "tui.main", "attach", "-C", str(project), "nov23"], (120, 40))
        terminal.wait_for(b"RUNNING")
        _write(terminal, b"i", 0.5)
        _write(terminal, b"hello words", 0.5)
        _write(terminal, b"\x1b", 0.4)
        _write(terminal, b"[B", 0.5)
        _write(terminal, b"i", 0.5)
        _write(terminal, b"\r", 0.5)
        wait_state(paths, lambda s: [g.text for g in s.guidance.values()] == ["hello words"], "the text is kept")
        for late in (b"\x1b[?2026;2$", b"\x1b[?2026;2$y"):
            _write(terminal, b"S", 0.4)
            _write(terminal, late, 0.4)
            _write(terminal, b"y", 0.5)
            _write(terminal, b"\x1b", 0.5)
        _write(terminal, b"S", 1.2)
        _write(terminal, b"yes, stop\r", 1.0)
        _write(terminal, b"\x1b", 0.5)
        assert _still_runs(read_state(paths))
        _write(terminal, b"S", 1.2)
        _write(terminal, b"y", 0.2)
        wait_state(paths, lambda s: s.state == "stopped", "a person's own answer")
        os.write(terminal.fd, b"q")
        assert ended(terminal) == 0


def _still_runs(state: State) -> bool:
    return state.state == "running" and state.stop_at is None
