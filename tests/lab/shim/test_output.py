"""Cleaning and bounding of output, the loss curve, devices and slots, identities of processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.lab.container import cores
from core.lab.device import Devices, default_slots, parse_slots, slot_environment
from core.lab.gpu.cards import usable
from core.lab.shim.output import Cleaner, Curve, OutputLog, clean
from core.lab.shim.proctree import boot_id, process_identity, same_process
from core.record.errors import UsageError

PIECES = [
    b"plain ",
    b"\x1b[31m",
    b"\x1b]0;t\x07",
    b"\x1b",
    b"[2",
    b"J",
    b"\r",
    b"\n",
    b"\xc2",
    b"\x9b",
    b"\x07",
    "é🚀".encode(),
]


@given(st.lists(st.sampled_from(PIECES), max_size=30), st.integers(1, 7))
def test_cleaned_output_cannot_control_a_terminal(pieces: list[bytes], size: int) -> None:
    data = b"".join(pieces)
    cleaner = Cleaner()
    parts = [cleaner.feed(data[i : i + size]) for i in range(0, len(data), size)]
    out = b"".join([*parts, cleaner.feed(b"", final=True)])
    assert not set(out) & (set(range(32)) - {9, 10} | {127})
    assert not any(0x80 <= ord(letter) < 0xA0 for letter in out.decode("utf-8", "replace"))
    assert clean(clean(data).encode()) == clean(data)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_output_is_decoded_by_its_byte_order_mark(encoding: str) -> None:
    assert clean("0.43 µs\r\n".encode(encoding)) == "0.43 µs\n"


def test_a_long_log_keeps_its_beginning_and_end(tmp_path: Path) -> None:
    log = OutputLog(str(tmp_path / "log"), head=1000, tail=500)
    for i in range(5000):
        log.write(b"line %05d\n" % i)
    log.close()
    text = (tmp_path / "log").read_text()
    assert len(text) <= 2100 and text.startswith("line 00000\n") and text.endswith("line 04999\n")
    assert text.count("left out here") == 1
    tail = text.split("...]\n")[1].split()[1::2]
    assert [int(n) for n in tail] == list(range(int(tail[0]), 5000))


def curve(tmp_path: Path, chunks: list[tuple[bytes, float]]) -> list[tuple[float, int, float]]:
    found = Curve(str(tmp_path / "curve.tsv"))
    for data, seconds in chunks:
        found.feed(data, seconds)
    found.close()
    rows = [line.split("\t") for line in (tmp_path / "curve.tsv").read_text().splitlines()]
    return [(float(a), int(b), float(c)) for a, b, c in rows]


@pytest.mark.parametrize(
    ("line", "step", "loss"),
    [
        (b"step 00012 | loss 3.4123 | lr 0.1", 12, 3.4123), (b"step 4/400 train_loss: 2.5e-1", 4, 0.25),
        (b'{"step": 7, "loss": 0.5}', 7, 0.5), (b"Step=3, Loss=-1.5", 3, -1.5), (b"loss 1.0 at step 9", 9, 1.0),
        (b"global_step: 20 val loss: .5", 20, 0.5),
    ],
)  # fmt: skip
def test_progress_lines_are_points_of_the_curve(tmp_path: Path, line: bytes, step: int, loss: float) -> None:
    assert curve(tmp_path, [(line + b"\n", 1.0)]) == [(1.0, step, loss)]


def test_other_lines_are_ignored_and_the_curve_is_thinned(tmp_path: Path) -> None:
    assert curve(tmp_path, [(b"step 1\nloss 2\nsteps and losses\nfootstep loss\n", 0.0)]) == []
    assert curve(tmp_path, [(b"step 1 lo", 0.0), (b"ss 2.0\n", 0.1)]) == [(0.1, 1, 2.0)]
    many = [(b"step %d loss %d\n" % (i, i), i / 1000) for i in range(1, 2001)]
    rows = curve(tmp_path, many)
    assert 10 <= len(rows) <= 12 and rows[0][1] == 1 and rows[-1][1] == 2000
    assert str(curve(tmp_path, [(b"step 1 loss nan\n", 0.0)])[0][2]) == "nan"


def test_machine_readings_are_plausible() -> None:
    devices = Devices()
    readings = devices.read()
    assert [r.name for r in readings] == [*(f"gpu{i}" for i in range(len(usable()))), "cpu"]
    cpu = readings[-1]
    assert cpu.memory_total and cpu.memory_used and 0 < cpu.memory_used < cpu.memory_total
    assert cpu.utilisation is not None and 0 <= cpu.utilisation <= 1
    assert f"{cores()} core" in devices.describe() and ("no GPU" in devices.describe()) == (len(usable()) == 0)


def test_slots_are_parsed() -> None:
    assert parse_slots("cpu:3") == ("cpu0", "cpu1", "cpu2")
    assert default_slots() == (tuple(f"gpu{i}" for i in range(len(usable()))) or ("cpu0", "cpu1")[: cores()])
    for bad in ("cpu:0", "cpu:-1", "cpu:x", "tpu:1", "", "2", "gpu:99", "gpu:x", "gpu:0,,1", "cpu:999"):
        with pytest.raises(UsageError) as caught:
            parse_slots(bad)
        assert caught.value.hint and caught.value.exit_code == 2
    env = slot_environment("cpu1")
    assert env["AUTORESEARCH_DEVICE"] == "cpu" and env["OMP_NUM_THREADS"] == "1" and env["CUDA_VISIBLE_DEVICES"] == ""
    env = slot_environment("gpu3")
    assert env["AUTORESEARCH_DEVICE"] == "cuda" and env["CUDA_VISIBLE_DEVICES"] == "3"
    assert env["OMP_WAIT_POLICY"] == "PASSIVE"


def test_a_process_is_identified_by_pid_and_start_time() -> None:
    me = process_identity(os.getpid())
    assert me is not None and me[0] == boot_id() and same_process(me)
    assert not same_process((me[0], me[1], me[2] + 1)) and not same_process(("other boot", me[1], me[2]))
    with subprocess.Popen(["sleep", "60"]) as child:
        one = process_identity(child.pid)
        assert one is not None and same_process(one)
        child.kill()
    assert not same_process(one) and process_identity(child.pid) is None
