"""Downloads against a real local server: resumed, checked, and refused with a hint."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from nanotrain import corpus, fetch, prepare
from nanotrain.corpus import PrepareError
from tests.nanotrain import worlds
from tests.nanotrain.hub import Hub, serving

DATA = random.Random(1).randbytes(3_000_000)
NAME = "shard_00000.parquet"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as found:
        found.files[NAME] = DATA
        yield found


def get(hub: Hub, folder: Path, said: list[str] | None = None, shards: int = 1) -> Path:
    lines = said if said is not None else []
    return fetch.download("climbmix", shards, folder, hub=hub.url, say=lines.append, pause=0.01)


def whole(folder: Path) -> bool:
    target = folder / NAME
    recorded = target.with_name(NAME + ".sha256").read_text()
    expected = f"{hashlib.sha256(DATA).hexdigest()} {len(DATA)}\n"
    return target.read_bytes() == DATA and recorded == expected and not list(folder.glob("*.part"))


def test_a_shard_is_fetched_once_through_the_redirect(hub: Hub, tmp_path: Path) -> None:
    assert whole(get(hub, tmp_path))
    get(hub, tmp_path)
    assert hub.requests == [(NAME, None)]


def test_a_cut_connection_is_resumed_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.faults = ["cut", "cut", "cut"]
    said: list[str] = []
    assert whole(get(hub, tmp_path, said))
    assert [wanted for _, wanted in hub.requests] == [None, "bytes=1500000-", "bytes=2250000-", "bytes=2625000-"]
    assert hub.sent[NAME] == len(DATA), "no byte is sent twice"
    assert sum("lost at" in line for line in said) == 3


def test_a_download_left_by_another_process_is_resumed(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "climbmix").mkdir()
    (tmp_path / "climbmix" / f"{NAME}.part").write_bytes(DATA[:1_000_000])
    assert whole(get(hub, tmp_path))
    assert hub.sent[NAME] == 2_000_000


def test_a_server_without_ranges_sends_the_whole_file(hub: Hub, tmp_path: Path) -> None:
    hub.faults = ["cut", "ignore-range"]
    assert whole(get(hub, tmp_path))


def test_a_wrong_range_is_not_appended(hub: Hub, tmp_path: Path) -> None:
    hub.faults = ["cut", "wrong-range"]
    assert whole(get(hub, tmp_path))


def test_416_on_a_complete_part_finishes_it(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "climbmix").mkdir()
    (tmp_path / "climbmix" / f"{NAME}.part").write_bytes(DATA)
    assert whole(get(hub, tmp_path))
    assert hub.sent[NAME] == 0


def test_416_on_a_part_that_is_too_long_starts_again(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "climbmix").mkdir()
    (tmp_path / "climbmix" / f"{NAME}.part").write_bytes(DATA + b"more")
    assert whole(get(hub, tmp_path))


def test_a_wrong_checksum_causes_one_new_download(hub: Hub, tmp_path: Path) -> None:
    hub.faults = ["corrupt"]
    said: list[str] = []
    assert whole(get(hub, tmp_path, said))
    assert any("checksum" in line for line in said)


def test_a_checksum_wrong_twice_is_refused_and_leaves_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.faults = ["corrupt", "corrupt"]
    with pytest.raises(PrepareError, match="checksum differs twice"):
        get(hub, tmp_path)
    assert list((tmp_path / "climbmix").iterdir()) == []


def test_without_a_checksum_from_the_hub_one_is_recorded(hub: Hub, tmp_path: Path) -> None:
    hub.checksums = False
    assert whole(get(hub, tmp_path))


def test_a_missing_file_is_refused_at_once(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match="404") as caught:
        get(hub, tmp_path, shards=2)
    assert "shard_00001" in str(caught.value) and "--hub" in caught.value.hint
    assert whole(tmp_path / "climbmix"), "the first shard is kept"


def test_a_busy_server_is_retried_up_to_a_limit(hub: Hub, tmp_path: Path) -> None:
    hub.faults = ["503", "429", "500"]
    assert whole(get(hub, tmp_path / "patient"))
    hub.faults = ["503"] * 50
    with pytest.raises(PrepareError, match="503"):
        get(hub, tmp_path / "given-up")
    assert len(hub.faults) == 50 - fetch.MAX_ATTEMPTS


def test_an_unreachable_server_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with serving() as gone:
        url = gone.url
    with pytest.raises(PrepareError, match="connection failed") as caught:
        fetch.download("climbmix", 1, tmp_path, hub=url, say=lambda line: None, pause=0.001)
    assert "the download resumes" in caught.value.hint


def test_prepare_downloads_and_saves_the_choice(hub: Hub, tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    stories = worlds.text(900_000).split("\n")
    name = fetch.DATASETS["tinystories"].files[0].rsplit("/", 1)[1]
    parquet.write_table(arrow.table({"text": stories}), tmp_path / "made.parquet")
    hub.files[name] = (tmp_path / "made.parquet").read_bytes()
    env = {"AUTORESEARCH_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url}
    options = ["--download", "tinystories", "--shards", "1", "--vocab", "512"]
    first = worlds.command("nanotrain.prepare", *options, **env)
    assert first.returncode == 0, first.stderr
    assert f"{name} [####################] 100%" in first.stdout
    again = worlds.command("nanotrain.prepare", "--vocab", "512", **env)
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    assert '"corpus": "tinystories"' in again.stdout


def test_without_pyarrow_nothing_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "lib" / "pyarrow").mkdir(parents=True)
    (tmp_path / "lib" / "pyarrow" / "__init__.py").write_text("raise ImportError('not here')")
    env = {"AUTORESEARCH_HOME": str(tmp_path / "home"), "PYTHONPATH": str(tmp_path / "lib")}
    refused = worlds.command("nanotrain.prepare", "--download", "climbmix", "--hub", hub.url, **env)
    assert refused.returncode == 1 and "climbmix: pyarrow is not installed\n hint: " in refused.stderr
    assert "-m pip install pyarrow" in refused.stderr and not hub.requests


@pytest.mark.slow
def test_eight_shards_are_prepared_although_it_is_killed(hub: Hub, tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    for number in range(8):
        stories = [*worlds.text(1_050_000, number).split("\n"), "<|bos|>" * 50]
        parquet.write_table(arrow.table({"text": stories}), tmp_path / "made.parquet")
        hub.files[f"shard_{number:05d}.parquet"] = (tmp_path / "made.parquet").read_bytes()
    hub.faults = ["", "cut", "", "503", "cut"]
    words = ("-m", "nanotrain.prepare", "--download", "climbmix", "--shards", "8", "--vocab", "512", "--hub", hub.url)
    env = {**os.environ, "AUTORESEARCH_HOME": str(tmp_path / "home"), "AUTORESEARCH_DEVICE": "cuda"}
    root = tmp_path / "home" / "nanotrain"
    with subprocess.Popen([sys.executable, *words], cwd=worlds.REPOSITORY, env=env, stdout=subprocess.DEVNULL) as first:
        while not any(path.stat().st_size > 300_000 for path in root.glob("*/train.bin.tmp")):
            assert first.poll() is None
            time.sleep(0.05)
        children = psutil.Process(first.pid).children()
        first.kill()
    assert not psutil.wait_procs(children, timeout=60)[1], "those that tokenize end with the one that they serve"
    again = worlds.command(*words[1:], **{key: env[key] for key in env if key.startswith("AUTORESEARCH_")})
    assert again.returncode == 0 and "going on where an interrupted preparation was" in again.stdout, again.stderr
    [cache] = [path.parent for path in root.glob("*/manifest.json")]
    whole = corpus.folder(root / "downloads" / "climbmix", root)
    shutil.copytree(cache / "tokenizer", tmp_path / "plain" / "tokenizer")
    prepare.encode(whole, tmp_path / "plain", 0)
    for name in ("train.bin", "val.bin", "val.txt", "hidden.bin", "hidden.txt"):
        assert (cache / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name
    assert hub.sent == {name: len(data) for name, data in hub.files.items() if name in hub.sent}, "no byte twice"
