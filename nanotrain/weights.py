"""Checks of a run's weights without running its code: complete, within the size limits, finite."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MAX_BYTES = {"cpu": 1 << 30, "cuda": 16 << 30}  # of weights.safetensors
MAX_HEADER_BYTES = 1 << 22  # of weights.safetensors
MAX_CONFIG_BYTES = 1 << 16  # of model.json
EXPONENT_BITS = {  # all set in NaN and infinity, by type: numpy type and mask
    "F64": ("<u8", 0x7FF << 52),
    "F32": ("<u4", 0xFF << 23),
    "F16": ("<u2", 0x1F << 10),
    "BF16": ("<u2", 0xFF << 7),
    "C64": ("<u4", 0xFF << 23),  # two F32
    "F8_E5M2": ("<u1", 0x1F << 2),
    "F8_E4M3": ("<u1", 0x7F),
}
ITEM_BYTES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E5M2": 1, "F8_E4M3": 1, "C64": 8, "BOOL": 1},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1},
}
MAX_DIMENSIONS = 64
CHUNK_ITEMS = 1 << 22  # numbers checked at a time
FILES = ("weights.safetensors", "model.json")  # everything that a run passes to the scorer
# Everything that reading a hostile header can raise.
MALFORMED_ERRORS = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError)


class Rejected(Exception):
    """The run or its model violates a rule; `str()` is the reason."""


def check(folder: Path, device: str) -> dict[str, Any]:
    """The content of model.json. Raises Rejected when a file is missing, malformed, oversized or not finite."""
    config = _config(_open(folder / "model.json", MAX_CONFIG_BYTES))
    path = folder / "weights.safetensors"
    with os.fdopen(_open(path, MAX_BYTES[device]), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 0 < length <= min(MAX_HEADER_BYTES, size):
            raise Rejected("weights.safetensors is not a safetensors file: its header is missing or too long")
        try:
            header = json.loads(file.read(length))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            end = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
        except MALFORMED_ERRORS as error:
            raise Rejected("weights.safetensors is not a safetensors file: its header does not parse") from error
        if not tensors:
            raise Rejected("weights.safetensors holds no weights")
        if 8 + length + end != size:
            raise Rejected(f"weights.safetensors is truncated: {size:,} bytes, {8 + length + end:,} expected")
        kinds = [_tensor(name, entry) for name, entry in tensors.items()]
        if sum(stop - start for _, start, stop in kinds) != end:
            raise Rejected("weights.safetensors is malformed: its entries do not lie side by side")
        for name, (kind, start, stop) in zip(tensors, kinds, strict=True):
            _finite(file.fileno(), name, kind, 8 + length + start, 8 + length + stop)
    return config


def remove_other_files(folder: Path, device: str) -> None:
    """Reduce the run's folder to the content of its two files, so that nothing else written after the clock remains.

    Other files are removed and the two are copied: attributes, times and holes of a file could hold weights, too.
    Raises Rejected when one of them is not a plain file or oversized.
    """
    if not folder.is_dir():
        return
    for name in os.listxattr(folder) if hasattr(os, "listxattr") else ():
        with contextlib.suppress(OSError):  # what cannot be removed, the run could not set
            os.removexattr(folder, name)
    folder.chmod(0o700 | folder.stat().st_mode & 0o777)
    try:
        for path in folder.iterdir():
            if path.name in FILES:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, onerror=_open_and_retry)
            else:
                path.unlink()
    except RecursionError:
        raise Rejected("the run left folders that are nested too deep to be read") from None
    for name in FILES:
        if os.path.lexists(folder / name):
            _rewrite(folder / name, MAX_BYTES[device])


def _rewrite(path: Path, limit: int) -> None:
    fresh = path.with_name(f"{path.name}.fresh")
    with os.fdopen(_open(path, limit), "rb") as old, fresh.open("xb") as new:
        shutil.copyfileobj(old, new, 1 << 20)
    fresh.replace(path)


def _open_and_retry(again: Callable[..., Any], path: str, _: object) -> None:
    """Give a folder back its permissions, then remove it."""
    Path(path).parent.chmod(0o700)
    if Path(path).is_dir():
        Path(path).chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)
    else:
        again(path)


def digest(folder: Path) -> str:
    """sha256 of the two files' contents, the weights first: what `done` must announce (docs/run-protocol.md)."""
    total = hashlib.sha256()
    for name in FILES:
        with os.fdopen(_open(folder / name, max(MAX_BYTES.values())), "rb") as file:
            while chunk := file.read(1 << 20):
                total.update(chunk)
    return total.hexdigest()


def check_announced(folder: Path, announced: str | None) -> None:
    """Raises Rejected unless the files have the sha256 that the run sent with `done`; None: run without a harness."""
    if announced == "":
        raise Rejected("the run did not announce its weights when the clock stopped (sha256 in `done`)")
    if announced is not None and digest(folder) != announced:
        raise Rejected("the weights were changed after the clock had stopped")


def _open(path: Path, limit: int) -> int:
    """A descriptor of a plain file of at most `limit` bytes; links are not followed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Rejected(f"the run left no {path.name}") from error
    except OSError as error:
        raise Rejected(f"{path.name} cannot be read: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise Rejected(f"{path.name} is not a plain file")
    if status.st_size > limit:
        os.close(descriptor)
        raise Rejected(f"{path.name} is oversized: {status.st_size:,} bytes, {limit:,} allowed")
    return descriptor


def _config(descriptor: int) -> dict[str, Any]:
    with os.fdopen(descriptor, "rb") as file:
        try:
            config = json.loads(file.read())
        except (ValueError, RecursionError) as error:
            raise Rejected("model.json does not parse") from error
    if not isinstance(config, dict):
        raise Rejected("model.json is not an object")
    return config


def _tensor(name: str, entry: dict[str, Any]) -> tuple[str, int, int]:
    """Type, first byte and end of an entry of the header. Raises Rejected when it is malformed."""
    try:
        kind, shape, (start, end) = entry["dtype"], [int(n) for n in entry["shape"]], map(int, entry["data_offsets"])
        size = ITEM_BYTES[kind]
    except MALFORMED_ERRORS as error:
        what = f"weights.safetensors: the entry of {_short(name)} is malformed or of an unknown type"
        raise Rejected(what) from error
    sane = len(shape) <= MAX_DIMENSIONS and all(0 <= n <= max(MAX_BYTES.values()) for n in shape)
    if start < 0 or not sane or end - start != size * math.prod(shape):
        said = f"{shape}"[:60] if sane else "said"
        raise Rejected(f"weights.safetensors: {_short(name)} does not have the bytes its shape {said} needs")
    return kind, start, end


def _short(name: str) -> str:
    return repr(name[:60])


def _finite(descriptor: int, name: str, kind: str, start: int, end: int) -> None:
    if kind not in EXPONENT_BITS:
        return
    number, mask = EXPONENT_BITS[kind]
    for offset in range(start, end, CHUNK_ITEMS * ITEM_BYTES[kind]):
        raw = os.pread(descriptor, min(CHUNK_ITEMS * ITEM_BYTES[kind], end - offset), offset)
        bits = np.frombuffer(raw, dtype=number)
        if bool(((bits & bits.dtype.type(mask)) == mask).any()):
            raise Rejected(f"the weights are not finite: {_short(name)} holds NaN or infinity")
