"""Hash chain of a log: each event's hash covers its row as stored and the hash of the event before it

    hash(n) = SHA-256( hash(n - 1) ‖ seq ‖ time ‖ experiment ‖ body ),  hash(0) = START

seq and experiment (-1: none) as 8 bytes big-endian, time as a big-endian double, body as its stored UTF-8 bytes. The
hashes are in a table of their own, `chain(seq, hash)`. An event of an older version has none; it is covered by the next
hash there is, the first of which is an anchor: it was computed over rows that were there already.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Iterable
from typing import NamedTuple

SCHEMA = "CREATE TABLE IF NOT EXISTS chain(seq INTEGER PRIMARY KEY, hash BLOB NOT NULL);"
START = hashlib.sha256(b"autoresearch-tui log 1\n").digest()
TRAILER = "Autoresearch-Log"  # of an experiment's commit: the head of the log when it was made
HEAD_REF = "log"  # refs/autoresearch/<session>/log: a text with the head after the last verdict, or at the end
SHORT = 12  # digits of a hash that a person is shown
_ROWS = "SELECT seq, time, experiment, CAST(body AS BLOB) FROM events WHERE seq > ? ORDER BY seq"
_FIXED = struct.Struct(">qdq")

Row = tuple[int, float, int | None, bytes]  # seq, time, experiment, body


class ChainHead(NamedTuple):
    """The last event of a log and its hash, in hexadecimal digits: what is written down outside the log."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @property
    def short(self) -> str:
        return f"{self.seq}:{self.hash[:SHORT]}"

    @classmethod
    def parse(cls, text: str) -> ChainHead:
        """Raises ValueError. A hash of fewer digits, as `short` has it, is taken too."""
        seq, _, digits = text.strip().partition(":")
        if not (seq.isascii() and seq.isdigit() and SHORT <= len(digits) <= 64) or set(digits) - set(
            "0123456789abcdef"
        ):
            raise ValueError(f"{text!r} is no head of a log, such as 120:{'0' * SHORT}")
        return cls(int(seq), digits)


def link(before: bytes, row: Row) -> bytes:
    """The hash of an event after one with the hash `before`."""
    seq, time, experiment, body = row
    fixed = _FIXED.pack(seq, time, -1 if experiment is None else experiment)
    return hashlib.sha256(b"".join((before, fixed, body))).digest()


def follow(before: bytes, rows: Iterable[Row]) -> bytes:
    """The hash of the last of `rows`."""
    for row in rows:
        before = link(before, row)
    return before


def rows_after(db: sqlite3.Connection, seq: int) -> Iterable[Row]:
    """The events after number `seq` as they are stored, in order."""
    return db.execute(_ROWS, (seq,))


def last_link(db: sqlite3.Connection) -> tuple[int, bytes]:
    """The last hash there is and its event; (0, START) in a log without one."""
    try:
        row = db.execute("SELECT seq, CAST(hash AS BLOB) FROM chain ORDER BY seq DESC LIMIT 1").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        row = None
    return (0, START) if row is None else row
