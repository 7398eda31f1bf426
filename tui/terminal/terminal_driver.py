"""Terminal driver whose keys are a person's: no reply of the terminal is taken for one, however late or in pieces.

And the last size of the terminal is the one that is drawn, however fast its sizes follow each other.
"""

from __future__ import annotations

import asyncio
import codecs
import functools
import os
import re
import selectors
import signal
import time
from collections.abc import Iterable

from textual import events
from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size
from textual.message import Message
from textual.messages import InBandWindowResize, TerminalSupportsSynchronizedOutput

from tui.terminal.input_pieces import ESC, InputPiece, InputPieces

POLL_SECONDS = 0.1  # for the end of the app
HELD_POLL_SECONDS = 0.02  # while something waits for the rest of it
READ_BYTES = 4096
_MOUSE = re.compile(r"\x1b\[(?:<[-\d;]+[mM]|M...)", re.DOTALL)

_REPLIES = (events.CursorPosition, TerminalSupportsSynchronizedOutput, InBandWindowResize)


class Unheard(Message):
    """The terminal sent something that was no key."""


class TerminalDriver(LinuxDriver):
    """Textual's driver, but for how input is split: by `InputPieces`. A sequence unknown to Textual is dropped."""

    def start_application_mode(self) -> None:
        """Enter the full screen, with sizes read by the event loop.

        Textual reads a size in a signal's handler, which the next signal interrupts: the older of two sizes was posted
        last, and stayed.
        """
        super().start_application_mode()  # type: ignore[no-untyped-call]
        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, self._post_size)

    def _post_size(self) -> None:
        if not self._in_band_window_resize:
            size = Size(*self._get_terminal_size())
            self._app.post_message(events.Resize(size, size))

    def run_input_thread(self) -> None:
        """Read input and post its messages until the app ends."""
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        pieces, parser = InputPieces(), XTermParser(self._debug)
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                if selector.select(HELD_POLL_SECONDS if pieces.waits else POLL_SECONDS):
                    if not (data := os.read(self.fileno, READ_BYTES)):
                        time.sleep(POLL_SECONDS)  # the end of a file in place of a terminal
                    found = pieces.feed(decode(data), time.monotonic())
                else:
                    found = pieces.tick(time.monotonic())
                for piece in found:
                    for message in messages_of(piece, parser):
                        self.process_message(message)


def messages_of(piece: InputPiece, parser: XTermParser) -> Iterable[Message]:
    """What Textual makes of a piece. `parser` keeps the mouse's place between two sequences."""
    if piece.kind == "text":
        return list(parser.feed(piece.text))
    if piece.kind == "escape":
        return [events.Key("escape", ESC)]
    if piece.kind == "paste":
        return [events.Paste(piece.text)]
    if piece.kind == "noise":
        return [Unheard()]
    if _MOUSE.fullmatch(piece.text) or _known(piece.text):
        found = list(parser.feed(piece.text))
        return found if any(not isinstance(message, _REPLIES) for message in found) else [*found, Unheard()]
    if len(piece.text) == 2:  # alt and a key
        alone = XTermParser()
        return [*alone.feed(piece.text), *alone.feed("")]
    return [Unheard()]


@functools.lru_cache(maxsize=512)
def _known(sequence: str) -> bool:
    """Whether Textual's parser is done with the sequence at its end: it would take what follows an unknown for more."""
    seen = list(XTermParser().feed(sequence + "x"))
    return bool(seen) and isinstance(seen[-1], events.Key) and seen[-1].key == "x"
