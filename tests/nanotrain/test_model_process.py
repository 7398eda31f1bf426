"""The exchange with a model's process, by processes that answer as they like and load nothing."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanotrain import probes, process_limits, score, weights
from nanotrain.model_process import HALF_BYTES, LogitRequest, ModelProcess, ScorerError
from tests.nanotrain.conftest import environment, sparing_other_children
from tests.nanotrain.worlds import REPOSITORY

HOST = """
import ctypes, fcntl, json, mmap, os, socket, struct, sys, threading
sys.path.insert(0, {repository!r})
from nanotrain import model_host as h
channel, out = socket.socket(fileno=0), os.fdopen(1, "wb")
descriptor = socket.recv_fds(channel, 1, 1)[1][0]
memory = mmap.mmap(descriptor, 0)
requests = channel.makefile("rb")
h.send(out, dict(type="hello"))
h.receive(requests)
h.send(out, dict(type="primed"))
h.receive(requests)
h.send(out, dict(type="ready", hash="a"))
def put(header, value):
    memory[header["at"] : header["at"] + len(value)] = value
while True:
    header, payload = h.receive(requests)
    kind = header["type"]
{body}
"""
Start = Callable[..., ModelProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process with `body` for each request; it is loaded when this returns."""
    begun: list[ModelProcess] = []

    def starting(body: str, vocab: int = 8) -> ModelProcess:
        script = tmp_path / f"host{len(begun)}.py"
        lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
        script.write_text(HOST.format(repository=str(REPOSITORY), body=lines))
        order = {"device": "cpu", "worktree": str(tmp_path), "imports": []}
        begun.append(ModelProcess([sys.executable, "-I", "-S", str(script)], order, vocab, math.inf))
        assert begun[-1].load(30.0, 30.0) == "a"
        return begun[-1]

    with sparing_other_children():
        yield starting
        for one in begun:
            one.close()


def rows(count: int, length: int) -> LogitRequest:
    return LogitRequest(np.zeros((count, length), dtype=np.uint16))


ANSWER = """
shape = [*header["shape"], header["vocab"]] if kind == "tokens" else []
"""


def test_logits_of_a_large_vocabulary_arrive_in_parts_and_in_order(start: Start) -> None:
    model = start(
        ANSWER
        + """
for place, position in enumerate(range(header["part"][0], min(300, header["part"][1]))):
    put(dict(at=header["at"] + place * 65536 * 4), struct.pack("<f", position))
h.send(out, dict(type=kind, shape=shape, dtype="float32"))
""",
        vocab=65_536,
    )
    found: dict[tuple[int, int], float] = {}
    for index, where, logits in model.stream([rows(2, 150), rows(2, 150)]):
        found |= {(index, where.start + n): float(value) for n, value in enumerate(logits[:, 0])}
    assert found == {(index, place): float(place) for index in (0, 1) for place in range(300)}
    assert HALF_BYTES // (4 * 65_536) < 150, "several parts"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_logits_of_each_type_keep_their_values(start: Start, dtype: str) -> None:
    values = np.array([[0.5, -3.0, 100.0, 1.5]], dtype=np.float32)
    data = {
        "float32": values.tobytes(),
        "float16": values.astype(np.float16).tobytes(),
        "bfloat16": (values.view(np.uint32) >> 16).astype(np.uint16).tobytes(),
    }[dtype]
    put = f"put(header, bytes.fromhex({data.hex()!r}))\n"
    model = start(f"{ANSWER}{put}h.send(out, dict(type=kind, shape=shape, dtype={dtype!r}))", vocab=4)
    (found,) = model.logits(rows(1, 1))
    assert (found == values).all()


def test_flipping_the_logits_while_they_are_read_gains_nothing(start: Start) -> None:
    """Read twice, the target's logit could be 20 and the normalizer that of zeros: a loss below zero."""
    model = start(
        ANSWER
        + """
size = 512 * 256 * 4
sure = (struct.pack("<f", 20.0) + bytes(255 * 4)) * 512
def flip():
    while True:
        for half in (0, header["at"]):
            memory[half : half + size] = sure
            memory[half : half + size] = bytes(size)
if kind == "tokens" and threading.active_count() == 1:
    threading.Thread(target=flip, daemon=True).start()
h.send(out, dict(type=kind, shape=shape, dtype="float32"))
""",
        vocab=256,
    )
    nats = [
        probes.cross_entropy(logits, np.zeros(len(logits), dtype=np.uint16))
        for _, _, logits in model.stream([rows(2, 256)] * 4)
    ]
    sure, unsure = math.log(255 + math.exp(20)) - 20, math.log(256)
    assert all(np.isclose(one, sure, atol=1e-6) | np.isclose(one, unsure, atol=1e-6) for one in np.concatenate(nats))


def test_the_shared_memory_keeps_its_size_and_nothing_is_left_in_the_socket(start: Start) -> None:
    body = """
def refused(act):
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"
found = [refused(lambda: os.ftruncate(descriptor, 1 << 30)), refused(lambda: os.ftruncate(descriptor, 10)),
         refused(lambda: os.pwrite(descriptor, b"x", 1 << 30)),
         refused(lambda: os.posix_fallocate(descriptor, 0, 1 << 30)),
         refused(lambda: fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)),
         refused(lambda: socket.send_fds(channel, [b"x"], [descriptor]))]
h.send(out, dict(type=kind, hash=" ".join(found)))
"""
    first, second = start(body), start(body)
    assert first.hash() == "PermissionError " * 5 + "BrokenPipeError"
    descriptors = [one.memory.descriptor for one in (first, second)]
    assert len({Path(f"/proc/self/fd/{one}").stat().st_ino for one in descriptors}) == 2, "each has its own"
    first.close()
    with pytest.raises(ValueError, match="closed"):
        first.memory.read(0, 1, 8, "float32")


def test_a_hole_in_the_memory_is_read_as_zeros(start: Start) -> None:
    model = start(
        ANSWER
        + """
put(header, b"x" * 64)
ctypes.CDLL(None).fallocate(descriptor, 3, ctypes.c_long(0), ctypes.c_long(memory.size()))
h.send(out, dict(type=kind, shape=shape, dtype="float32"))
"""
    )
    (found,) = model.logits(rows(1, 2))
    assert not found.any()


ODD_ANSWERS: list[dict[str, Any]] = [
    {"shape": [1, 2, 9], "dtype": "float32"},
    {"shape": [1, 2, 8], "dtype": "float64"},
    {"shape": [1, 2, 8], "dtype": ["float32"]},
    {"shape": None},
]


@pytest.mark.parametrize("answer", ODD_ANSWERS)
def test_an_odd_answer_is_a_rejection(start: Start, answer: dict[str, Any]) -> None:
    model = start(f"h.send(out, dict({answer!r}, type=kind))")
    with pytest.raises(weights.Rejected, match="the model returned logits of"):
        list(model.logits(rows(1, 2)))


ROWS = "717 22 901"
WORDS = [
    (
        f"h.send(out, dict(type='error', text='{ROWS}', kind='{ROWS}', line='{ROWS}'))",
        "run: an exception of its own (its",
    ),
    (f"h.send(out, dict(type='error', kind=['{ROWS}'], line=71722901))", "run: an exception of its own (its"),
    ("h.send(out, dict(type='error', kind='KeyError', line=True))", "run: KeyError (its"),
    ("h.send(out, dict(type='error', kind='KeyError', line=2))", "run: KeyError at line 2 of nanotrain/train.py (its"),
    (f"h.send(out, dict(type='{ROWS}'))", "process answered something else where tokens was expected"),
    ("h.send(out, dict(type=kind, shape=[717, 22, 901]))", "different in its rows and positions and vocabulary"),
    ("h.send(out, dict(type=kind, shape=[717, 22]))", "with more or fewer dimensions"),
    ("os._exit(71)", "ended by itself (another exit code than 0)"),
    ("os.kill(os.getpid(), 10)", "ended by itself (a signal)"),
    ("os.kill(os.getpid(), 11)", "ended by itself (signal 11)"),
]


@pytest.mark.parametrize(("body", "said"), WORDS)
def test_a_reason_has_no_words_of_a_process_that_saw_rows(
    start: Start, tmp_path: Path, body: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nanotrain").mkdir()
    (tmp_path / "nanotrain" / "train.py").write_text("one\ntwo\n")
    model = start(body)
    with pytest.raises(weights.Rejected) as caught:
        list(model.logits(rows(1, 2)))
    reason = str(caught.value)
    assert said in reason
    assert not set(re.findall(r"\d+", ROWS)) & set(re.findall(r"\d+", reason))
    assert all(line.startswith("model") for line in capsys.readouterr().out.splitlines())


def test_a_slow_model_is_rejected_and_a_slow_scorer_is_at_fault(start: Start) -> None:
    model = start("pass")
    model.waited = 29.95  # of 30 s
    with pytest.raises(weights.Rejected, match="the model did not answer within the time limit"):
        list(model.logits(rows(1, 2)))
    model = start("h.send(out, dict(type=kind, hash='b'))")
    model.since = time.monotonic() - 31  # as if the scorer had worked for 31 s
    with pytest.raises(ScorerError, match=r"31 s of the scorer's own work, 0 s of the model's") as caught:
        model.hash()
    assert caught.value.hint.endswith("top")
    model.since = time.monotonic() - 100
    model.waited = 29.5  # what the model took is not the scorer's
    model.limit = 100.0
    assert model.hash() == "b"


def test_a_model_that_reads_nothing_cannot_hold_the_scorer(start: Start) -> None:
    model = start("threading.Event().wait()")
    model.waited = 29.8  # of 30 s
    with pytest.raises(weights.Rejected, match="did not answer"):
        for _ in range(40):
            model._ask({"type": "x"}, bytes(1 << 16))


def test_memory_files_count_and_mapped_files_do_not(start: Start) -> None:
    model = start("""
one = os.memfd_create("x")
os.write(one, bytes(50 << 20))
with open(sys.executable, "rb") as file:
    whole = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
read = sum(whole[n] for n in range(0, len(whole), 4096))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
h.send(out, dict(type=kind, hash=status["RssFile"].split()[0]))
""")
    before = process_limits.resident_bytes([model.process.pid])
    mapped = int(model.hash()) << 10
    grown = process_limits.resident_bytes([model.process.pid]) - before
    assert mapped > 4 << 20 and 50 << 20 <= grown < (50 << 20) + mapped
    assert process_limits.memory_limit("cuda") >= 8 << 30 and process_limits.memory_limit("cpu") >= 4 << 30


def test_a_run_for_another_device_is_no_verdict_unless_the_harness_gave_it_one() -> None:
    with environment(AUTORESEARCH_WEIGHTS_SHA256=None):
        for config in ({}, {"device": "cpu"}, {"device": "tpu"}, {"device": ["cpu"]}):
            score.check_device(config, "cpu", "val")
        with pytest.raises(ScorerError, match="made on cpu, and rows for cuda") as caught:
            score.check_device({"device": "cpu"}, "cuda", "val")
        assert caught.value.hint == "AUTORESEARCH_DEVICE=cpu python -m nanotrain.score"
    with environment(AUTORESEARCH_WEIGHTS_SHA256="a"):
        with pytest.raises(weights.Rejected, match="names another device"):
            score.check_device({"device": "cpu"}, "cuda", "val")
        with pytest.raises(ScorerError):
            score.check_device({"device": "cpu"}, "cuda", "hidden")


def test_by_hand_a_run_is_scored_on_the_device_that_made_it(tmp_path: Path) -> None:
    for text, device in (('{"device": "cuda"}', "cuda"), ('{"device": "cpu"}', "cpu")):
        (tmp_path / "model.json").write_text(text)
        assert score.device_of(tmp_path) == device
    for text in ("[]", "{", '{"device": ["cpu"]}'):
        (tmp_path / "model.json").write_text(text)
        assert score.device_of(tmp_path) in ("cpu", "cuda")
