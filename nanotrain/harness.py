"""The run's side of the control channel (docs/run-protocol.md, section 2), with or without a harness.

    run = harness.connect()                   # device, seed, vocabulary and output folder of this run
    clock, tokens = run.ready(params=123456)  # the data arrive and the clock starts
    while not clock.over(step): ...           # train
    run.done(step, count, weights, config)    # the clock stops, the model is saved into run.folder

Fixed, like prepare.py. The harness keeps its own clock: a change of this file changes only what is displayed.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanotrain import prepare
from nanotrain.corpus import PrepareError

FINGERPRINT_BYTES = 65_536  # of train.bin: with its length they identify the data a run was trained on
MAX_SMALL_FILE_BYTES = 1 << 26  # read of any other file that the harness passes


class HarnessError(Exception):
    """The harness sent something that this run cannot use."""


@dataclass
class Clock:
    """The run's budget in seconds or steps. `progress`, from 0 to 1, drives every schedule.

    On a clock of processor seconds the time in which others hold the processors does not count; that of all threads and
    ended children does.
    """

    seconds: float | None
    steps: int | None
    read: Callable[[], float] = time.monotonic
    start: float = field(init=False)

    def __post_init__(self) -> None:
        self.start = self.read()

    def elapsed(self) -> float:
        """Seconds since the data arrived."""
        return self.read() - self.start

    def progress(self, step: int) -> float:
        """Share of the budget that is used after `step` steps, 0 to 1."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.seconds is not None
        return min(1.0, self.elapsed() / self.seconds)

    def over(self, step: int) -> bool:
        return self.progress(step) >= 1.0


class TrainingRun:
    """One run: its device, seed, vocabulary, output folder and channel to the harness (None without a harness)."""

    def __init__(self, seconds: float | None, steps: int | None, device: str | None) -> None:
        env = os.environ
        number = env.get("AUTORESEARCH_CONTROL_FD")
        self.channel = socket.socket(fileno=int(number)) if number else None
        self.device: str | None = env.get("AUTORESEARCH_DEVICE") or device  # None: the run chooses
        self.seed = int(env.get("AUTORESEARCH_SEED") or 1)
        self.folder = Path(env.get("AUTORESEARCH_RUN_DIR") or prepare.cache_root() / "last-run")
        self.meta = _meta()
        self.data_fingerprint = ""  # of the training data; set by ready()
        self.files: dict[str, bytes] = {}  # tokenizer.json and token_bytes.bin (bytes of each token); set by ready()
        self._seconds, self._steps = seconds, steps

    @property
    def vocab(self) -> int:
        """Number of tokens in the vocabulary; every token of the data is below it."""
        return int(self.meta["vocab"])

    def expected_seconds(self) -> float | None:
        """The budget as far as it is known before the clock: by hand that of this run (None: steps), else the usual."""
        if self.channel is None and self._steps:
            return None
        return self._seconds or prepare.BUDGET_SECONDS[self.device or "cpu"]

    def ready(self, params: int) -> tuple[Clock, memoryview]:
        """Report that the model is built; returns the running clock and the training tokens (uint16, read-only).

        Raises HarnessError when the harness passes no training data, PrepareError when none is prepared by hand.
        """
        if self.channel is None:
            clock, view = self._without_harness()
        else:
            clock, view = self._receive_data(params)
        self.data_fingerprint = data_fingerprint(view)
        return clock, view.cast("H")

    def done(self, steps: int, tokens: int, weights: bytes, config: dict[str, Any]) -> None:
        """Report the end of training, then save the model: weights.safetensors and model.json are all that is scored.

        `weights` is the content of weights.safetensors, `config` of model.json. The clock stops at this message,
        which holds their sha256: weights that change after it are not scored.
        """
        model = json.dumps(config | {"data": self.data_fingerprint, "device": self.device}, indent=1).encode()
        if self.channel is not None:
            digest = hashlib.sha256(weights)
            digest.update(model)
            self._send({"type": "done", "steps": steps, "tokens": tokens, "sha256": digest.hexdigest()})
        (self.folder / "weights.safetensors").write_bytes(weights)
        (self.folder / "model.json").write_bytes(model)

    def _send(self, message: dict[str, Any]) -> None:
        assert self.channel is not None
        self.channel.send(json.dumps(message).encode())

    def _receive_data(self, params: int) -> tuple[Clock, memoryview]:
        assert self.channel is not None
        self._send({"type": "ready", "params": params})
        packet, descriptors, _, _ = socket.recv_fds(self.channel, 65_536, 16)
        if not packet:
            raise HarnessError("the harness closed the control channel before it passed the data")
        go = json.loads(packet)
        names = list(go.get("names", []))
        if go.get("type") != "go" or len(names) != len(descriptors) or "train.bin" not in names:
            raise HarnessError(f"expected `go` with train.bin, got {go} with {len(descriptors)} descriptors")
        view = _mapped(descriptors[names.index("train.bin")])
        small = {name: one for name, one in zip(names, descriptors, strict=True) if name != "train.bin"}
        self.files = {name: os.pread(one, MAX_SMALL_FILE_BYTES, 0) for name, one in small.items()}
        for descriptor in descriptors:
            os.close(descriptor)
        if "steps" in go:
            return Clock(None, int(go["steps"])), view
        return Clock(
            float(go["seconds"]), None, processor_seconds if go.get("clock") == "cpu" else time.monotonic
        ), view

    def _without_harness(self) -> tuple[Clock, memoryview]:
        ready = prepare.find()
        if ready is None:
            raise PrepareError("the data are not prepared", prepare.PREPARE_COMMAND)
        self.folder.mkdir(parents=True, exist_ok=True)
        with ready.train.open("rb") as file:
            view = _mapped(file.fileno())
        self.files = {name: (ready.tokenizer / name).read_bytes() for name in ("tokenizer.json", "token_bytes.bin")}
        read = time.monotonic if self.device == "cuda" else processor_seconds
        return Clock(self.expected_seconds(), self._steps, read), view


def processor_seconds() -> float:
    """Seconds that this process, all its threads and its ended children have spent on processors."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def connect(seconds: float | None = None, steps: int | None = None, device: str | None = None) -> TrainingRun:
    """The run of this process. `seconds`, `steps` and `device` apply only without a harness, which sets its own."""
    return TrainingRun(seconds, steps, device)


def data_fingerprint(view: memoryview) -> str:
    """A short fingerprint of the training data, saved in model.json: a model is scored on its own corpus only."""
    raw = view.cast("B")
    return fingerprint_of(len(raw), bytes(raw[:FINGERPRINT_BYTES]))


def fingerprint_of(size: int, beginning: bytes) -> str:
    """The fingerprint of data of `size` bytes, from its first FINGERPRINT_BYTES."""
    return hashlib.sha256(str(size).encode() + beginning).hexdigest()[:16]


def _mapped(descriptor: int) -> memoryview:
    return memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ))


def _meta() -> dict[str, Any]:
    """The tokenizer's meta.json: of the harness's readable files, else of the cache, else of the default corpus."""
    files = [Path(name) for name in os.environ.get("AUTORESEARCH_READABLE", "").split(":") if name]
    if not files and os.environ.get("AUTORESEARCH_CONTROL_FD") is None:
        try:
            ready = prepare.find()
        except PrepareError:
            ready = None
        files = [ready.tokenizer / "meta.json"] if ready else []
    for path in files:
        try:
            return dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue
    return {"vocab": prepare.SMALL_VOCAB, "bos": 0, "corpus": "kjv"}
