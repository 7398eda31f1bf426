"""Prepare the data once: corpus -> split -> tokenizer -> token files, in a cache that every call verifies.

    python -m nanotrain.prepare                        # the selected corpus, by default the King James Bible
    python -m nanotrain.prepare --data DIR             # any folder of .txt, .jsonl or .parquet (column `text`)
    python -m nanotrain.prepare --data kjv             # back to the default
    python -m nanotrain.prepare --download climbmix --shards 8

This file is fixed: no experiment edits it. The corpus is, in this order: the options above (saved in the cache), else
$NANOTRAIN_DATA (`kjv` or a folder), else the saved choice, else `kjv`; with AUTORESEARCH_DEVICE=cuda, `kjv` must be
chosen.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanotrain import corpus as sources
from nanotrain.corpus import Corpus, PrepareError, write_atomically

CACHE_VERSION = 2  # raise it when the split, the tokenizer, a format or the hidden files change: caches are rebuilt
BUDGET_SECONDS = {"cpu": 20.0, "cuda": 300.0}  # time budget of one run without a harness
EVAL_CONTEXT = {"cpu": 64, "cuda": 2048}  # tokens per row of the scorer: the longest usable context
EVAL_BYTES = {"cpu": 65_536, "cuda": 524_288}  # text that is scored, if the slice holds that much
MIN_EVAL_BYTES = 65_536  # with less text the metric would depend on its choice
SMALL_VOCAB, LARGE_VOCAB = 1024, 8192  # tokens, by MAX_SMALL_CORPUS_BYTES
MIN_VOCAB, MAX_VOCAB = 300, 65_535  # for --vocab
MAX_SMALL_CORPUS_BYTES = 64_000_000  # below it a corpus gets the small vocabulary
MAX_TOKENIZER_BYTES = 64_000_000  # of the training split, on which the tokenizer is trained
BOS = "<|bos|>"  # before every stretch of continuous text; token 0; never scored
SPLIT_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
MAX_FULL_HASH_BYTES = 64_000_000  # larger files are verified by their two ends
PREPARE_COMMAND = "python -m nanotrain.prepare"
THIS_COMMAND = f"{shlex.quote(sys.executable)} -m nanotrain.prepare"  # in a hint: as typed in a shell
SMALL_TOKEN_BYTES = 3.05  # bytes of text for each training token of the small vocabulary, about
GPU_TOKENS_PER_SECOND = 1.6e6  # that the default model trains on, about, on the fast GPUs of today


def cache_root() -> Path:
    """The folder of all caches: $AUTORESEARCH_HOME/nanotrain, else ~/.cache/autoresearch-tui/nanotrain."""
    home = os.environ.get("AUTORESEARCH_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "autoresearch-tui") / "nanotrain"


def say(line: str) -> None:
    """Print a line of progress."""
    print(f"prepare: {line}", flush=True)


@dataclass(frozen=True)
class PreparedData:
    """A finished cache folder."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer"

    @property
    def train(self) -> Path:
        return self.folder / "train.bin"

    def protocol_message(self) -> dict[str, Any]:
        """The JSON object for the harness (docs/run-protocol.md, section 1)."""
        slices = [str(self.folder / name) for name in ("val.bin", "val.txt", "hidden.bin", "hidden.txt")]
        info = {key: self.manifest[key] for key in ("corpus", "vocab", "tokens", "bytes")}
        tokenizer = [self.tokenizer / name for name in ("tokenizer.json", "token_bytes.bin")]
        return {
            # The tokenizer is passed with the tokens: before its clock starts, a run cannot turn any other text of
            # this machine into tokens, and so has nothing to train on.
            "train": {path.name: str(path) for path in (self.train, *tokenizer)},
            "readable": [str(self.tokenizer / "meta.json")],
            "hidden": slices + list(self.manifest["sources"]) + [str(path) for path in tokenizer],
            "info": info,
        }


def selected_corpus(root: Path, *, quiet: bool = False) -> Corpus:
    """The corpus of $NANOTRAIN_DATA, else the saved choice, else kjv. Raises PrepareError."""
    name = os.environ.get("NANOTRAIN_DATA") or saved_choice(root) or "kjv"
    if name == "kjv":
        return sources.kjv()
    return sources.folder(Path(name), root, say=(lambda line: None) if quiet else say)


def saved_choice(root: Path) -> str | None:
    """The choice of an earlier `--data` or `--download`, or None."""
    try:
        return str(json.loads((root / "selected.json").read_text())["data"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save_choice(root: Path, name: str) -> None:
    """Use the corpus `name` (`kjv` or a folder) until another one is selected."""
    root.mkdir(parents=True, exist_ok=True)
    write_atomically(root / "selected.json", json.dumps({"data": name}).encode())


def check_choice(root: Path) -> None:
    """Refuse to train on a GPU on the default corpus that nobody chose. Raises PrepareError."""
    if os.environ.get("AUTORESEARCH_DEVICE") != "cuda" or os.environ.get("NANOTRAIN_DATA") or saved_choice(root):
        return
    tokens = sources.kjv().text_bytes / SMALL_TOKEN_BYTES
    passes = BUDGET_SECONDS["cuda"] * GPU_TOKENS_PER_SECOND / tokens
    raise PrepareError(
        f"on a GPU the default corpus is too small: five minutes read its {tokens / 1e6:.1f} million tokens about "
        f"{round(passes, -1):.0f} times, and a model that learns them by heart is worse on unseen text",
        f"{THIS_COMMAND} --download climbmix --shards 8 (2 GB of text, once); or, to use the default all the same: "
        f"{THIS_COMMAND} --data kjv",
    )


def default_vocab(corpus: Corpus) -> int:
    return SMALL_VOCAB if corpus.text_bytes < MAX_SMALL_CORPUS_BYTES else LARGE_VOCAB


# --- the cache ----------------------------------------------------------------------------------


def find(root: Path | None = None, vocab: int | None = None) -> PreparedData | None:
    """The cache of the selected corpus if it is complete and intact, else None. Raises PrepareError."""
    root = root or cache_root()
    corpus = selected_corpus(root, quiet=True)
    return intact(root / cache_key(corpus, vocab or default_vocab(corpus)))


def cache_key(corpus: Corpus, vocab: int) -> str:
    """The name of the cache folder of a corpus and vocabulary size."""
    return f"{corpus.sha256[:16]}-bpe{vocab}-v{CACHE_VERSION}"


def intact(folder: Path) -> PreparedData | None:
    """The cache in `folder` if every file has the recorded fingerprint, else None."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        for name, recorded in manifest["files"].items():
            if fingerprint(folder / name) != recorded:
                return None
        return PreparedData(folder, manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def fingerprint(path: Path) -> str:
    """sha256 of size and contents; of a file over MAX_FULL_HASH_BYTES, of its size and its two ends of 1 MB."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode() + b":")
        if size <= MAX_FULL_HASH_BYTES:
            digest.update(file.read())
        else:
            digest.update(file.read(1 << 20))
            file.seek(-(1 << 20), os.SEEK_END)
            digest.update(file.read())
    return digest.hexdigest()


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """One preparation at a time per cache: a second one waits for the first, then finds a complete cache."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("waiting for another preparation of the same cache")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prepare(corpus: Corpus, root: Path | None = None, vocab: int | None = None) -> PreparedData:
    """The cache of `corpus` with `vocab` tokens (default: by its size), built if missing. Raises PrepareError."""
    root, vocab = root or cache_root(), vocab or default_vocab(corpus)
    folder = root / cache_key(corpus, vocab)
    done = intact(folder)
    if done is None:
        with locked(root):
            done = intact(folder) or build(corpus, folder, vocab)
    return done


def build(corpus: Corpus, folder: Path, vocab: int) -> PreparedData:
    """Build every file of the cache; the manifest is written last and makes it valid."""
    start = time.monotonic()
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    say(f"corpus {corpus.name}: {corpus.text_bytes / 1e6:.1f} MB of text")
    say(f"training a byte-level BPE of {vocab} tokens on the training split")
    tokenizer = train_tokenizer(corpus, vocab)
    write_atomically(folder / "tokenizer" / "tokenizer.json", tokenizer.to_str().encode())
    lengths = token_lengths(tokenizer)
    write_atomically(folder / "tokenizer" / "token_bytes.bin", array.array("B", lengths).tobytes())
    meta = {"vocab": vocab, "bos": tokenizer.token_to_id(BOS), "corpus": corpus.name}
    write_atomically(folder / "tokenizer" / "meta.json", json.dumps(meta).encode())
    tokens, size = encode(corpus, tokenizer, lengths, folder)
    names = ["train.bin", "val.bin", "val.txt", "hidden.bin", "hidden.txt"]
    names += [f"tokenizer/{name}" for name in ("tokenizer.json", "token_bytes.bin", "meta.json")]
    manifest = {
        "version": CACHE_VERSION,
        "corpus": corpus.name,
        "sha256": corpus.sha256,
        "vocab": vocab,
        "tokens": tokens,
        "bytes": size,
        "sources": [str(path) for path in corpus.files],
        "files": {name: fingerprint(folder / name) for name in names},
    }
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=1).encode())
    took = time.monotonic() - start
    say(f"done in {took:.1f} s: {tokens['train']:,} training tokens, {tokens['val']:,} validation tokens")
    if corpus.text_bytes < MAX_SMALL_CORPUS_BYTES:
        say("this corpus is small: a GPU reads it hundreds of times; use --download climbmix --shards 8 there")
    return PreparedData(folder, manifest)


# --- the tokenizer ------------------------------------------------------------------------------


def train_tokenizer(corpus: Corpus, vocab: int) -> Any:
    """A byte-level BPE of exactly `vocab` tokens, from the training split only. Raises PrepareError."""
    try:
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError as error:
        raise PrepareError("the package tokenizers is not installed", f"{sources.PIP} tokenizers") from error
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated")
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, in_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[BOS], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(training_text(corpus), trainer)
    if tokenizer.get_vocab_size() != vocab:
        what = f"the corpus {corpus.name} yields only {tokenizer.get_vocab_size()} tokens, not {vocab}"
        raise PrepareError(what, "give more varied text, or a smaller --vocab")
    return tokenizer


def training_text(corpus: Corpus) -> Iterator[str]:
    """Up to MAX_TOKENIZER_BYTES of the training split."""
    seen = 0
    for name, piece, _ in sources.split(corpus):
        if name == "train" and seen < MAX_TOKENIZER_BYTES:
            seen += len(piece.encode("utf-8"))
            yield piece


def token_lengths(tokenizer: Any) -> list[int]:
    """Bytes of text of each token, by id; 0 for BOS. In the byte-level alphabet one character is one byte."""
    names = [tokenizer.id_to_token(index) for index in range(tokenizer.get_vocab_size())]
    return [0 if name == BOS else len(name) for name in names]


def encode(corpus: Corpus, tokenizer: Any, lengths: list[int], folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Write the token files (little-endian uint16) and the slices' text; returns tokens and bytes by slice.

    Raises PrepareError when the tokens of a slice do not have the length of its text.
    """
    slices = ("train", "val", "hidden")
    counts, sizes, covered = (dict.fromkeys(slices, 0) for _ in range(3))
    bos = tokenizer.token_to_id(BOS)
    tokenizer.encode_special_tokens = True  # a text that holds the letters of BOS is text
    with contextlib.ExitStack() as stack:
        tokens = {name: stack.enter_context((folder / f"{name}.bin.tmp").open("wb")) for name in slices}
        texts = {name: stack.enter_context((folder / f"{name}.txt.tmp").open("wb")) for name in slices[1:]}
        for batch in batches(sources.split(corpus)):
            encoded = tokenizer.encode_batch([piece for _, piece, _ in batch], add_special_tokens=False)
            for (name, piece, fresh), encoding in zip(batch, encoded, strict=True):
                ids, raw = encoding.ids, piece.encode("utf-8")
                covered[name] += sum(lengths[token] for token in ids)
                stored = array.array("H", [bos, *ids] if fresh else ids)
                if sys.byteorder == "big":
                    stored.byteswap()
                tokens[name].write(stored.tobytes())
                counts[name] += len(stored)
                sizes[name] += len(raw)
                if name in texts:
                    texts[name].write(raw)
    if covered != sizes:
        raise PrepareError(f"the tokenizer loses text: {covered} bytes of {sizes}", "report this error and the corpus")
    for name in [f"{name}.bin" for name in slices] + [f"{name}.txt" for name in slices[1:]]:
        (folder / f"{name}.tmp").replace(folder / name)
    return counts, sizes


def batches(items: Iterator[tuple[str, str, bool]], size: int = 512) -> Iterator[list[tuple[str, str, bool]]]:
    """Lists of up to `size` pieces, enough for the threads of the tokenizer; prints progress every 2 s."""
    batch: list[tuple[str, str, bool]] = []
    started, shown, total = time.monotonic(), time.monotonic(), 0
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            total, batch = total + size, []
            if time.monotonic() - shown > 2:
                shown = time.monotonic()
                say(f"encoded {total * sources.BLOCK_BYTES / 1e6:.0f} MB in {shown - started:.0f} s")
    if batch:
        yield batch


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m nanotrain.prepare", description="Prepare the data once.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--data", metavar="DIR", help="a folder of .txt, .jsonl or .parquet files, or `kjv`; saved")
    which.add_argument("--download", metavar="NAME", help="climbmix or tinystories, from the hub; saved")
    parser.add_argument("--shards", type=int, default=4, metavar="N", help="how many shards to download (default 4)")
    parser.add_argument("--hub", metavar="URL", help="address of the hub (default $HF_ENDPOINT or huggingface.co)")
    parser.add_argument("--vocab", type=int, metavar="N", help="tokens in the vocabulary (default: by corpus size)")
    return parser.parse_args(argv)


def select(options: argparse.Namespace, root: Path) -> Corpus:
    """Apply the options, save an explicit choice and return the corpus. Raises PrepareError."""
    if options.download:
        from nanotrain import fetch  # imported here because it loads ssl and http

        data = str(fetch.download(options.download, options.shards, root / "downloads", hub=options.hub, say=say))
    elif options.data and options.data != "kjv":
        data = str(Path(options.data).expanduser().resolve())
    else:
        data = options.data
    if not data:
        check_choice(root)
        return selected_corpus(root)
    corpus = sources.kjv() if data == "kjv" else sources.folder(Path(data), root, say=say)
    save_choice(root, data)
    if os.environ.get("NANOTRAIN_DATA") not in (None, "", data):
        say(f"NANOTRAIN_DATA={os.environ['NANOTRAIN_DATA']} is set and takes precedence when the option is not given")
    return corpus


def main(argv: list[str] | None = None) -> int:
    """Prints progress, then the JSON of docs/run-protocol.md as the last line; returns 0 done, 1 error, 2 usage."""
    options = arguments(argv)
    root = cache_root()
    try:
        if options.vocab is not None and not MIN_VOCAB <= options.vocab <= MAX_VOCAB:
            raise PrepareError(f"--vocab {options.vocab} is out of range", f"give {MIN_VOCAB} to {MAX_VOCAB}")
        done = prepare(select(options, root), root, options.vocab)
    except PrepareError as error:
        print(f"error: {error}\n hint: {error.hint}", file=sys.stderr)
        return 1
    except OSError as error:
        what = f"{error.filename or root}: {error.strerror}"
        print(f"error: {what}\n hint: free disk space there, or set AUTORESEARCH_HOME", file=sys.stderr)
        return 1
    say(f"ready: {done.folder}")
    print(json.dumps(done.protocol_message()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
