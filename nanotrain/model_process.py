"""The scorer's end of the second process: starts it in the sandbox, asks for logits, believes nothing else."""

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
from typing import Any, BinaryIO, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from nanotrain import model_host, process_limits
from nanotrain.weights import Rejected

PIPE_BYTES = 1 << 20
# Processor seconds that a model may compute before its first answer, and for each one after it: the larger of a share
# of what its run trained and a share of what starting Python with torch cost, which tells how slow the machine is.
READY_OF_RUN, READY_OF_START = 0.05, 0.75
ANSWER_OF_RUN, ANSWER_OF_START = 0.02, 0.25
KEPT_LINES = 200  # of what the code under test prints while it is scored
KEPT_CHARACTERS = 500  # a line
PASSED_ON = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONUSERBASE", "VIRTUAL_ENV"),
    *("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"),
)


class Fault(Exception):
    """The scorer itself cannot work; not the experiment's doing."""


class Caged:
    """The model under test, in a process of its own. A context manager: leaving it ends the process and all it left."""

    alive: ClassVar[set[int]] = set()  # the processes of every model not ended yet

    def __init__(self, cage: list[str], order: dict[str, Any], vocab: int, trained: float) -> None:
        """`trained`: seconds for which its run trained."""
        self.vocab, self.order, self.trained = vocab, order, trained
        self.deadline = float("inf")
        self.answers = 0
        self.started = self.primed = self.first = 0.0  # processor seconds used up to here
        self.effort = 0.0  # processor time as a share of what is allowed, the larger of both
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        env |= {"OMP_WAIT_POLICY": "PASSIVE", "AUTORESEARCH_DEVICE": order["device"]}
        command = [*cage, sys.executable, "-P", "-B", "-c", Path(model_host.__file__).read_text(encoding="utf-8")]
        try:
            self.process = subprocess.Popen(
                command,
                cwd=order["worktree"],
                env=env,
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise Fault(f"cannot start the model's process: {error}") from error
        Caged.alive.add(self.process.pid)
        self.broken = ""  # the limit that it broke, in words
        self.leash = process_limits.Leash(self.process.pid, self._pull)
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.stdin = cast(BinaryIO, self.process.stdin)
        self.stdout, self.stderr = self.process.stdout, self.process.stderr
        with contextlib.suppress(OSError):  # a bigger pipe is faster, not necessary
            fcntl.fcntl(self.stdout.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.printed: deque[str] = deque(maxlen=KEPT_LINES)
        self.reader = threading.Thread(target=self._drain, daemon=True)
        self.reader.start()

    def __enter__(self) -> Caged:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it: when this returns, nothing of it runs any more. Idempotent."""
        if self.process.pid not in Caged.alive:
            return
        Caged.alive.discard(self.process.pid)
        self.leash.over.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        process_limits.end(self.process.pid, Caged.alive)
        self.process.wait()
        self.reader.join(2)
        for line in self.printed:
            print(f"model: {line}")

    def _pull(self, broken: str) -> None:
        self.broken = broken
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in process_limits.below(self.process.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def load(self, startup: float, limit: float) -> str:
        """Have the model rebuilt; returns its parameters' hash. `startup` and `limit` are seconds allowed.

        Raises Fault when the process does not even start, Rejected when the model cannot be rebuilt.
        """
        self.deadline = time.monotonic() + startup
        try:
            hello = self._header()
        except Rejected as error:
            raise Fault(f"the model's process did not start: {error}; {' / '.join(list(self.printed)[-3:])}") from error
        if hello.get("type") != "hello":
            raise Fault(f"the model's process said {hello} where it should greet")
        self.started = self.leash.spent()
        self._ask(self.order)
        self._expect("primed")
        self.primed = self.leash.spent()
        self._ask({"type": "load"})
        digest = str(self._expect("ready").get("hash"))
        self.deadline = time.monotonic() + limit
        return digest

    def hash(self) -> str:
        """The parameters' hash now."""
        self._ask({"type": "hash"})
        return str(self._expect("hash").get("hash"))

    def settle(self) -> None:
        """Raises Rejected when it computed more than its answers take: the clock had stopped for all else."""
        more = self.answers - 1
        allowed = more * max(ANSWER_OF_RUN * self.trained, ANSWER_OF_START * self.started)
        self._within(self.leash.spent() - self.first, allowed, f"for {more} answers")

    def _within(self, used: float, allowed: float, what: str) -> None:
        self.effort = max(self.effort, used / max(allowed, 1e-9))
        if used > allowed:
            raise Rejected(
                f"the model computed for {used:.1f} processor seconds {what}, {allowed:.1f} are allowed: "
                "what is learned is learned on the run's clock"
            )

    def ask(self, tokens: NDArray[np.uint16]) -> None:
        """Send rows (B, T); `answer` must follow. One request may be under way while another is answered."""
        self._ask({"type": "tokens", "shape": list(tokens.shape)}, np.ascontiguousarray(tokens, dtype="<u2").tobytes())

    def answer(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The logits (B, T, V) of the oldest request of shape (B, T). Raises Rejected unless they are that, finite."""
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
            self.first = self.leash.spent()
            allowed = max(READY_OF_RUN * self.trained, READY_OF_START * self.started)
            self._within(self.first - self.primed, allowed, "before its first answer")
        return logits

    def logits(self, tokens: NDArray[np.uint16]) -> NDArray[np.float32]:
        """(B, T) -> (B, T, V), one request and its answer."""
        self.ask(tokens)
        return self.answer(tokens.shape)

    # --- the pipe, of which every byte is suspect ---

    def _ask(self, header: dict[str, Any], payload: bytes = b"") -> None:
        try:
            model_host.send(self.stdin, header, payload)
        except OSError as error:
            raise self._gone() from error

    def _expect(self, kind: str) -> dict[str, Any]:
        header = self._header()
        if header.get("type") == "error":
            raise Rejected(f"the model cannot be rebuilt or run: {clean(str(header.get('text')))}")
        if header.get("type") != kind or not isinstance(header.get("hash", ""), str):
            raise Rejected(f"the model's process answered {clean(str(header))[:200]} where {kind} was expected")
        return header

    def _header(self) -> dict[str, Any]:
        length = struct.unpack(">I", self._read(4))[0]
        if length > model_host.HEADER_MAX:
            raise Rejected("the model's process wrote to the scorer's pipe")
        try:
            header = json.loads(self._read(length))
        except (ValueError, RecursionError) as error:
            raise Rejected("the model's process wrote to the scorer's pipe") from error
        return header if isinstance(header, dict) else {}

    def _read(self, size: int) -> bytearray:
        """Exactly `size` bytes. Raises Rejected at the deadline or when the process has gone."""
        data, descriptor = bytearray(size), self.stdout.fileno()
        view, got = memoryview(data), 0
        while got < size:
            left = self.deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise Rejected("scoring took too long: the model did not answer within the time limit")
            count = os.readv(descriptor, [view[got:]])
            if count == 0:
                raise self._gone()
            got += count
        return data

    def _gone(self) -> Rejected:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        if self.broken:
            return Rejected(self.broken)
        code = self.process.poll()
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return Rejected(f"the model's process ended by itself ({how})")

    def _drain(self) -> None:
        """Keep the last lines printed by the code under test, short and harmless; never let it block on stderr."""
        while line := self.stderr.readline(65_536):
            self.printed.append(clean(line.decode("utf-8", "replace"))[:KEPT_CHARACTERS])


def clean(text: str) -> str:
    """Without control characters: nothing the code under test prints may reach a terminal as a command."""
    return "".join(c if c.isprintable() else " " for c in text).strip()
