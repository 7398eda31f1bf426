"""Downloads corpora from the Hugging Face hub: resumable, checked by sha256, with a progress bar.

The hub is $HF_ENDPOINT or https://huggingface.co; `prepare --hub URL` sets another. An unfinished file is
`NAME.part`; a finished and checked one is `NAME`, with its sha256 in `NAME.sha256`.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import IO, Any, NamedTuple

from nanotrain.corpus import PrepareError, write_atomically
from nanotrain.tokens.progress_bar import ProgressBar

DEFAULT_HUB = "https://huggingface.co"
MAX_IDLE_SECONDS = 30.0  # without a byte, after which a connection counts as lost
MAX_ATTEMPTS = 6  # in a row without progress
CHUNK_BYTES = 1 << 20
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")


class Dataset(NamedTuple):
    """A hub repository and its files, in download order."""

    repository: str
    files: tuple[str, ...]


STORY_PARTS = ("2d5a1467fff1081b", "5852b56a2bd28fd9", "a26307300439e943", "d243063613e5a057")
DATASETS = {
    "climbmix": Dataset("karpathy/climbmix-400b-shuffle", tuple(f"shard_{i:05d}.parquet" for i in range(6543))),
    "tinystories": Dataset(
        "roneneldan/TinyStories",
        tuple(f"data/train-0000{i}-of-00004-{part}.parquet" for i, part in enumerate(STORY_PARTS)),
    ),
}


def download(
    name: str, shards: int, root: Path, *, hub: str | None = None, say: Callable[[str], None], pause: float = 1.0
) -> Path:
    """Download the first `shards` files of a dataset to `root`/`name`; returns that folder, for corpus.folder().

    Files that are complete are not downloaded again, and stay part of the corpus. `pause` is the first wait in
    seconds after a failure; it doubles. Raises PrepareError.
    """
    dataset = DATASETS.get(name)
    if dataset is None:
        raise PrepareError(f"no corpus is called {name!r}", f"use one of: {', '.join(DATASETS)}")
    count = len(dataset.files)
    if not 1 <= shards <= count:
        raise PrepareError(f"--shards {shards}: {name} has {count} shards", f"give 1 to {count}")
    base = (hub or os.environ.get("HF_ENDPOINT") or DEFAULT_HUB).rstrip("/")
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
    """Whether the file exists with the recorded size."""
    try:
        _, size = target.with_name(target.name + ".sha256").read_text().split()
        return target.stat().st_size == int(size)
    except (OSError, ValueError):
        return False


def fetch(url: str, target: Path, *, say: Callable[[str], None], pause: float = 1.0) -> None:
    """Download one file, resuming its `.part`, and check it. Raises PrepareError when that fails for good."""
    part = target.with_name(target.name + ".part")
    failures, mismatches = 0, 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            expected = _receive(url, part)
        except TransientError as error:
            grown = part.exists() and part.stat().st_size > before
            failures = 1 if grown else failures + 1
            if failures >= MAX_ATTEMPTS:
                raise PrepareError(f"{url}: {error}", "try again later: the download resumes") from error
            wait = pause * 2 ** (failures - 1)
            say(f"{error}; next attempt in {wait:.0f} s")
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
            what = f"{url}: the checksum differs twice: sha256 {digest}, the hub says {expected}"
            raise PrepareError(what, "try again later, or give another --hub")
        say(f"the checksum of {target.name} differs; downloading it again")


class TransientError(Exception):
    """A failed attempt after which another one may succeed."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects and keeps the checksum that the hub sends with them."""

    def __init__(self) -> None:
        self.sha256: str | None = None

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        self.sha256 = self.sha256 or linked_sha256(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def linked_sha256(headers: Message) -> str | None:
    """The sha256 of the content in `x-linked-etag`, or in an etag of that form; None without one."""
    for name in ("x-linked-etag", "etag"):
        value = (headers.get(name) or "").removeprefix("W/").strip('"').lower()
        if SHA256_PATTERN.fullmatch(value):
            return value
    return None


def _receive(url: str, part: Path) -> str | None:
    """Download the rest of the file to `part`; the sha256 stated by the hub. Raises TransientError, PrepareError."""
    start = part.stat().st_size if part.exists() else 0
    redirects = _Redirects()
    opener = urllib.request.build_opener(redirects)
    request = urllib.request.Request(url, headers={"User-Agent": "nanotrain", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with opener.open(request, timeout=MAX_IDLE_SECONDS) as response:
            if response.status == 200:
                start = 0  # the server does not support ranges: start at the beginning
            elif not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
                part.unlink(missing_ok=True)
                raise TransientError("the server answered with another range than requested")
            _copy(response, part, start)
            return redirects.sha256 or linked_sha256(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return _refused(error, url, part, start, redirects)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise TransientError(f"the connection failed ({getattr(error, 'reason', None) or error})") from error


def _refused(error: urllib.error.HTTPError, url: str, part: Path, start: int, redirects: _Redirects) -> str | None:
    """Handle an HTTP error status; 416 may mean that the file is complete."""
    if error.code == 416 and start:
        if (error.headers.get("Content-Range") or "").removeprefix("bytes */") == str(start):
            return redirects.sha256 or linked_sha256(error.headers)
        part.unlink(missing_ok=True)  # longer than the file, so it belongs to another one
        raise TransientError("the partial download does not belong to this file")
    if error.code in (408, 425, 429) or error.code >= 500:
        raise TransientError(f"the server answered {error.code} {error.reason}")
    address = "check the address given with --hub or HF_ENDPOINT"
    hint = address if error.code == 404 else "check that you have access to this repository on the hub"
    raise PrepareError(f"{url}: {error.code} {error.reason}", hint)


def _copy(response: Any, part: Path, start: int) -> None:
    """Append the body to `part` (from `start`); raises TransientError when it ends before Content-Length."""
    length = response.headers.get("Content-Length")
    total = start + int(length) if length is not None else None
    bar = ProgressBar(part.name.removesuffix(".part"), start, total)
    with part.open("ab" if start else "wb") as file:
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            bar.add(len(chunk))
    bar.close()
    if total is not None and bar.got < total:
        raise TransientError(f"the connection was lost at {bar.got:,} of {total:,} bytes")
