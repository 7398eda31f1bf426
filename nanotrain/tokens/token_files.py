"""The token files of a cache while they are written, and the record from which an interrupted writer goes on."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from nanotrain.corpus import PrepareError, write_atomically
from nanotrain.tokens.encoder import BATCH_PIECES, Batch, Encoded

SLICES = ("train", "val", "hidden")
SCORED = ("val", "hidden")  # their text is kept, too
RECORD_SECONDS = 5.0  # between two records


@dataclass(frozen=True)
class WrittenTokens:
    """What the files hold: whole batches, and their tokens and bytes of text by slice."""

    batches: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SLICES, 0))
    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SLICES, 0))
    pieces: int = BATCH_PIECES

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        sizes = {f"{name}.bin": 2 * self.tokens[name] for name in SLICES}
        return sizes | {f"{name}.txt": self.bytes[name] for name in SCORED}


def _mode(name: str) -> int:
    """Of a file: other users may not read what is scored."""
    return 0o600 if name.partition(".")[0] in SCORED else 0o644


class TokenFiles:
    """NAME.bin of each slice, and NAME.txt of the scored ones; NAME.*.tmp until all is written.

    A record says every few seconds, and when the writer is interrupted, what they hold on disk. A writer that finds one
    cuts the files to it and goes on.
    """

    def __init__(self, folder: Path, record: Path) -> None:
        self._folder, self._record = folder, record
        self.written = self._found()
        self._recorded = time.monotonic()
        with ExitStack() as stack:
            self._files: dict[str, IO[bytes]] = {}
            for name, size in self.written.sizes().items():
                self._part(name).touch(_mode(name))
                file = self._files[name] = stack.enter_context(self._part(name).open("r+b"))
                file.truncate(size)
                file.seek(size)
            self.record()
            self._open = stack.pop_all()

    def _part(self, name: str) -> Path:
        return self._folder / f"{name}.tmp"

    def _found(self) -> WrittenTokens:
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = WrittenTokens(**json.loads(self._record.read_text()))
            whole = all(self._part(name).stat().st_size >= size for name, size in found.sizes().items())
            if whole and found.pieces == BATCH_PIECES:
                return found
        return WrittenTokens()

    def __enter__(self) -> TokenFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._open, suppress(OSError, ValueError):  # on a full disk the record before this one holds
            if kind is not None:
                self.record()

    def record(self) -> None:
        """Say on disk what the files hold."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        write_atomically(self._record, json.dumps(asdict(self.written)).encode())
        self._recorded = time.monotonic()

    def add(self, batch: Batch, encoded: Encoded) -> int:
        """Append a batch; returns its bytes of text. Raises PrepareError when its tokens do not stand for its text."""
        tokens, size = dict(self.written.tokens), dict(self.written.bytes)
        for name, (ids, covered) in encoded.items():
            text = "".join(piece for slice, piece, _ in batch if slice == name).encode("utf-8")
            if covered != len(text):
                what = f"the tokenizer loses text: {covered} bytes of {len(text)}"
                raise PrepareError(what, "report this error and the corpus")
            self._files[f"{name}.bin"].write(ids)
            if name in SCORED:
                self._files[f"{name}.txt"].write(text)
            tokens[name] += len(ids) // 2
            size[name] += len(text)
        more = sum(size.values()) - sum(self.written.bytes.values())
        # At once: a record may be made at any moment.
        self.written = WrittenTokens(self.written.batches + 1, tokens, size)
        if time.monotonic() - self._recorded > RECORD_SECONDS:
            self.record()
        return more

    def finish(self) -> None:
        """Give the files their names."""
        self._open.close()
        for name in self._files:
            self._part(name).replace(self._folder / name)
