"""The process in which the scorer runs the code under test: it receives inputs and answers with raw logits.

The scorer starts it as `python -P -B -c <this file's text>` in the sandbox, so it needs no file of the pristine
checkout. The code under test controls this process once it is loaded, so the scorer trusts no answer.
A message, in both directions: 4 bytes length, JSON header, then `header["bytes"]` raw bytes. Requests arrive on a
socket, whose first byte comes with the descriptor of the memory in which the logits are handed over.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import hashlib
import importlib
import io
import json
import mmap
import os
import shutil
import socket
import struct
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO

MAX_HEADER_BYTES = 65_536
MAX_ENTRIES, MAX_COPIED_BYTES = 2000, 1 << 20  # of the copy of a worktree
DTYPES = ("bfloat16", "float16", "float32")  # in which logits are handed over as they are; others become float32


def packed(header: dict[str, Any], payload: bytes = b"") -> bytes:
    """One message."""
    body = json.dumps(header | {"bytes": len(payload)}).encode()
    return struct.pack(">I", len(body)) + body + payload


def send(stream: BinaryIO, header: dict[str, Any]) -> None:
    """Write one message without raw bytes."""
    stream.write(packed(header))
    stream.flush()


def receive(stream: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """Read one message of the scorer. Raises EOFError when the scorer has closed the pipe."""
    head = stream.read(4)
    if len(head) < 4:
        raise EOFError("the scorer has closed the pipe")
    header = json.loads(stream.read(struct.unpack(">I", head)[0]))
    return header, stream.read(header["bytes"])


class ModelHost:
    """The model under test, rebuilt from a run's folder, and its answers to the scorer's requests."""

    def __init__(self, order: dict[str, Any], memory: mmap.mmap) -> None:
        import torch

        os.chdir(order["work"])
        self.torch = torch
        self.memory = torch.frombuffer(memory, dtype=torch.uint8)
        self.answer: Any = None  # logits (positions, V) of the last request, where they were made
        self.device = torch.device(order["device"])
        torch.manual_seed(order["seed"])
        if self.device.type == "cpu":
            torch.set_num_threads(1)
        sys.path.insert(0, order["work"])
        sys.argv = ["nanotrain.train"]
        run_eagerly()
        module = importlib.import_module("nanotrain.train")
        if not str(module.__file__).startswith(order["work"]):
            raise ImportError(f"nanotrain.train came from {module.__file__}, not from the worktree")
        if "run" in order:  # else pristine code, with random weights
            from safetensors.torch import load_file

            run = Path(order["run"])
            self.model = module.build_model(json.loads((run / "model.json").read_text()))
            self.model.load_state_dict(load_file(run / "weights.safetensors"), strict=True)
        else:
            self.model = module.build_model(order["config"])
            for value in self.model.parameters():
                if value.ndim >= 2:
                    torch.nn.init.normal_(value, std=value.shape[-1] ** -0.5)
        self.model.to(self.device).eval()
        run_eagerly()
        self.use_bfloat16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)

    def fingerprint(self) -> str:
        """sha256 of the state dict, so that a change is detected. Buffers that are not saved do not count."""
        digest = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + str(tuple(value.shape)).encode())
            digest.update(value.detach().cpu().reshape(-1).view(self.torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def compute(self, header: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """uint16 tokens of header["shape"], int32 positions in the flattened rows -> shape and type of the logits.

        Only the logits at the positions are handed over, those of all without any.
        """
        torch, self.answer = self.torch, None
        size = 2 * header["shape"][0] * header["shape"][1]
        tokens = torch.frombuffer(bytearray(payload[:size]), dtype=torch.uint16).to(torch.int64)
        with torch.inference_mode(), torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.use_bfloat16):
            result = self.model(tokens.view(header["shape"]).to(self.device))
            if str(getattr(result, "dtype", ""))[6:] not in DTYPES:
                result = result.float()
            shape = list(result.shape)
            if shape == [*header["shape"], header["vocab"]]:
                self.answer = result.flatten(0, 1)
                if len(payload) > size:
                    chosen = torch.frombuffer(bytearray(payload[size:]), dtype=torch.int32)
                    self.answer = self.answer[chosen.to(self.device)]
        return {"shape": shape, "dtype": str(result.dtype)[6:]}

    def copy(self, header: dict[str, Any]) -> None:
        """Write the logits of header["part"], two ends of a range of positions, into the memory at header["at"]."""
        start, stop = header["part"]
        if self.answer is not None:
            with self.torch.inference_mode():
                part = self.answer[start:stop]
                place = self.memory[header["at"] :][: part.numel() * part.element_size()]
                place.view(part.dtype).view(part.shape).copy_(part)


def run_eagerly() -> None:
    """Have torch.compile change nothing: compiling would take longer than the few batches of one scoring."""
    if "torch._dynamo" in sys.modules:
        import torch

        torch.compiler.set_stance("force_eager")


def work_folder(worktree: str) -> str:
    """A copy of the worktree in a folder of the process's own, in which the code may write as it does in its run.

    Files outside the package are links, and so are folders with very many.
    """
    scratch = os.environ.get("AUTORESEARCH_SCRATCH", "")
    if not os.access(scratch, os.W_OK):  # a sandbox with a /tmp of its own, where that path does not exist
        scratch = "/tmp"
    else:
        read_instead(scratch)
    os.environ.update(TMPDIR=scratch, HOME=scratch)
    work = Path(scratch, Path(worktree).name)
    work.mkdir()
    room = MAX_ENTRIES
    for entry in sorted(os.scandir(worktree), key=lambda entry: entry.name != "nanotrain"):
        room -= mirror(entry, str(work / entry.name), room, copy=entry.name == "nanotrain")
    return str(work)


def mirror(entry: os.DirEntry[str], place: str, room: int, *, copy: bool) -> int:
    """Make `place` stand for `entry`: a folder of its own with links to the files, or with `copy` copies of them.

    A link instead of a folder where more than `room` entries would be made. Returns their number.
    """
    if not entry.is_dir(follow_symlinks=False) or entry.name == ".git":
        if copy and entry.is_file(follow_symlinks=False) and entry.stat().st_size <= MAX_COPIED_BYTES:
            shutil.copyfile(entry.path, place)
        else:
            os.symlink(entry.path, place)  # noqa: PTH211 - as fast as can be
        return 0
    inside = list(os.scandir(entry.path))
    if len(inside) > room:
        os.symlink(entry.path, place)  # noqa: PTH211
        return 0
    os.mkdir(place)  # noqa: PTH102
    made = len(inside)
    for one in inside:
        made += mirror(one, f"{place}/{one.name}", room - made, copy=copy)
    return made


def read_instead(scratch: str) -> None:
    """Have Python open files of /proc that the sandbox refuses as those that it has put below `scratch`."""
    real, folder = io.open, Path(scratch, "proc")
    known = {f"/{path.relative_to(scratch)}": str(path) for path in folder.rglob("*") if path.is_file()}

    def opened(file: Any, *args: Any, **more: Any) -> Any:
        return real(known.get(os.fspath(file), file) if isinstance(file, str | os.PathLike) else file, *args, **more)

    if known:
        builtins.open = io.open = opened
        os.getloadavg = lambda: (0.0, 0.0, 0.0)


def keep_freed_memory() -> None:
    """Make glibc reuse the memory of earlier logits: mapping it anew takes as long as computing them does."""
    with contextlib.suppress(OSError, AttributeError):  # another C library: slower, but correct
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


def start_cuda() -> dict[str, str]:
    """Start CUDA: the card and torch as `machine`, or the driver's words as `trouble`.

    What it takes does not count as time of the code under test.
    """
    import torch

    try:
        torch.ones(1, device="cuda")
        return {"machine": f"{torch.cuda.get_device_name()}, torch {torch.__version__}"}
    except Exception as error:  # RuntimeError, AssertionError: by the build of torch
        return {"trouble": " ".join(str(error).split())[:500] or type(error).__name__}


def is_device_fault(error: BaseException) -> bool:
    """Whether the device is to blame: its memory is full, or it is in an error state."""
    import torch

    kinds = (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError))
    return isinstance(error, kinds) or (isinstance(error, RuntimeError) and "CUDA error" in str(error))


def line_in(error: BaseException, path: str) -> int:
    """The last line of the file at `path` that the error passed through; 0 without one."""
    found, step = 0, error.__traceback__
    while step is not None:
        found = step.tb_lineno if step.tb_frame.f_code.co_filename == path else found
        step = step.tb_next
    return found


def set_filter(program: bytes, call: int, flags: int) -> int:
    """Set a filter on system calls, in all threads. Returns its listener, where the flags ask for one. Raises OSError.

    `call`: the number of the one that sets it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, which a sandbox has set
    code = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    found = libc.syscall(ctypes.c_long(call), ctypes.c_long(1), ctypes.c_long(flags), header)
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(found)


def ask_about_calls(channel: socket.socket, filters: list[bytes], call: int) -> str:
    """Have the scorer asked at each call that the first filter names, and set the second. Returns "asked", and has sent
    the listener, or why that is not possible: then the third is set, if there is one. The code under test, loaded
    later, cannot undo it.
    """
    asking, asked, unasked = filters
    if not asking:
        return "the system calls of this machine are not known"
    try:
        listener = set_filter(asking, call, 1 | 8 | 16)  # in all threads, a listener, an error where one cannot have it
    except OSError as error:
        if unasked:
            set_filter(unasked, call, 1)
        return str(error.strerror)
    socket.send_fds(channel, [b"l"], [listener])
    os.close(listener)
    set_filter(asked, call, 1)
    return "asked"


def serve(channel: socket.socket, requests: BinaryIO, answers: BinaryIO, memory: mmap.mmap) -> None:
    """Answer the scorer's requests until it closes the socket."""
    send(answers, {"type": "hello", "number": os.getpid()})
    order, _ = receive(requests)
    order["work"] = work_folder(order["worktree"])
    device = start_cuda() if order["device"] == "cuda" else {}
    for name in order["imports"]:  # libraries the code will import: not counted as its processor time
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if order["filters"]:
        device["calls"] = ask_about_calls(channel, list(map(bytes.fromhex, order["filters"])), order["install"])
    send(answers, {"type": "primed", "scratch": str(Path(order["work"]).parent)} | device)
    receive(requests)
    host = ModelHost(order, memory)
    params = sum(p.numel() for p in host.model.parameters())
    send(answers, {"type": "ready", "params": params, "hash": host.fingerprint()})
    while True:
        header, payload = receive(requests)
        answer: dict[str, Any] = {"type": header["type"]}
        if header["type"] == "hash":
            answer["hash"] = host.fingerprint()
        elif header["type"] == "tokens":
            answer |= host.compute(header, payload)
        if "part" in header:
            host.copy(header)
        send(answers, answer)


def main() -> None:
    """Serve the scorer. Output of the code under test goes to stderr.

    Its folder becomes the working folder only when it is loaded: until then nothing is counted as its processor time.
    """
    os.chdir("/")
    channel, answers = socket.socket(fileno=os.dup(0)), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    keep_freed_memory()
    for name in ("torch", "safetensors.torch"):  # slow, and not the code under test: loaded early
        importlib.import_module(name)
    try:
        descriptor = socket.recv_fds(channel, 1, 1)[1][0]
        memory = mmap.mmap(descriptor, 0)
        os.close(descriptor)
        serve(channel, channel.makefile("rb"), answers, memory)
    except EOFError:
        return
    except BaseException as error:
        traceback.print_exc()  # the words of an error are for a person: only its type and line are told
        train = str(getattr(sys.modules.get("nanotrain.train"), "__file__", ""))
        told = {"kind": type(error).__name__, "line": line_in(error, train), "device": is_device_fault(error)}
        send(answers, {"type": "error"} | told)


if __name__ == "__main__":
    main()
