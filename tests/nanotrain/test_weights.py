"""The checks of a run's weights that do not run its code."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nanotrain import weights
from tests.nanotrain import worlds

FILE = "weights.safetensors"


def set_weight(folder: Path, value: float, dtype: torch.dtype = torch.float32) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / FILE).items()}
    tensors["blocks.0.mlp.c_fc.weight"][5, 7] = value
    save_file(tensors, folder / FILE)


def cut(folder: Path) -> None:
    os.truncate(folder / FILE, (folder / FILE).stat().st_size - 100)


def extended(folder: Path) -> None:
    with (folder / FILE).open("ab") as file:
        file.write(b"appended")


def oversized(folder: Path) -> None:
    os.truncate(folder / FILE, weights.MAX_BYTES["cpu"] + 1)


def linked(folder: Path) -> None:
    (folder / FILE).rename(folder / "elsewhere")
    (folder / FILE).symlink_to(folder / "elsewhere")


def fifo(folder: Path) -> None:
    (folder / FILE).unlink()
    os.mkfifo(folder / FILE)


def wrong_shape(folder: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}).encode()
    (folder / FILE).write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))


def endless(folder: Path, shape: str) -> None:
    header = b'{"a": {"dtype": "F32", "data_offsets": [0, 8], "shape": [' + shape.encode() + b"]}}"
    (folder / FILE).write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / FILE).unlink(), "left no weights.safetensors"),
        (lambda folder: (folder / "model.json").unlink(), "left no model.json"),
        (lambda folder: (folder / "model.json").write_text("{"), "does not parse"),
        (lambda folder: (folder / "model.json").write_text("[1]"), "not an object"),
        (lambda folder: (folder / "model.json").write_text(" " * 70_000), "oversized"),
        (lambda folder: (folder / FILE).write_bytes(b""), "not a safetensors file"),
        (lambda folder: (folder / FILE).write_bytes(b"\x80\x04 a pickle, say" * 9), "not a safetensors file"),
        (lambda folder: set_weight(folder, float("nan")), "not finite.*blocks.0.mlp.c_fc"),
        (lambda folder: set_weight(folder, float("-inf"), torch.bfloat16), "not finite"),
        (lambda folder: set_weight(folder, float("nan"), torch.float16), "not finite"),
        (cut, "truncated"),
        (extended, "truncated"),
        (oversized, "oversized"),
        (linked, "cannot be read"),
        (fifo, "not a plain file"),
        (wrong_shape, "does not have the bytes"),
        (lambda folder: endless(folder, "Infinity"), "malformed"),
        (lambda folder: endless(folder, "[" * 50_000), "does not parse"),
    ],
)
def test_bad_files_are_rejected_with_a_reason(tmp_path: Path, damage: Callable[[Path], object], reason: str) -> None:
    folder = worlds.saved_run(tmp_path / "run")
    assert weights.check(folder, "cpu")["vocab_size"] == 1024
    damage(folder)
    with pytest.raises(weights.Rejected, match=reason):
        weights.check(folder, "cpu")


def test_only_the_model_remains_in_the_run_folder(tmp_path: Path) -> None:
    folder = worlds.saved_run(tmp_path / "run")
    announced = weights.digest(folder)
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "better.bin").write_bytes(b"x")
    (folder / "deep").chmod(0)
    (folder / "link").symlink_to("/etc")
    (folder / ".hidden").write_text("x")
    os.utime(folder / "model.json", ns=(1, 1))  # times and holes of a file could hold weights too
    (folder / "weights.safetensors.fresh").write_text("an obstacle")
    weights.remove_other_files(folder, "cpu")
    assert (folder / "model.json").stat().st_mtime_ns > 1
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "weights.safetensors"]
    weights.check_announced(folder, announced)
    weights.check_announced(folder, None)
    with pytest.raises(weights.Rejected, match="did not announce"):
        weights.check_announced(folder, "")
    (folder / "model.json").write_text((folder / "model.json").read_text() + " ")
    with pytest.raises(weights.Rejected, match="changed after the clock"):
        weights.check_announced(folder, announced)
