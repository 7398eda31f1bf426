"""Tokenizing a large corpus: one process with threads, as it was, and one process for each processor.

    python -m benchmarks prepare [MB]        # default 40, of the Python sources of this machine

Each way encodes the same text with the same tokenizer of 8192 tokens, and the results are compared. Processor time is
shown beside wall time, because other programs of a busy machine count in the latter.
"""

from __future__ import annotations

import array
import hashlib
import json
import os
import resource
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from nanotrain import corpus, prepare
from nanotrain.tokens.encoder import Encoder, batches, cores, encode_all

TEXT_MB = 2000  # of eight shards of climbmix: 500 million tokens


def sources(size: float) -> Iterator[str]:
    """At least `size` characters of Python sources, in the order of their names."""
    places = dict.fromkeys(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
    for path in (path for place in places for path in sorted(Path(place).rglob("*.py"))):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        yield text
        size -= len(text)
        if size < 0:
            return


def threads(whole: corpus.Corpus, tokenizer: Path) -> str:
    """As it was: threads of the library, each token looked at in Python. Returns the sha256 of the training tokens."""
    encoder, digest = Encoder(tokenizer), hashlib.sha256()
    lengths, pieces, covered = list(encoder.lengths), corpus.split(whole), 0
    while batch := list(islice(pieces, 512)):
        encoded = encoder.tokenizer.encode_batch([piece for _, piece, _ in batch], add_special_tokens=False)
        for (name, _, fresh), found in zip(batch, encoded, strict=True):
            covered += sum(lengths[token] for token in found.ids)
            if name == "train":
                digest.update(array.array("H", [0, *found.ids] if fresh else found.ids).tobytes())
    return digest.hexdigest()


def processes(whole: corpus.Corpus, tokenizer: Path, number: int) -> str:
    """As it is. Returns the sha256 of the training tokens."""
    digest = hashlib.sha256()
    for _, encoded in encode_all(batches(corpus.split(whole)), whole.text_bytes, tokenizer, number):
        digest.update(encoded.get("train", (b"", 0))[0])
    return digest.hexdigest()


def measured(way: Callable[[], str]) -> tuple[str, float, float]:
    """Its result, seconds, and seconds of processor time of this process and its children."""

    def spent() -> float:
        return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    before, begun = spent(), time.monotonic()
    return way(), time.monotonic() - begun, spent() - before


def main() -> None:
    size = float(sys.argv[1]) * 1e6 if len(sys.argv) > 1 else 40e6
    with tempfile.TemporaryDirectory() as folder:
        data, tokenizer = Path(folder, "data"), Path(folder, "tokenizer")
        data.mkdir()
        tokenizer.mkdir()
        with (data / "a.jsonl").open("w") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in sources(size))
        whole = corpus.folder(data, Path(folder))
        prepare.build_tokenizer(whole, 8192, tokenizer)
        ways: dict[str, partial[str]] = {"one process of threads (as it was)": partial(threads, whole, tokenizer)}
        for number in sorted({1, 2, cores()}):
            ways[f"one reader, {plural(number)} that encode"] = partial(processes, whole, tokenizer, number)
        print(f"\n{whole.text_bytes / 1e6:.0f} MB of text, load {os.getloadavg()[0]:.1f}, {cores()} processors\n")
        print(f"{'':36}{'seconds':>9}{'CPU s':>8}{'MB/CPU s':>10}{'2 GB on 16 processors':>24}")
        results = set()
        for name, way in ways.items():
            result, seconds, spent = measured(way)
            results.add(result)
            rate = whole.text_bytes / 1e6 / spent
            far = "" if way.func is threads else f"{TEXT_MB / rate / 16:22.0f} s"  # threads wait for one that looks
            print(f"{name:36}{seconds:9.1f}{spent:8.1f}{rate:10.2f}{far}", flush=True)
        print(f"\n{'the same tokens from all' if len(results) == 1 else 'THE TOKENS DIFFER'}")


def plural(number: int) -> str:
    return f"{number} process" if number == 1 else f"{number} processes"


if __name__ == "__main__":
    main()
