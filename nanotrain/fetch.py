"""Downloads corpora from the Hugging Face hub: resumed where it stopped, checked by sha256, with a progress bar.

The hub is $HF_ENDPOINT or https://huggingface.co; `prepare --hub URL` names another. A file that is being fetched
is `NAME.part`; finished and checked it is `NAME`, with its sha256 beside it in `NAME.sha256`.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any

from nanotrain.corpus import PrepareError, write_atomically

HUB = "https://huggingface.co"
TIMEOUT = 30.0  # seconds without a byte before a connection counts as cut
ATTEMPTS = 6  # in a row without progress
CHUNK = 1 << 20  # bytes
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Dataset:
    """A hub repository and its files, in the order in which they are fetched."""

    repository: str
    files: tuple[str, ...]


DATASETS = {
    "climbmix": Dataset("karpathy/climbmix-400b-shuffle", tuple(f"shard_{i:05d}.parquet" for i in range(6543))),
    "tinystories": Dataset(
        "roneneldan/TinyStories",
        (
            "data/train-00000-of-00004-2d5a1467fff1081b.parquet",
            "data/train-00001-of-00004-5852b56a2bd28fd9.parquet",
            "data/train-00002-of-00004-a26307300439e943.parquet",
            "data/train-00003-of-00004-d243063613e5a057.parquet",
        ),
    ),
}


def download(
    name: str, shards: int, root: Path, *, hub: str | None = None, say: Callable[[str], None], pause: float = 1.0
) -> Path:
    """Have the first `shards` files of a dataset in `root`/`name`; returns that folder, a corpus for corpus.folder().

    Files already there are not fetched again (and stay part of the corpus). `pause` is the first wait in seconds
    after a failure; it doubles. Raises PrepareError.
    """
    dataset = DATASETS.get(name)
    if dataset is None:
        raise PrepareError(f"no corpus is called {name!r}", f"one of: {', '.join(DATASETS)}")
    if not 1 <= shards <= len(dataset.files):
        raise PrepareError(f"--shards {shards}: {name} has {len(dataset.files)} shards", "give a number between")
    base = (hub or os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(dataset.files[:shards], 1):
        target = folder / Path(file).name
        if finished(target):
            continue
        say(f"downloading {target.name} ({number} of {shards})")
        fetch(f"{base}/datasets/{dataset.repository}/resolve/main/{file}", target, say=say, pause=pause)
    return folder


def finished(target: Path) -> bool:
    """Whether the file and its recorded sha256 and size are there and agree in size."""
    try:
        _, size = target.with_name(target.name + ".sha256").read_text().split()
        return target.stat().st_size == int(size)
    except (OSError, ValueError):
        return False


def fetch(url: str, target: Path, *, say: Callable[[str], None], pause: float = 1.0) -> None:
    """Download one file, resuming a `.part` that is there, and check it. Raises PrepareError when it cannot be had."""
    part = target.with_name(target.name + ".part")
    failures, mismatches = 0, 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            expected = _receive(url, part)
        except Cut as cut:
            grown = part.exists() and part.stat().st_size > before
            failures = 1 if grown else failures + 1
            if failures >= ATTEMPTS:
                raise PrepareError(f"{url}: {cut}", "try again later: it goes on where it stopped") from cut
            wait = pause * 2 ** (failures - 1)
            say(f"{cut}; trying again in {wait:.0f} s")
            time.sleep(wait)
            continue
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if expected in (None, digest):
            size = part.stat().st_size
            part.replace(target)
            write_atomically(target.with_name(target.name + ".sha256"), f"{digest} {size}\n".encode())
            return
        part.unlink()
        mismatches += 1
        if mismatches == 2:
            raise PrepareError(
                f"{url}: the checksum differs twice: sha256 {digest}, the hub says {expected}",
                "try again later, or another --hub",
            )
        say(f"the checksum of {target.name} differs; fetching it afresh")


class Cut(Exception):
    """A failure worth another attempt."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects and remembers the checksum that the hub sends with them."""

    def __init__(self) -> None:
        self.sha256: str | None = None

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        self.sha256 = self.sha256 or linked_sha256(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def linked_sha256(headers: Message) -> str | None:
    """The content's sha256 where the hub gives it: `x-linked-etag`, or an etag of that form."""
    for name in ("x-linked-etag", "etag"):
        value = (headers.get(name) or "").removeprefix("W/").strip('"').lower()
        if SHA256.fullmatch(value):
            return value
    return None


def _receive(url: str, part: Path) -> str | None:
    """Bring `part` to the file's full length; returns the sha256 the hub states, if it does.

    Raises Cut when it is worth trying again, PrepareError when it is not.
    """
    start = part.stat().st_size if part.exists() else 0
    redirects = _Redirects()
    opener = urllib.request.build_opener(redirects)
    request = urllib.request.Request(url, headers={"User-Agent": "nanotrain", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            if response.status == 200:
                start = 0  # the server does not resume: from the beginning
            elif not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
                part.unlink(missing_ok=True)
                raise Cut("the server answered with another range than asked for")
            _copy(response, part, start)
            return redirects.sha256 or linked_sha256(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return _refused(error, url, part, start, redirects)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise Cut(f"the connection failed ({getattr(error, 'reason', None) or error})") from error


def _refused(error: urllib.error.HTTPError, url: str, part: Path, start: int, redirects: _Redirects) -> str | None:
    """What an HTTP status means for the download; 416 may mean that it is complete already."""
    if error.code == 416 and start:
        if (error.headers.get("Content-Range") or "").removeprefix("bytes */") == str(start):
            return redirects.sha256 or linked_sha256(error.headers)
        part.unlink(missing_ok=True)  # longer than the file, so it is not this file
        raise Cut("what was fetched before does not belong to this file")
    if error.code in (408, 425, 429) or error.code >= 500:
        raise Cut(f"the server answered {error.code} {error.reason}")
    missing = "check the address given with --hub or HF_ENDPOINT"
    mend = missing if error.code == 404 else "check that the hub lets you in"
    raise PrepareError(f"{url}: {error.code} {error.reason}", mend)


def _copy(response: Any, part: Path, start: int) -> None:
    """Append the body to `part` (from `start`); raises Cut when it ends before its announced length."""
    length = response.headers.get("Content-Length")
    total = start + int(length) if length is not None else None
    bar = Bar(part.name.removesuffix(".part"), start, total)
    got = start
    with part.open("ab" if start else "wb") as file:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            got += len(chunk)
            bar.show(got)
    bar.close(got)
    if total is not None and got < total:
        raise Cut(f"the connection was cut at {got:,} of {total:,} bytes")


class Bar:
    """A progress bar: one line redrawn on a terminal, a line every five seconds elsewhere."""

    def __init__(self, name: str, start: int, total: int | None) -> None:
        self.name, self.start, self.total = name, start, total
        self.begun = self.shown = time.monotonic()
        self.tty = sys.stdout.isatty()

    def show(self, got: int, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self.shown < (0.1 if self.tty else 5.0):
            return
        self.shown = now
        speed = (got - self.start) / 1e6 / max(now - self.begun, 1e-6)
        drawn = f"{got / 1e6:,.0f} MB"
        if self.total:
            share = got / self.total
            drawn = f"[{'#' * round(20 * share):<20}] {100 * share:3.0f}% of {self.total / 1e6:,.0f} MB"
        line = f"prepare: {self.name} {drawn}, {speed:.1f} MB/s"
        print(f"\r{line}\033[K" if self.tty else line, end="" if self.tty else "\n", flush=True)

    def close(self, got: int) -> None:
        self.show(got, last=True)
        if self.tty:
            print(flush=True)
