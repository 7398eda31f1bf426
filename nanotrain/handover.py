"""The run's side of the control channel (docs/run-protocol.md, section 2), and the same for a person at the shell.

    run = handover.connect()                  # who am I: device, seed, vocabulary, where to write
    clock, tokens = run.ready(params=123456)  # the data arrive and the clock starts
    while not clock.over(step): ...           # train
    run.done(steps=step, tokens=count)        # the clock stops; then save into run.folder

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

    def done(self, steps: int, tokens: int) -> None:
        """Say that training has ended: from here on only saving is left."""
        if self.channel is not None:
            self._send({"type": "done", "steps": steps, "tokens": tokens})

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
    """The tokenizer's facts: from the readable folders the harness names, else from the cache, else the default's."""
    folders = [Path(name) for name in os.environ.get("AUTORESEARCH_READABLE", "").split(":") if name]
    if not folders and os.environ.get("AUTORESEARCH_CONTROL_FD") is None:
        try:
            ready = prepare.find()
        except PrepareError:
            ready = None
        folders = [ready.tokenizer] if ready else []
    for folder in folders:
        try:
            return dict(json.loads((folder / "meta.json").read_text()))
        except (OSError, ValueError, TypeError):
            continue
    return {"vocab": prepare.VOCAB_SMALL, "bos": 0, "corpus": "kjv"}
