"""Split of what a terminal sends into typed text, Esc, control sequences and pastes, in whatever pieces it comes"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

ESC: Final = "\x1b"
PASTE_START, PASTE_END = "\x1b[200~", "\x1b[201~"
ESCAPE_SECONDS = 0.1  # an Esc that nothing follows for so long is a person's
LATE_SECONDS = 1.5  # after an Esc: what then begins as a sequence does may be the rest of one
HELD_SECONDS = 5.0  # for the rest of a sequence
# Keys of a person too: after an Esc they are held for a moment, in case a sequence goes on.
INTRODUCERS: Final = {"[": 1.2, "]": 1.2, "P": 1.2, "_": 1.2, "O": 0.35}  # seconds

# ECMA-48, and what xterm, rxvt, the Linux console and kitty add to it.
_WHOLE = re.compile(
    r"""\x1b(?: \[\[. | \[M... | \[\d+\$ | \[(?!\[|M)[ -?]*[@-~]   # CSI
              | O\d?[ -/:-~]                                       # SS3
              | \][^\x00-\x1f\x9c]*(?:\x07|\x1b\\|\x9c)          # OSC
              | [P_][^\x00-\x1f\x9c]*(?:\x1b\\|\x9c)              # DCS, APC
              | [^\x1b\[\]PO_] )""",
    re.VERBOSE | re.DOTALL,
)
_PART = re.compile(
    r"""\x1b(?: | \[\[? | \[M.{0,2} | \[(?!\[|M)[ -?]*
              | O\d?
              | \](?:[\dIlL][^\x00-\x1f\x9c]*\x1b?)?
              | P(?:[\d>!$+=?|][^\x00-\x1f\x9c]*\x1b?)?
              | _(?:[A-Z][^\x00-\x1f\x9c]*\x1b?)? )""",
    re.VERBOSE | re.DOTALL,
)
_FOLLOWS: Final = {  # what may follow an introducer after an Esc, each alone: a person's next key is not taken for more
    "[": re.compile(r"[\d?<=>;A-FHIOP-SZM\[]"),
    "O": re.compile(r"[\dA-DFHP-S]"),
}


@dataclass(frozen=True, slots=True)
class InputPiece:
    """`text`: typed characters without Esc; `sequence`: one whole control sequence; `noise`: a broken one.

    `paste`: the text between the marks of a bracketed paste.
    """

    kind: Literal["text", "escape", "sequence", "paste", "noise"]
    text: str


class InputPieces:
    """Takes input as it is read. A sequence comes out whole or not at all, so that none of it is taken for keys.

    An Esc comes out after ESCAPE_SECONDS, before it is known whether a sequence will follow after all; that is then
    put together as well. Typed text is never held but for the one character that begins a sequence after an Esc.
    """

    def __init__(self) -> None:
        self._held = ""  # the sequence so far, from its Esc on
        self._late = False  # its Esc has come out already, as a key
        self._at = 0.0  # when the last of it came
        self._paste: str | None = None  # the paste so far
        self._out: list[InputPiece] = []

    @property
    def waits(self) -> bool:
        """Whether something is held that time may release."""
        return bool(self._held) or self._paste is not None

    def feed(self, text: str, now: float) -> list[InputPiece]:
        """The pieces that `text` completes."""
        self._expire(now)
        for position, character in enumerate(text):
            self._take(character, alone=position + 1 == len(text))
        self._at = now
        return self._taken()

    def tick(self, now: float) -> list[InputPiece]:
        """The pieces that time completes. To be called often while `waits`."""
        self._expire(now)
        return self._taken()

    def _taken(self) -> list[InputPiece]:
        out, self._out = self._out, []
        return out

    def _put(self, kind: Literal["text", "escape", "sequence", "paste", "noise"], text: str) -> None:
        if kind == "text" and self._out and self._out[-1].kind == "text":
            text = self._out.pop().text + text
        self._out.append(InputPiece(kind, text))

    # -- characters ---------------------------------------------------------------------------------------------

    def _take(self, character: str, alone: bool) -> None:
        if self._paste is not None:
            self._paste += character
            if self._paste.endswith(PASTE_END):
                self._end_paste()
        elif not self._held:
            if character == ESC:
                self._hold(ESC)
            else:
                self._put("text", character)
        else:
            self._go_on(character, alone)

    def _hold(self, held: str, late: bool = False) -> None:
        self._held, self._late = held, late

    def _go_on(self, character: str, alone: bool) -> None:
        """One more character after those that are held."""
        held, late = self._held, self._late
        longer = held + character
        if character == ESC and held == ESC:
            if not late:
                self._put("escape", ESC)
            self._hold(ESC)
        elif late and held == ESC and character not in INTRODUCERS:
            self._hold("")
            self._take(character, alone)
        elif late and alone and (follows := _FOLLOWS.get(held[1:])) and not follows.match(character):
            self._release()
            self._take(character, alone)
        elif _WHOLE.fullmatch(longer):
            self._hold("")
            self._whole(longer)
        elif _PART.fullmatch(longer):
            self._hold(longer, late)
        else:
            self._release()
            if len(held) > 2 and held.endswith(ESC):
                self._hold(ESC)
            self._take(character, alone)

    def _whole(self, sequence: str) -> None:
        if sequence == PASTE_START:
            self._paste = ""
        elif sequence != PASTE_END:
            self._put("sequence", sequence)

    def _release(self) -> None:
        """Give up the sequence that is held: a person's key comes out, anything longer does not."""
        held, late = self._held, self._late
        self._hold("")
        if len(held) == 2:
            self._put(*(("text", held[1]) if late else ("sequence", held)))
        elif len(held) > 2:
            self._put("noise", held)

    def _end_paste(self) -> None:
        text, self._paste = self._paste or "", None
        self._put("paste", text.removesuffix(PASTE_END).replace("\x00", ""))

    # -- time ---------------------------------------------------------------------------------------------------

    def _expire(self, now: float) -> None:
        waited = now - self._at
        if self._paste is not None:
            if waited >= HELD_SECONDS:
                self._end_paste()
        elif self._held == ESC and not self._late and waited >= ESCAPE_SECONDS:
            self._put("escape", ESC)
            self._hold(ESC, late=True)
        if self._held == ESC and self._late and waited >= LATE_SECONDS:
            self._hold("")
        elif len(self._held) > 1 and waited >= self._patience():
            self._release()

    def _patience(self) -> float:
        """Seconds to wait for the rest of the sequence that is held."""
        if len(self._held) > 2:
            return HELD_SECONDS
        return INTRODUCERS[self._held[1]] if self._late else LATE_SECONDS
