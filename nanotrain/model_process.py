"""The scorer's side of the model's process: starts it in the sandbox, requests logits and checks every answer."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from subprocess import PIPE
from typing import Any, BinaryIO, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from nanotrain import model_host, process_limits
from nanotrain.weights import Rejected

PIPE_BYTES = 1 << 20
MAX_PRINTED_LINES = 200  # of the code under test that are kept
MAX_PRINTED_CHARACTERS = 500  # per line
# Processor seconds that a model may use before its first answer, and for each later one: the larger of a share of the
# time its run trained for and a share of what starting Python with torch took, a measure of the machine's speed.
MAX_LOADING_OF_RUN, MAX_LOADING_OF_STARTUP = 0.05, 0.75
MAX_ANSWER_OF_RUN, MAX_ANSWER_OF_STARTUP = 0.02, 0.25
PASSED_ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONUSERBASE", "VIRTUAL_ENV"),
    *("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES"),
    *("NVIDIA_DRIVER_CAPABILITIES", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"),
)


NO_GPU = "see what else uses the card, and whether it answers: nvidia-smi"


class ScorerError(Exception):
    """The scorer itself cannot work; the experiment is not the cause. `hint` says what to do."""

    def __init__(self, what: str, hint: str = "see the lines above") -> None:
        super().__init__(what)
        self.hint = hint


class ModelProcess(contextlib.AbstractContextManager["ModelProcess"]):
    """The model under test in its own process. Leaving the context ends the process and its descendants."""

    running: ClassVar[set[int]] = set()  # pids of all models that are not closed yet

    def __init__(self, sandbox: list[str], order: dict[str, Any], vocab: int, trained: float) -> None:
        """`sandbox` is put in front of the command; `trained` is the number of seconds the run trained for."""
        self.vocab, self.order, self.trained = vocab, order, trained
        self.deadline = float("inf")
        self.answers = 0
        self.startup_cpu = self.imported_cpu = self.loaded_cpu = 0.0  # processor seconds used up to these points
        self.effort = 0.0  # processor time as a share of what is allowed, before the first answer or after it
        env = {name: os.environ[name] for name in PASSED_ENVIRONMENT if name in os.environ}
        env |= {"OMP_WAIT_POLICY": "PASSIVE", "AUTORESEARCH_DEVICE": order["device"]}
        command = [*sandbox, sys.executable, "-P", "-B", "-c", Path(model_host.__file__).read_text(encoding="utf-8")]
        try:
            self.process = subprocess.Popen(
                command, cwd=order["worktree"], env=env, start_new_session=True, stdin=PIPE, stdout=PIPE, stderr=PIPE
            )
        except OSError as error:
            raise ScorerError(f"cannot start the model's process: {error}") from error
        ModelProcess.running.add(self.process.pid)
        self.violation = ""  # the limit that was exceeded, as a sentence
        self.monitor = process_limits.ProcessMonitor(self.process.pid, self._kill)
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.stdin = cast(BinaryIO, self.process.stdin)
        self.stdout, self.stderr = self.process.stdout, self.process.stderr
        with contextlib.suppress(OSError):  # a larger pipe is faster, but not necessary
            fcntl.fcntl(self.stdout.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.printed: deque[str] = deque(maxlen=MAX_PRINTED_LINES)
        self.reader = threading.Thread(target=self._drain, daemon=True)
        self.reader.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and its descendants; none of them runs when this returns. Idempotent."""
        if self.process.pid not in ModelProcess.running:
            return
        ModelProcess.running.discard(self.process.pid)
        self.monitor.stopped.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        process_limits.kill_tree(self.process.pid, ModelProcess.running)
        self.process.wait()
        self.reader.join(2)
        for line in self.printed:
            print(f"model: {line}")

    def _kill(self, violation: str) -> None:
        self.violation = violation
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in process_limits.process_tree(self.process.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def load(self, startup: float, limit: float) -> str:
        """Rebuild the model; returns the hash of its parameters.

        `startup` limits the seconds until the model is loaded, `limit` those of all answers after it. Raises
        ScorerError when the process does not start, Rejected when the model cannot be rebuilt.
        """
        self.deadline = time.monotonic() + startup
        try:
            hello = self._header()
        except Rejected as error:
            printed = " / ".join(list(self.printed)[-3:])
            raise ScorerError(f"the model's process did not start: {error}; {printed}") from error
        if hello.get("type") != "hello":
            raise ScorerError(f"the model's process sent {hello} where `hello` was expected")
        self.startup_cpu = self.monitor.cpu_seconds()
        self._ask(self.order)
        primed = self._expect("primed")
        if trouble := clean(str(primed.get("trouble", ""))):  # told before the code under test is loaded
            raise ScorerError(f"the GPU cannot be used for scoring: {trouble}", NO_GPU)
        self.imported_cpu = self.monitor.cpu_seconds()
        self._ask({"type": "load"})
        digest = str(self._expect("ready").get("hash"))
        self.deadline = time.monotonic() + limit
        return digest

    def hash(self) -> str:
        """The current hash of the parameters."""
        self._ask({"type": "hash"})
        return str(self._expect("hash").get("hash"))

    def check_effort(self) -> None:
        """Raises Rejected when the answers used more processor time than allowed: learning ends with the clock."""
        more = self.answers - 1
        allowed = more * max(MAX_ANSWER_OF_RUN * self.trained, MAX_ANSWER_OF_STARTUP * self.startup_cpu)
        self._within(self.monitor.cpu_seconds() - self.loaded_cpu, allowed, f"for {more} answers")

    def _within(self, used: float, allowed: float, what: str) -> None:
        self.effort = max(self.effort, used / max(allowed, 1e-9))
        if used > allowed:
            raise Rejected(
                f"the model computed for {used:.1f} processor seconds {what}, {allowed:.1f} are allowed: "
                "what is learned is learned on the run's clock"
            )

    def ask(self, tokens: NDArray[np.uint16]) -> None:
        """Send rows (B, T); `answer` must follow. A second request may be sent before the first is answered."""
        self._ask({"type": "tokens", "shape": list(tokens.shape)}, np.ascontiguousarray(tokens, dtype="<u2").tobytes())

    def answer(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The logits (B, T, V) of the oldest request, of shape (B, T). Raises Rejected if misshapen or not finite."""
        header = self._expect("logits")
        wanted = [*shape, self.vocab]
        size = 4 * math.prod(wanted)
        if header.get("shape") != wanted or header.get("bytes") != size:
            said = clean(str(header.get("shape")))[:60]
            raise Rejected(f"the model returned logits of shape {said}, {wanted} expected")
        logits = np.frombuffer(self._read(size), dtype="<f4").reshape(wanted)
        if not np.isfinite(logits).all():
            raise Rejected("the model returned logits that are not finite")
        self.answers += 1
        if self.answers == 1:
            self.loaded_cpu = self.monitor.cpu_seconds()
            allowed = max(MAX_LOADING_OF_RUN * self.trained, MAX_LOADING_OF_STARTUP * self.startup_cpu)
            self._within(self.loaded_cpu - self.imported_cpu, allowed, "before its first answer")
        return logits

    def logits(self, tokens: NDArray[np.uint16]) -> NDArray[np.float32]:
        """(B, T) -> (B, T, V), one request and its answer."""
        self.ask(tokens)
        return self.answer(tokens.shape)

    # --- the pipe: no byte of it is trusted ---

    def _ask(self, header: dict[str, Any], payload: bytes = b"") -> None:
        try:
            model_host.send(self.stdin, header, payload)
        except OSError as error:
            raise self._ended() from error

    def _expect(self, kind: str) -> dict[str, Any]:
        header = self._header()
        if header.get("type") == "error" and header.get("device") is True and self.order["device"] == "cuda":
            raise ScorerError(f"the GPU failed while the model was scored: {clean(str(header.get('text')))}", NO_GPU)
        if header.get("type") == "error":
            raise Rejected(f"the model cannot be rebuilt or run: {clean(str(header.get('text')))}")
        if header.get("type") != kind or not isinstance(header.get("hash", ""), str):
            raise Rejected(f"the model's process answered {clean(str(header))[:200]} where {kind} was expected")
        return header

    def _header(self) -> dict[str, Any]:
        length = struct.unpack(">I", self._read(4))[0]
        if length > model_host.MAX_HEADER_BYTES:
            raise Rejected("the model's process wrote to the scorer's pipe")
        try:
            header = json.loads(self._read(length))
        except (ValueError, RecursionError) as error:
            raise Rejected("the model's process wrote to the scorer's pipe") from error
        return header if isinstance(header, dict) else {}

    def _read(self, size: int) -> bytearray:
        """Exactly `size` bytes. Raises Rejected at the deadline or when the process has ended."""
        data, descriptor = bytearray(size), self.stdout.fileno()
        view, got = memoryview(data), 0
        while got < size:
            left = self.deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise Rejected("scoring took too long: the model did not answer within the time limit")
            count = os.readv(descriptor, [view[got:]])
            if count == 0:
                raise self._ended()
            got += count
        return data

    def _ended(self) -> Rejected:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        if self.violation:
            return Rejected(self.violation)
        code = self.process.poll()
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return Rejected(f"the model's process ended by itself ({how})")

    def _drain(self) -> None:
        """Keep the last lines that the code under test prints, cleaned and cut; it never blocks on stderr."""
        while line := self.stderr.readline(65_536):
            self.printed.append(clean(line.decode("utf-8", "replace"))[:MAX_PRINTED_CHARACTERS])


def clean(text: str) -> str:
    """`text` without control characters, so that output of the code under test cannot control a terminal."""
    return "".join(c if c.isprintable() else " " for c in text).strip()
