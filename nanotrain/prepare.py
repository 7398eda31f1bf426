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
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from nanotrain import corpus as sources
from nanotrain.corpus import Corpus, PrepareError, write_atomically
from nanotrain.tokens.progress_bar import ProgressBar

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
SLICES = ("val.bin", "val.txt", "hidden.bin", "hidden.txt")  # what is scored, which runs do not see
UNFINISHED = "unfinished.json"  # what the token files of an interrupted preparation hold
PREPARE_COMMAND = "python -m nanotrain.prepare"
THIS_COMMAND = f"{shlex.quote(sys.executable)} -m nanotrain.prepare"  # in a hint: as typed in a shell
LARGE, DEFAULT = f"{THIS_COMMAND} --download climbmix --shards 8", f"{THIS_COMMAND} --data kjv"
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

    def close_to_others(self) -> None:
        """Let no other user read what is scored; an earlier version let them."""
        for path in (self.folder / name for name in SLICES):
            with contextlib.suppress(OSError):  # of another user
                if path.stat().st_mode & 0o077:
                    path.chmod(0o600)

    def protocol_message(self) -> dict[str, Any]:
        """The JSON object for the harness (docs/run-protocol.md, section 1)."""
        slices = [str(self.folder / name) for name in SLICES]
        info = {key: self.manifest[key] for key in ("corpus", "vocab", "tokens", "bytes")}
        tokenizer = [self.tokenizer / name for name in ("tokenizer.json", "token_bytes.bin")]
        return {
            # The tokenizer is passed with the tokens: before its clock starts, a run cannot turn any other text of
            # this machine into tokens, and so has nothing to train on.
            "train": {path.name: str(path) for path in (self.train, *tokenizer)},
            "readable": [str(self.tokenizer / "meta.json")],
            "hidden": slices + list(self.manifest["sources"]) + [str(path) for path in tokenizer],
            "info": info,
            # What comments and docstrings say is not counted as knowledge, so no code may read them.
            "comments": False,
        }


def selected_corpus(root: Path, *, quiet: bool = False) -> Corpus:
    """The corpus of $NANOTRAIN_DATA, else the saved choice, else kjv. Raises PrepareError."""
    name = os.environ.get("NANOTRAIN_DATA") or saved_choice(root) or "kjv"
    if name == "kjv":
        return sources.kjv()
    return sources.folder(Path(name), root, quiet=quiet)


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
    raise PrepareError(
        f"on a GPU the default corpus is too small: five minutes read its {tokens / 1e6:.1f} million tokens about "
        f"{gpu_passes(tokens)} times, and a model that learns them by heart is worse on unseen text",
        f"{LARGE} (2 GB of text, once); or, to use the default all the same: {DEFAULT}",
        {LARGE: "2 GB of text, once: right for a GPU", DEFAULT: "the default all the same"},
    )


def gpu_passes(tokens: float) -> int:
    """How often a GPU reads so many training tokens within its time budget, about."""
    return int(round(BUDGET_SECONDS["cuda"] * GPU_TOKENS_PER_SECOND / tokens, -1))


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
    done.close_to_others()
    return PreparedData(folder, done.manifest | {"sources": _text_files(corpus, done.manifest["sources"])})


def _text_files(corpus: Corpus, recorded: list[str]) -> list[str]:
    """Every file that holds the text of `corpus`: where it is now, and where it was read from, if it is still there.

    Another environment has its own copy of the default corpus, and one that is gone hides nothing.
    """
    here = [str(path) for path in corpus.files]
    return here + [name for name in recorded if name not in here and Path(name).exists()]


def build(corpus: Corpus, folder: Path, vocab: int) -> PreparedData:
    """Build every file of the cache; the manifest is written last and makes it valid.

    One that was interrupted goes on where its token files end.
    """
    start = time.monotonic()
    unfinished = folder / UNFINISHED
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    say(f"corpus {corpus.name}: {corpus.text_bytes / 1e6:.1f} MB of text")
    if unfinished.is_file():
        say("going on where an interrupted preparation was")
    else:
        build_tokenizer(corpus, vocab, folder / "tokenizer")
    tokens, size = encode(corpus, folder)
    names = ["train.bin", *SLICES]
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
    unfinished.unlink(missing_ok=True)
    took = time.monotonic() - start
    say(f"done in {took:.1f} s: {tokens['train']:,} training tokens, {tokens['val']:,} validation tokens")
    if (passes := gpu_passes(tokens["train"])) >= 10:
        say(f"in five minutes a GPU would read this text about {passes} times; for one: {LARGE}")
    return PreparedData(folder, manifest)


def encode(corpus: Corpus, folder: Path, processes: int | None = None) -> tuple[dict[str, int], dict[str, int]]:
    """Write the token files and the slices' text, or the rest of them; returns tokens and bytes by slice.

    `processes` None: as many as there are processors. Raises PrepareError.
    """
    from nanotrain.tokens.encoder import batches, encode_all  # imported here because a run has no use for them
    from nanotrain.tokens.token_files import TokenFiles

    with TokenFiles(folder, folder / UNFINISHED) as files:
        start = sum(files.written.bytes.values())
        work = islice(batches(sources.split(corpus)), files.written.batches, None)
        with (
            contextlib.closing(ProgressBar("tokenizing", start, corpus.text_bytes)) as bar,
            contextlib.closing(encode_all(work, corpus.text_bytes - start, folder / "tokenizer", processes)) as encoded,
        ):
            for batch, tokens in encoded:
                bar.add(files.add(batch, tokens))
        whole = bar.got == corpus.text_bytes
        if whole:
            files.finish()
    if not whole:
        (folder / UNFINISHED).unlink()
        raise PrepareError(f"the text of {corpus.name} changed while it was read", "run the same command again")
    return files.written.tokens, files.written.bytes


# --- the tokenizer ------------------------------------------------------------------------------


def build_tokenizer(corpus: Corpus, vocab: int, folder: Path) -> None:
    """Train the tokenizer and write its files."""
    say(f"training a byte-level BPE of {vocab} tokens on the training split")
    tokenizer = train_tokenizer(corpus, vocab)
    write_atomically(folder / "tokenizer.json", tokenizer.to_str().encode())
    write_atomically(folder / "token_bytes.bin", bytes(token_lengths(tokenizer)))
    meta = {"vocab": vocab, "bos": tokenizer.token_to_id(BOS), "corpus": corpus.name}
    write_atomically(folder / "meta.json", json.dumps(meta).encode())


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
        vocab_size=vocab,
        special_tokens=[BOS],
        initial_alphabet=alphabet,
        max_token_length=255,  # token_bytes.bin has a byte for it
        show_progress=False,
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
        if seen >= MAX_TOKENIZER_BYTES:
            return
        if name == "train":
            seen += len(piece.encode("utf-8"))
            yield piece


def token_lengths(tokenizer: Any) -> list[int]:
    """Bytes of text of each token, by id; 0 for BOS. In the byte-level alphabet one character is one byte."""
    names = [tokenizer.id_to_token(index) for index in range(tokenizer.get_vocab_size())]
    return [0 if name == BOS else len(name) for name in names]


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

        sources.check_parquet(options.download)  # before gigabytes are downloaded
        data = str(fetch.download(options.download, options.shards, root / "downloads", hub=options.hub, say=say))
    elif options.data and options.data != "kjv":
        data = str(Path(options.data).expanduser().resolve())
    else:
        data = options.data
    if not data:
        check_choice(root)
        return selected_corpus(root)
    corpus = sources.kjv() if data == "kjv" else sources.folder(Path(data), root, quiet=False)
    save_choice(root, data)
    if os.environ.get("NANOTRAIN_DATA") not in (None, "", data):
        say(f"NANOTRAIN_DATA={os.environ['NANOTRAIN_DATA']} is set and takes precedence when the option is not given")
    return corpus


def hint(error: OSError, root: Path) -> str:
    """What to do about a file that cannot be read or written; `root` holds the caches."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"free some space there (df -h {shlex.quote(str(root))}); the same command then goes on where it was"
    place = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else root
    if root.is_relative_to(place) or place.is_relative_to(root):
        return "set AUTORESEARCH_HOME to a folder that you can write"
    return "make the file readable or remove it, and run the same command again"


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
        if error.choices:
            print(json.dumps({"choices": error.choices}), flush=True)
        return 1
    except OSError as error:
        what = f"{error.filename or root}: {error.strerror or error}"
        print(f"error: {what}\n hint: {hint(error, root)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted\n hint: the same command goes on where it was", file=sys.stderr)
        return 130
    say(f"ready: {done.folder}")
    print(json.dumps(done.protocol_message()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
