"""The run's side of the control channel (docs/run-protocol.md, section 2), and the same for a person at the shell.

    run = harness.connect()                   # who am I: device, seed, vocabulary, where to write
    clock, tokens = run.ready(params=123456)  # the data arrive and the clock starts
    while not clock.over(step): ...           # train
    run.done(step, count, weights, config)    # the clock stops, the model is saved into run.folder

Fixed, like prepare.py. The harness keeps its own clock: changing this file changes nothing but what is shown.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanotrain import prepare
from nanotrain.corpus import PrepareError

MARK_BYTES = 65_536  # this much of train.bin, and its length, identify the data a run was trained on
SMALL_BYTES = 1 << 26  # the most read of any other file that is handed over


class HandoverError(Exception):
    """The harness said something this run cannot work with."""


@dataclass
class Clock:
    """The run's budget. `progress` runs from 0 to 1, by time or by steps, and drives every schedule."""

    seconds: float | None
    steps: int | None
    start: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        """Seconds since the data were handed over."""
        return time.monotonic() - self.start

    def progress(self, step: int) -> float:
        """Share of the budget used when `step` steps are done, 0 to 1."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.seconds is not None
        return min(1.0, self.elapsed() / self.seconds)

    def over(self, step: int) -> bool:
        return self.progress(step) >= 1.0


class Run:
    """One run: where it may write, what it may use, and its line to the harness (None at the shell)."""

    def __init__(self, seconds: float | None, steps: int | None, device: str | None) -> None:
        env = os.environ
        number = env.get("AUTORESEARCH_CONTROL_FD")
        self.channel = socket.socket(fileno=int(number)) if number else None
        self.device: str | None = env.get("AUTORESEARCH_DEVICE") or device  # None: the run looks for itself
        self.seed = int(env.get("AUTORESEARCH_SEED") or 1)
        self.folder = Path(env.get("AUTORESEARCH_RUN_DIR") or prepare.cache_root() / "last-run")
        self.meta = _meta()
        self.mark = ""  # identifies the training data; set by ready()
        self.files: dict[str, bytes] = {}  # tokenizer.json and token_bytes.bin (bytes of each token); set by ready()
        self._seconds, self._steps = seconds, steps

    @property
    def vocab(self) -> int:
        """Number of tokens in the vocabulary; every token of the data is below it."""
        return int(self.meta["vocab"])

    def ready(self, params: int) -> tuple[Clock, memoryview]:
        """Say that the model stands; returns the running clock and the training tokens (uint16, read-only).

        Raises HandoverError when the harness hands over no training data, PrepareError at the shell when
        nothing was prepared.
        """
        if self.channel is None:
            clock, view = self._alone()
        else:
            clock, view = self._handed_over(params)
        self.mark = data_mark(view)
        return clock, view.cast("H")

    def done(self, steps: int, tokens: int, weights: bytes, config: dict[str, Any]) -> None:
        """Say that training has ended and what came of it, then save it: all that the scorer sees of this run.

        `weights` is the content of weights.safetensors, `config` of model.json. The clock stops at the word, and the
        word holds their sha256: training on after it would change the weights, and changed weights are not scored.
        """
        model = json.dumps(config | {"data": self.mark}, indent=1).encode()
        if self.channel is not None:
            digest = hashlib.sha256(weights)
            digest.update(model)
            self._send({"type": "done", "steps": steps, "tokens": tokens, "sha256": digest.hexdigest()})
        (self.folder / "weights.safetensors").write_bytes(weights)
        (self.folder / "model.json").write_bytes(model)

    def _send(self, message: dict[str, Any]) -> None:
        assert self.channel is not None
        self.channel.send(json.dumps(message).encode())

    def _handed_over(self, params: int) -> tuple[Clock, memoryview]:
        assert self.channel is not None
        self._send({"type": "ready", "params": params})
        packet, descriptors, _, _ = socket.recv_fds(self.channel, 65_536, 16)
        start = time.monotonic()
        if not packet:
            raise HandoverError("the harness closed the control channel before the data were handed over")
        go = json.loads(packet)
        names = list(go.get("names", []))
        if go.get("type") != "go" or len(names) != len(descriptors) or "train.bin" not in names:
            raise HandoverError(f"expected `go` with train.bin, got {go} with {len(descriptors)} descriptors")
        view = _mapped(descriptors[names.index("train.bin")])
        small = {name: one for name, one in zip(names, descriptors, strict=True) if name != "train.bin"}
        self.files = {name: os.pread(one, SMALL_BYTES, 0) for name, one in small.items()}
        for descriptor in descriptors:
            os.close(descriptor)
        if "steps" in go:
            return Clock(None, int(go["steps"]), start), view
        return Clock(float(go["seconds"]), None, start), view

    def _alone(self) -> tuple[Clock, memoryview]:
        ready = prepare.find()
        if ready is None:
            raise PrepareError("the data are not prepared", prepare.MEND)
        self.folder.mkdir(parents=True, exist_ok=True)
        with ready.train.open("rb") as file:
            view = _mapped(file.fileno())
        self.files = {name: (ready.tokenizer / name).read_bytes() for name in ("tokenizer.json", "token_bytes.bin")}
        seconds = self._seconds or prepare.BUDGET_SECONDS[self.device or "cpu"]
        return Clock(None if self._steps else seconds, self._steps), view


def connect(seconds: float | None = None, steps: int | None = None, device: str | None = None) -> Run:
    """The run this process is. `seconds`, `steps` and `device` count only at the shell, where no harness sets them."""
    return Run(seconds, steps, device)


def data_mark(view: memoryview) -> str:
    """A short fingerprint of the training data, kept in model.json: a model is judged on its own corpus only."""
    raw = view.cast("B")
    return mark_of(len(raw), bytes(raw[:MARK_BYTES]))


def mark_of(size: int, beginning: bytes) -> str:
    return hashlib.sha256(str(size).encode() + beginning).hexdigest()[:16]


def _mapped(descriptor: int) -> memoryview:
    return memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ))


def _meta() -> dict[str, Any]:
    """The tokenizer's facts: from the readable file the harness names, else from the cache, else the default's."""
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
    return {"vocab": prepare.VOCAB_SMALL, "bos": 0, "corpus": "kjv"}
