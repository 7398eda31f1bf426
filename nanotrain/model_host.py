"""The process in which the scorer runs the code under test: it receives inputs and answers with raw logits.

The scorer starts it as `python -P -B -c <this file's text>` in the sandbox, so it needs no file of the pristine
checkout. The code under test controls this process once it is loaded, so the scorer trusts no answer.
A message, in both directions: 4 bytes length, JSON header, then `header["bytes"]` raw bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import struct
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO

MAX_HEADER_BYTES = 65_536


def send(stream: BinaryIO, header: dict[str, Any], payload: bytes | memoryview = b"") -> None:
    """Write one message."""
    body = json.dumps(header | {"bytes": len(payload)}).encode()
    stream.write(struct.pack(">I", len(body)) + body)
    if len(payload):
        stream.write(payload)
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

    def __init__(self, order: dict[str, Any]) -> None:
        import torch

        self.torch = torch
        self.device = torch.device(order["device"])
        torch.manual_seed(order["seed"])
        if self.device.type == "cpu":
            torch.set_num_threads(1)
        sys.path.insert(0, order["worktree"])
        sys.argv = ["nanotrain.train"]
        module = importlib.import_module("nanotrain.train")
        if not str(module.__file__).startswith(order["worktree"]):
            raise ImportError(f"nanotrain.train came from {module.__file__}, not from the worktree")
        from safetensors.torch import load_file

        run = Path(order["run"])
        self.model = module.build_model(json.loads((run / "model.json").read_text()))
        self.model.load_state_dict(load_file(run / "weights.safetensors"), strict=True)
        self.model.to(self.device).eval()
        if "torch._dynamo" in sys.modules:  # compiling would take longer than the few batches of one scoring
            torch.compiler.set_stance("force_eager")
        self.use_bfloat16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported()

    def fingerprint(self) -> str:
        """sha256 of the state dict, so that a change is detected. Buffers that are not saved do not count."""
        digest = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + str(tuple(value.shape)).encode())
            digest.update(value.detach().cpu().reshape(-1).view(self.torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def logits(self, header: dict[str, Any], payload: bytes) -> tuple[list[int], memoryview]:
        """uint16 tokens of header["shape"] -> float32 logits, shape and bytes."""
        torch = self.torch
        numbers = torch.frombuffer(bytearray(payload), dtype=torch.uint16).to(torch.int64)
        tokens = numbers.view(header["shape"]).to(self.device)
        with torch.inference_mode(), torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.use_bfloat16):
            result = self.model(tokens)
        result = result.float().cpu().contiguous()
        return list(result.shape), memoryview(result.numpy()).cast("B")


def cuda_trouble() -> str:
    """Start CUDA; "" or the driver's words. What it takes does not count as time of the code under test."""
    import torch

    try:
        torch.ones(1, device="cuda")
    except Exception as error:  # RuntimeError, AssertionError: by the build of torch
        return " ".join(str(error).split())[:500] or type(error).__name__
    return ""


def is_device_fault(error: BaseException) -> bool:
    """Whether the device is to blame: its memory is full, or it is in an error state."""
    import torch

    kinds = (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError))
    return isinstance(error, kinds) or (isinstance(error, RuntimeError) and "CUDA error" in str(error))


def main() -> None:
    """Serve until the scorer closes the pipe. Output of the code under test goes to stderr."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    for name in ("torch", "safetensors.torch"):  # slow, and not the code under test: loaded early
        importlib.import_module(name)
    send(answers, {"type": "hello"})
    try:
        order, _ = receive(requests)
        for name in order["imports"]:  # packages the code will import: not counted as its processor time
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        send(answers, {"type": "primed", "trouble": cuda_trouble() if order["device"] == "cuda" else ""})
        receive(requests)
        host = ModelHost(order)
        params = sum(p.numel() for p in host.model.parameters())
        send(answers, {"type": "ready", "params": params, "hash": host.fingerprint()})
        while True:
            header, payload = receive(requests)
            if header["type"] == "hash":
                send(answers, {"type": "hash", "hash": host.fingerprint()})
            else:
                shape, raw = host.logits(header, payload)
                send(answers, {"type": "logits", "shape": shape}, raw)
    except EOFError:
        return
    except BaseException as error:
        traceback.print_exc()
        text = f"{type(error).__name__}: {error}"[:2000]
        send(answers, {"type": "error", "text": text, "device": is_device_fault(error)})


if __name__ == "__main__":
    main()
