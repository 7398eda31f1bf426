"""The scorer's side of the model's process: starts it in the sandbox, requests logits and checks every answer.

Logits travel in memory that the scorer shares with one model's process and nobody else, two halves in turn: while one
is read, the process fills the other. The process may change them at any time, so each byte is read once, into memory
of the scorer's own, before it is looked at.
"""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import json
import mmap
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import PIPE
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanotrain import model_host, process_limits
from nanotrain.isolation.asked_calls import SECCOMP, asking_program, refusing_program
from nanotrain.isolation.call_supervisor import CallSupervisor
from nanotrain.isolation.forked_process import ForkedProcess, Template, TemplateLost
from nanotrain.isolation.page_cache import HeldFiles
from nanotrain.weights import Rejected

HALF_BYTES = 32 << 20  # of the shared memory: what is handed over at a time
BLOCK_BYTES = 1 << 18  # of logits that the scorer reads and works on at a time: they fit in a processor's cache
ITEM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
Logits = NDArray[np.float32]
MAX_WAIT_SECONDS = 86_400.0
MAX_PRINTED_LINES = 200  # of the code under test that are kept
MAX_PRINTED_CHARACTERS = 500  # per line
# Processor seconds that a model may use before its first answer, and for each later one: the larger of a share of the
# time its run trained for and a share of what starting Python with torch took, a measure of the machine's speed.
MAX_LOADING_OF_RUN, MAX_LOADING_OF_STARTUP = 0.05, 0.75
MAX_ANSWER_OF_RUN, MAX_ANSWER_OF_STARTUP = 0.02, 0.25
# And never less than this: on a GPU, loading kernels and libraries at first use takes seconds after any run.
MIN_LOADING_SECONDS, MIN_ANSWER_SECONDS = {"cpu": 0.0, "cuda": 10.0}, {"cpu": 0.0, "cuda": 2.0}
PASSED_ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONUSERBASE", "VIRTUAL_ENV"),
    *("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES"),
    *("NVIDIA_DRIVER_CAPABILITIES", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"),
)


# What a reason may say of a process that saw scored rows: its words could be those rows. Known types, a line, a signal.
ERROR_KINDS = {
    name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
} | {"OutOfMemoryError", "AcceleratorError", "SafetensorError", "UnpicklingError", "LinAlgError", "_LinAlgError"}
MAX_LINE = 4096  # of train.py that a reason names
SIGNALS = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGKILL, signal.SIGSEGV)
CODE_PREFIX = "model: "  # of each line that the code under test has printed, in the scorer's output

NO_GPU = "see what else uses the card, and whether it answers: nvidia-smi"
BUSY = "see what else computes here, and score again when it is done: top"


class ScorerError(Exception):
    """The scorer itself cannot work; the experiment is not the cause. `hint` says what to do."""

    def __init__(self, what: str, hint: str = "see the lines above") -> None:
        super().__init__(what)
        self.hint = hint


class Unsettled(Rejected):
    """A model read from the disk what was in memory, or did not rest. On a busy machine honest code can do so, once."""


class LogitRequest(NamedTuple):
    """Rows (B, T) of tokens, and the positions in the flattened rows whose logits are wanted; None: all of them."""

    tokens: NDArray[np.uint16]
    positions: NDArray[np.int32] | None = None

    @property
    def wanted(self) -> int:
        """The number of positions."""
        return int(self.tokens.size if self.positions is None else self.positions.size)


class SharedMemory:
    """Memory of fixed size without a name, for logits; it is freed when the last process that has it ends."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("logits", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, 2 * HALF_BYTES)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        self.mapping = mmap.mmap(self.descriptor, 2 * HALF_BYTES, prot=mmap.PROT_READ)
        self.own = np.empty(BLOCK_BYTES // 4, dtype=np.float32)  # grows to one position of the largest vocabulary

    def read(self, offset: int, rows: int, columns: int, dtype: str) -> Logits:
        """(rows, columns) from `offset` on, as float32; valid until the next call.

        Each number is read once, into memory that the model's process does not have: it may change its own meanwhile.
        """
        count = rows * columns
        if self.own.size < count:
            self.own = np.empty(count, dtype=np.float32)
        kind = {"float32": np.float32, "float16": np.float16}.get(dtype, np.uint16)
        shared: NDArray[Any] = np.frombuffer(self.mapping, dtype=kind, count=count, offset=offset)
        if kind is np.uint16:  # bfloat16 is the upper half of a float32
            np.left_shift(shared, 16, out=self.own.view(np.uint32)[:count], dtype=np.uint32)
        else:
            self.own[:count] = shared
        return self.own[:count].reshape(rows, columns)

    def close(self) -> None:
        self.mapping.close()
        os.close(self.descriptor)


class ModelProcess(contextlib.AbstractContextManager["ModelProcess"]):
    """The model under test in its own process. Leaving the context ends the process and its descendants."""

    running: ClassVar[set[int]] = set()  # pids of all models that are not closed yet

    def __init__(
        self, sandbox: list[str], order: dict[str, Any], vocab: int, trained: float, template: Template | None = None
    ) -> None:
        """`sandbox` is put in front of the command; `trained` is the number of seconds the run trained for. With a
        `template` the process is forked from it, in the same sandbox.
        """
        self.vocab, self.trained = vocab, trained
        self.order, self.sandboxed = order, bool(sandbox)
        self.limit = float("inf")  # seconds for waiting, from `since` on, and as many for the scorer's own work
        self.since, self.waited = time.monotonic(), 0.0
        self.answers = 0
        self.startup_cpu = self.imported_cpu = self.loaded_cpu = 0.0  # processor seconds used up to these points
        self.own = set[int]()  # processes: of the sandbox and the model
        self.effort = 0.0  # processor time as a share of what is allowed, before the first answer or after it
        env = {name: os.environ[name] for name in PASSED_ENVIRONMENT if name in os.environ}
        self.scratch = tempfile.mkdtemp(prefix=f"autoresearch-scored-{os.urandom(16).hex()}-")  # nobody knows it
        env |= {"OMP_WAIT_POLICY": "PASSIVE", "AUTORESEARCH_DEVICE": order["device"]}
        env |= {"AUTORESEARCH_SCRATCH": self.scratch}
        limit = process_limits.memory_limit(order["device"])
        self.group = process_limits.ModelGroup.make(limit)
        self.template = template
        self.memory = SharedMemory()
        self.half = 0  # of the memory, that is filled next
        self.calls: CallSupervisor | None = None  # where its calls are answered here
        self.own_folders: list[str] = []  # by the names that it has for them
        self.own_files: set[str] = set()  # that it had mapped before the code under test was loaded
        # Requests travel on a socket because only a socket passes the memory's descriptor through any sandbox.
        self.link, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = self._start(sandbox, env, theirs.fileno())
        except OSError as error:
            self.link.close()
            self.memory.close()
            shutil.rmtree(self.scratch, ignore_errors=True)
            raise ScorerError(f"cannot start the model's process: {error}") from error
        self.keepers = self.process.keepers if isinstance(self.process, ForkedProcess) else set[int]()
        ModelProcess.running.add(self.process.pid)
        with contextlib.suppress(BrokenPipeError):  # load() says how the process ended
            socket.send_fds(self.link, [b"m"], [self.memory.descriptor])
        self.violation = ""  # the limit that was exceeded, as a sentence
        self.monitor = process_limits.ProcessMonitor(
            self.process.pid, self._kill, limit, self.group, self.scratch, self.keepers
        )
        assert self.process.stdout and self.process.stderr
        self.stdout, self.stderr = self.process.stdout, self.process.stderr
        self.printed: deque[str] = deque(maxlen=MAX_PRINTED_LINES)
        self.reader = threading.Thread(target=self._drain, daemon=True)
        self.reader.start()

    def _start(self, sandbox: list[str], env: dict[str, str], requests: int) -> subprocess.Popen[bytes] | ForkedProcess:
        """The process, in the sandbox and its group; forked where that is possible. Raises OSError."""
        code = Path(model_host.__file__).read_text(encoding="utf-8")
        if self.template is not None and not self.template.lost:
            try:
                return self.template.start(code, env, self.group.folder if self.group else None, requests)
            except TemplateLost as lost:
                print(f"the model's process is started, not forked from the template: {clean(str(lost))}")
        command = [*sandbox, sys.executable, "-P", "-B", "-c", code]
        return subprocess.Popen(
            self.group.enter(command) if self.group else command, cwd=self.order["worktree"], env=env,
            start_new_session=True, stdin=requests, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and its descendants; none of them runs when this returns. Idempotent."""
        if self.process.pid not in ModelProcess.running:
            return
        ModelProcess.running.discard(self.process.pid)
        self.monitor.stopped.set()
        if isinstance(self.process, ForkedProcess):
            self.process.close()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        if self.group:
            self.group.kill()
        process_limits.kill_tree(self.process.pid, ModelProcess.running)
        self.process.wait()
        if self.group:
            self.group.remove()
        if self.calls:
            self.calls.close()
        self.link.close()
        self.memory.close()
        self.reader.join(2)
        shutil.rmtree(self.scratch, ignore_errors=True)
        for line in self.printed:
            print(f"{CODE_PREFIX}{line}")

    def _kill(self, violation: str) -> None:
        self.violation = violation
        pids = self.monitor.pids()
        if self.group:
            self.group.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in (*pids, *self.monitor.pids()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def prime(self, startup: float) -> str:
        """Start the device; returns its description. Raises ScorerError when the process or the device does not start.

        `startup` limits the seconds until the model is loaded.
        """
        self._allow(startup)
        try:
            hello = self._header()
        except Rejected as error:
            printed = " / ".join(list(self.printed)[-3:])
            raise ScorerError(f"the model's process did not start: {error}; {printed}") from error
        if hello.get("type") != "hello":
            raise ScorerError(f"the model's process sent {hello} where `hello` was expected")
        self.startup_cpu = self.monitor.cpu_seconds()
        if isinstance(self.process, ForkedProcess):  # what was taken before it was forked
            self.startup_cpu = self.process.imports
        self._ask(self.order | self._filters(int(hello.get("number", 0))))
        primed = self._expect("primed")
        if trouble := clean(str(primed.get("trouble", ""))):  # told before the code under test is loaded
            raise ScorerError(f"the GPU cannot be used for scoring: {trouble}", NO_GPU)
        if (calls := primed.get("calls")) == "asked":
            self.calls = CallSupervisor(socket.recv_fds(self.link, 1, 1)[1][0], self._own_pids)
            self.own_folders = [self.order[name] for name in ("worktree", "run") if name in self.order]
            self.own_folders.append(str(primed.get("scratch")))
        elif calls:
            refused = ", and start nothing" if self.sandboxed else ""
            print(f"the model can open files while it is scored{refused}: {clean(str(calls))}")
        self.link.shutdown(socket.SHUT_RD)  # nothing can be left in it, descriptors neither
        self.own_files = set(HeldFiles(self.monitor.pids()).sizes)
        self.imported_cpu = self.monitor.cpu_seconds()
        self.own = set(self.monitor.pids())  # none of the code under test yet
        return clean(str(primed.get("machine", "")))

    def _own_pids(self) -> list[int]:
        """Its processes that the code under test may signal."""
        return [pid for pid in self.monitor.pids() if pid not in self.keepers]

    def _filters(self, number: int) -> dict[str, Any]:
        """What the process sets, by its own number. On a card, libraries open files and start processes at any time."""
        machine = os.uname().machine
        if self.order["device"] != "cpu":
            return {"filters": []}
        programs = [asking_program(machine, number), refusing_program(machine, number, asked=True)]
        programs.append(refusing_program(machine, number, asked=False) if self.sandboxed else b"")
        return {"filters": [program.hex() for program in programs], "install": SECCOMP.get(machine, 0)}

    def load(self, startup: float, limit: float) -> str:
        """Rebuild the model; returns the hash of its parameters.

        `startup` limits the seconds until the model is loaded, `limit` those of all answers after it. Raises
        ScorerError when the process does not start, Rejected when the model cannot be rebuilt.
        """
        if not self.imported_cpu:
            self.prime(startup)
        self._allow(startup)
        self._ask({"type": "load"})
        digest = str(self._expect("ready").get("hash"))
        self._allow(limit)
        return digest

    def isolate(self) -> None:
        """From here on the model is alone, starts nothing and looks no path up, and what it holds is in memory: it can
        be shown rows, and leaves nothing of them in what the kernel keeps. Raises Rejected when it holds too much,
        Unsettled when it does not rest.
        """
        if self.order["device"] != "cpu":  # a card's libraries are gigabytes
            return
        if self.calls:
            self.calls.refuse()
            self.monitor.keep_alone(self.own)
            if not self.calls.settle(self._threads(), self.own_folders):
                raise Unsettled("the model's threads did not rest before it was scored")
        files, most = HeldFiles(self.monitor.pids()), process_limits.memory_limit("cpu") // 2
        if sum(size for path, size in files.sizes.items() if path not in self.own_files) > most:
            raise Rejected(f"the model has files of more than {most >> 20} MB open or mapped")
        files.read(2 * most)
        self.monitor.limit_reads(process_limits.MAX_PAGES_READ["refused" if self.calls else "open"])

    def _threads(self) -> list[str]:
        return [folder for pid in self.monitor.pids() for folder in process_limits.threads_of(pid)]

    def hash(self) -> str:
        """The current hash of the parameters."""
        self._ask({"type": "hash"})
        return str(self._expect("hash").get("hash"))

    def check_effort(self) -> None:
        """Raises Rejected when the answers used more processor time than allowed: learning ends with the clock."""
        if self.monitor.violation(self.monitor.pids()) == process_limits.READS:
            raise Unsettled(process_limits.READS)
        more = self.answers - 1
        least = MIN_ANSWER_SECONDS[self.order["device"]]
        allowed = more * max(MAX_ANSWER_OF_RUN * self.trained, MAX_ANSWER_OF_STARTUP * self.startup_cpu, least)
        self._within(self.monitor.cpu_seconds() - self.loaded_cpu, allowed, f"for {more} answers")

    def _within(self, used: float, allowed: float, what: str) -> None:
        self.effort = max(self.effort, used / max(allowed, 1e-9))
        if used > allowed:
            print(f"effort: {used:.2f} of {allowed:.2f} processor seconds {what}")
            raise Rejected(
                f"the model computed for more than the {allowed:.1f} processor seconds that are allowed {what}: "
                "what is learned is learned on the run's clock"
            )

    def stream(self, requests: Sequence[LogitRequest]) -> Iterator[tuple[int, slice, Logits]]:
        """(index of the request, range of its positions, their logits (n, V)) in order, in small blocks.

        The logits are valid until the next block. The process computes the next answer while the last part of one is
        read. Raises Rejected when an answer is misshapen or not finite.
        """
        share = HALF_BYTES // (4 * self.vocab)  # positions that are handed over at a time
        step = max(1, BLOCK_BYTES // (4 * self.vocab))
        self._ask_tokens(requests[0], share)
        for index, request in enumerate(requests):
            dtype = self._expect_logits(request)
            for start in range(0, request.wanted, share):
                stop, half = min(start + share, request.wanted), self.half
                self.half = HALF_BYTES - half
                if stop < request.wanted:
                    self._ask({"type": "more", "part": [stop, stop + share], "at": self.half})
                elif index + 1 < len(requests):
                    self._ask_tokens(requests[index + 1], share)
                for first in range(start, stop, step):
                    rows = min(step, stop - first)
                    offset = half + (first - start) * self.vocab * ITEM_BYTES[dtype]
                    block = self.memory.read(offset, rows, self.vocab, dtype)
                    if not (np.isfinite(block.max()) and np.isfinite(block.min())):
                        raise Rejected("the model returned logits that are not finite")
                    yield index, slice(first, first + rows), block
                if stop < request.wanted:
                    self._expect("more")

    def logits(self, *requests: LogitRequest) -> Iterator[Logits]:
        """(positions, V) of each request, in memory of their own."""
        found = np.empty((0, 0), dtype=np.float32)
        for index, where, block in self.stream(requests):
            if where.start == 0:
                found = np.empty((requests[index].wanted, self.vocab), dtype=np.float32)
            found[where] = block
            if where.stop == len(found):
                yield found

    def _ask_tokens(self, request: LogitRequest, share: int) -> None:
        tokens, positions = request
        header = {"type": "tokens", "shape": list(tokens.shape), "vocab": self.vocab, "part": [0, share]}
        chosen = b"" if positions is None else np.ascontiguousarray(positions, dtype="<i4").tobytes()
        self._ask(header | {"at": self.half}, np.ascontiguousarray(tokens, dtype="<u2").tobytes() + chosen)

    def _expect_logits(self, request: LogitRequest) -> str:
        """Check the header of an answer; returns the type of its logits."""
        header = self._expect("tokens")
        wanted, dtype = [*request.tokens.shape, self.vocab], str(header.get("dtype"))
        if header.get("shape") != wanted or dtype not in ITEM_BYTES:
            print(f"{CODE_PREFIX}logits of shape {clean(str(header.get('shape')))[:60]}, {clean(dtype)[:20]}")
            raise Rejected(f"the model returned logits of another shape than {wanted}, {difference(header, wanted)}")
        self.answers += 1
        if self.answers == 1:
            self.loaded_cpu = self.monitor.cpu_seconds()
            least = MIN_LOADING_SECONDS[self.order["device"]]
            allowed = max(MAX_LOADING_OF_RUN * self.trained, MAX_LOADING_OF_STARTUP * self.startup_cpu, least)
            self._within(self.loaded_cpu - self.imported_cpu, allowed, "before its first answer")
        return dtype

    @property
    def refused(self) -> bool:
        """Whether a call was refused after the model was shown rows."""
        return self.calls is not None and self.calls.refused

    # --- the pipe: no byte of it is trusted ---

    def _ask(self, header: dict[str, Any], payload: bytes = b"") -> None:
        try:
            with self._waiting() as left:
                self.link.settimeout(left)
                self.link.sendall(model_host.packed(header, payload))
        except TimeoutError as error:
            raise self._late() from error
        except OSError as error:
            raise self._ended() from error

    def _expect(self, kind: str) -> dict[str, Any]:
        header = self._header()
        if header.get("type") == "error":
            error = self._error(header)
            if header.get("device") is True and self.order["device"] == "cuda":
                raise ScorerError(f"the GPU failed while the model was scored: {error}", NO_GPU)
            raise Rejected(f"the model cannot be rebuilt or run: {error}")
        if header.get("type") != kind or not isinstance(header.get("hash", ""), str):
            print(f"{CODE_PREFIX}answered {clean(str(header))[:200]}")
            raise Rejected(f"the model's process answered something else where {kind} was expected")
        return header

    def _error(self, header: dict[str, Any]) -> str:
        """A type and a line, whatever the process says: its words are in the scorer's output, for a person."""
        kind, line = header.get("kind"), header.get("line")
        said = kind if isinstance(kind, str) and kind in ERROR_KINDS else "an exception of its own"
        lines = 0
        with contextlib.suppress(OSError):
            lines = min(MAX_LINE, Path(self.order["worktree"], "nanotrain", "train.py").read_bytes().count(b"\n"))
        if type(line) is int and 0 < line <= lines:
            said += f" at line {line} of nanotrain/train.py"
        late = ", after a call that is refused once it is shown rows" if self.refused else ""
        return f"{said}{late} (its words are in score.log)"

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
        """Exactly `size` bytes. Raises Rejected when the process is too slow or has ended."""
        data, descriptor = bytearray(size), self.stdout.fileno()
        view, got = memoryview(data), 0
        while got < size:
            with self._waiting() as left:
                came = select.select([descriptor], [], [], left)[0]
            if not came:
                raise self._late()
            count = os.readv(descriptor, [view[got:]])
            if count == 0:
                raise self._ended()
            got += count
        return data

    def _allow(self, seconds: float) -> None:
        self.limit, self.since, self.waited = seconds, time.monotonic(), 0.0

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[float]:
        """Count the time of the block as the model's; yields the seconds left to it.

        Raises ScorerError when the scorer's own work, all other time, took too long: that is no fault of the model.
        """
        begun = time.monotonic()
        own = begun - self.since - self.waited
        if own > self.limit:
            what = f"scoring took too long: {own:.0f} s of the scorer's own work, {self.waited:.0f} s of the model's"
            raise ScorerError(what, BUSY)
        try:
            yield max(0.01, min(self.limit - self.waited, MAX_WAIT_SECONDS))
        finally:
            self.waited += time.monotonic() - begun

    def _late(self) -> Rejected:
        return Rejected(
            f"scoring took too long: the model did not answer within the time limit ({self.limit:.0f} s, the scorer's "
            "own work not counted)"
        )

    def _ended(self) -> Rejected:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        if violation := self.violation or self.monitor.violation(()):
            return Unsettled(violation) if violation == process_limits.READS else Rejected(violation)
        if isinstance(self.process, ForkedProcess) and self.template is not None and self.template.has_ended():
            raise TemplateLost("the template has ended")
        code = self.process.poll()
        print(f"model process: ended with {code}")
        how = "exit code 0" if code == 0 else "another exit code than 0"
        if code is not None and (code < 0 or code - 128 in SIGNALS):  # a sandbox adds 128
            number = -code if code < 0 else code - 128
            how = f"signal {number}" if number in SIGNALS else "a signal"
        return Rejected(f"the model's process ended by itself ({how})")

    def _drain(self) -> None:
        """Keep the last lines that the code under test prints, cleaned and cut; it never blocks on stderr."""
        while line := self.stderr.readline(65_536):
            self.printed.append(clean(line.decode("utf-8", "replace"))[:MAX_PRINTED_CHARACTERS])


def difference(header: dict[str, Any], wanted: list[int]) -> str:
    """In which way an answer is not [rows, positions, vocabulary] numbers of a known type: no number that it chose."""
    shape = header.get("shape")
    if shape == wanted:
        return "or of another type than it said"
    if not isinstance(shape, list) or len(shape) != len(wanted):
        return "with more or fewer dimensions"
    names = ("rows", "positions", "vocabulary")
    wrong = [name for name, one, other in zip(names, shape, wanted, strict=True) if one != other]
    return f"different in its {' and '.join(wrong)}"


def clean(text: str) -> str:
    """`text` without control characters, so that output of the code under test cannot control a terminal."""
    return "".join(c if c.isprintable() else " " for c in text).strip()
