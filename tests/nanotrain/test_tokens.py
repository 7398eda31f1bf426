"""Token files: the same bytes whatever the number of processes, and whatever interrupted their writing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nanotrain import corpus, prepare
from tests.disks import small_disk
from tests.nanotrain import worlds

VOCAB = 512
NAMES = ("train.bin", "val.bin", "val.txt", "hidden.bin", "hidden.txt")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of odd texts, most of them in one large file."""
    folder = tmp_path_factory.mktemp("texts") / "own"
    folder.mkdir()
    odd = [
        "",
        "\n",
        "one line",
        "\r\n" * 9,
        "é" * 9000,
        prepare.BOS,
        f"{prepare.BOS}<|endoftext|> [UNK] </s>",
        "\0\ufeff",
    ]
    for number, text in enumerate(odd):
        (folder / f"{number}.txt").write_bytes(text.encode())
    marks = [f"{prepare.BOS[:n]}{'x' * 5}{prepare.BOS[n:]}" for n in range(len(prepare.BOS))]  # also cut at block ends
    (folder / "large.txt").write_bytes(worlds.text(600_000).replace(" ba", f"{prepare.BOS} ba").encode())
    lines = [*odd, *marks, "a" * 4093 + prepare.BOS * 3, "\ud800 lone", "<0x0A>" * 2000]
    (folder / "lines.jsonl").write_text("\r\n".join(json.dumps({"text": text}) for text in lines))
    return folder


@pytest.fixture(scope="module")
def ready(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> prepare.PreparedData:
    """That folder, prepared in one go by one process."""
    root = tmp_path_factory.mktemp("ready")
    return prepare.prepare(corpus.folder(texts, root), root, VOCAB)


def begun(ready: prepare.PreparedData, folder: Path) -> Path:
    """A cache with the tokenizer, and no token file."""
    shutil.copytree(ready.tokenizer, folder / "tokenizer")
    return folder


def contents(folder: Path) -> list[bytes]:
    assert not list(folder.glob("*.tmp"))
    return [(folder / name).read_bytes() for name in NAMES]


def test_every_text_has_the_length_of_its_tokens(ready: prepare.PreparedData, texts: Path) -> None:
    lengths = np.fromfile(ready.tokenizer / "token_bytes.bin", dtype=np.uint8)
    sizes = [
        int(lengths[np.fromfile(ready.folder / f"{n}.bin", dtype="<u2")].sum()) for n in ("train", "val", "hidden")
    ]
    assert sum(sizes) == corpus.folder(texts, ready.folder.parent).text_bytes
    assert prepare.BOS.encode() in (ready.folder / "val.txt").read_bytes()


def test_any_number_of_processes_writes_the_same_bytes(
    ready: prepare.PreparedData, texts: Path, tmp_path: Path
) -> None:
    prepare.encode(corpus.folder(texts, tmp_path), begun(ready, tmp_path / "three"), 3)
    assert contents(tmp_path / "three") == contents(ready.folder)


def stopping(whole: corpus.Corpus) -> corpus.Corpus:
    """The corpus, whose large file is removed while it is read."""

    def parts(document: Iterable[str]) -> Iterator[str]:
        for part in document:
            yield part[:550_000]
            if len(part) > 550_000:
                raise FileNotFoundError(2, "No such file or directory", "large.txt")

    return replace(whole, documents=lambda: (parts(document) for document in whole.documents()))


def test_what_was_interrupted_goes_on_where_it_was(ready: prepare.PreparedData, texts: Path, tmp_path: Path) -> None:
    whole, folder = corpus.folder(texts, tmp_path), begun(ready, tmp_path / "cut")
    with pytest.raises(FileNotFoundError):
        prepare.encode(stopping(whole), folder, 0)
    record = json.loads((folder / prepare.UNFINISHED).read_text())
    assert record["batches"] and 0 < sum(record["bytes"].values()) < whole.text_bytes
    with (folder / "val.txt.tmp").open("ab") as file:
        file.write(b"written after the record")
    mark = bytes([1, 0])
    with (folder / "train.bin.tmp").open("r+b") as file:
        file.write(mark)
    prepare.encode(whole, folder, 0)
    found, expected = contents(folder), contents(ready.folder)
    assert found[0][:2] == mark, "what was there is not written again"
    assert [found[0][2:], *found[1:]] == [expected[0][2:], *expected[1:]]


def test_a_record_without_its_files_begins_again(ready: prepare.PreparedData, texts: Path, tmp_path: Path) -> None:
    whole, folder = corpus.folder(texts, tmp_path), begun(ready, tmp_path / "lost")
    with pytest.raises(FileNotFoundError):
        prepare.encode(stopping(whole), folder, 0)
    (folder / "val.bin.tmp").unlink()
    prepare.encode(whole, folder, 0)
    assert contents(folder) == contents(ready.folder)


def test_a_full_disk_is_said_and_what_was_written_is_kept(
    ready: prepare.PreparedData, texts: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        env = {"AUTORESEARCH_HOME": str(disk), "TMPDIR": str(disk)}
        folder = begun(ready, disk / "nanotrain" / ready.folder.name)
        (folder / prepare.UNFINISHED).write_text("{}")
        (disk / "ballast").write_bytes(bytes(3_700_000))
        words = ("nanotrain.prepare", "--data", str(texts), "--vocab", str(VOCAB))
        refused = worlds.command(*words, **env)
        assert refused.returncode == 1, refused.stdout
        assert "No space left on device\n hint: free some space there (df -h" in refused.stderr
        (disk / "ballast").unlink()
        done = worlds.command(*words, **env)
        assert done.returncode == 0, done.stderr
        assert "going on where an interrupted" in done.stdout and contents(folder) == contents(ready.folder)


def test_a_cache_that_cannot_be_written_is_said(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = worlds.command("nanotrain.prepare", "--data", str(texts), AUTORESEARCH_HOME=str(tmp_path / "file"))
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "hint: set AUTORESEARCH_HOME to a folder that you can write" in refused.stderr


def test_a_text_that_changed_while_it_was_read_is_said(
    ready: prepare.PreparedData, texts: Path, tmp_path: Path
) -> None:
    folder = begun(ready, tmp_path / "changed")
    grown = replace(corpus.folder(texts, tmp_path), text_bytes=1_000_000)
    with pytest.raises(corpus.PrepareError, match="changed while it was read"):
        prepare.encode(grown, folder, 0)
    assert not (folder / prepare.UNFINISHED).exists()


def test_a_token_is_at_most_255_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(worlds.text(700_000) + ("=" * 1000 + "\n") * 300)
    found = prepare.prepare(corpus.folder(tmp_path, tmp_path / "cache"), tmp_path / "cache", VOCAB)
    assert max((found.tokenizer / "token_bytes.bin").read_bytes()) > 100


@pytest.mark.parametrize("rows", [[1, 2], [["a"]], [b"a"]])
def test_a_column_of_other_things_than_text_is_refused(tmp_path: Path, rows: list[object]) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(arrow.table({"text": rows}), tmp_path / "a.parquet")
    with pytest.raises(corpus.PrepareError, match="not text"):
        corpus.folder(tmp_path, tmp_path / "cache")


def test_parquet_text_of_every_form_is_read(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    rows = ["é<|bos|>", None, "", "x"]
    kinds = {"a": arrow.string(), "b": arrow.large_string(), "c": arrow.dictionary(arrow.int32(), arrow.string())}
    for name, kind in kinds.items():
        parquet.write_table(arrow.table({"text": arrow.array(rows, kind)}), tmp_path / f"{name}.parquet")
    found = corpus.folder(tmp_path, tmp_path / "cache")
    assert [next(iter(document)) for document in found.documents()] == ["é<|bos|>", "", "x"] * 3
    assert found.text_bytes == 3 * len("é<|bos|>x".encode())
    bad = arrow.Array.from_buffers(arrow.string(), 1, arrow.array([b"\xff\xfe"]).buffers())
    parquet.write_table(arrow.table({"text": bad}), tmp_path / "d.parquet")
    with pytest.raises(corpus.PrepareError, match=r"d\.parquet is not a readable parquet file"):
        corpus.folder(tmp_path, tmp_path / "cache")
