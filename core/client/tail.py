"""Reader of a text file that another process appends to: a run's output, a researcher's stream"""

from __future__ import annotations

import codecs
from pathlib import Path


class FileTail:
    """The text that was appended to a file since the last read.

    Starts at most `limit` bytes before the file's end, survives truncation and replacement, and never splits a
    character. Invalid bytes become U+FFFD. Control characters are kept.
    """

    def __init__(self, path: Path, limit: int = 256_000) -> None:
        self.path = path
        self.limit = limit
        self._restart(None)

    def _restart(self, inode: int | None) -> None:
        self._inode = inode
        self._offset = 0
        self._partial = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read(self) -> str:
        """New text, "" when there is none or no file yet."""
        try:
            with self.path.open("rb") as handle:
                size, inode = handle.seek(0, 2), self.path.stat().st_ino
                if inode != self._inode or size < self._offset:
                    self._restart(inode)
                if size - self._offset > self.limit:
                    self._offset = size - self.limit
                    self._decoder.reset()
                if size == self._offset:
                    return ""
                handle.seek(self._offset)
                data = handle.read(size - self._offset)
        except OSError:
            return ""
        self._offset += len(data)
        return self._decoder.decode(data)

    def lines(self, longest: int | None = None) -> list[str]:
        """New complete lines. An incomplete one is kept for the next call, unless it has over `longest` characters."""
        data = self.read()
        *found, self._partial = (self._partial + data).split("\n")
        if longest is not None and len(self._partial) > longest:
            found.append(self._partial)
            self._partial = ""
        return found
