"""One start of CUDA, as a program of its own, that prints what the driver said.

It loads the driver's library, initialises it, makes a context, and prints one line of JSON; where that fails, also the
calls of such a start that are refused to it.

Its text runs as `python -I -S -c TEXT` inside a sandbox, so it needs the standard library only.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH110, PTH118, PTH123, PTH207

from __future__ import annotations

import ctypes
import errno
import glob
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

LIBRARY = "libcuda.so.1"
# Where a driver's library lies that the loader does not find by itself: containers, WSL2, NixOS.
FOLDERS = ("/usr/local/nvidia/lib64", "/usr/lib/wsl/lib", "/run/opengl-driver/lib")
_HARMLESS = (errno.ENOENT, errno.ECONNREFUSED)  # nothing is there: not a refusal


def load() -> tuple[ctypes.CDLL | None, str]:
    """The driver's library and its path, or None and why it cannot be loaded."""
    why = ""
    for place in ("", *FOLDERS):
        name = os.path.join(place, LIBRARY)
        if place and not os.path.exists(name):
            continue
        try:
            return ctypes.CDLL(name, use_errno=True), _mapped() or name
        except OSError as error:
            why = why or str(error)
    return None, why


def _mapped() -> str:
    """The path of the loaded library; "" when it is not known."""
    try:
        with open("/proc/self/maps") as file:
            return next((line.split(maxsplit=5)[5].strip() for line in file if "/libcuda.so" in line), "")
    except OSError:
        return ""


def start() -> dict[str, Any]:
    """What the driver answers: `call`, the last one, with its `code`, `name`, `words` and the `errno` after it."""
    begun = time.monotonic()
    cuda, place = load()
    if cuda is None:
        return {"code": None, "words": place}
    count, version, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
    device = ctypes.c_int(0)  # the only one that the slot's variables leave
    found: dict[str, Any] = {"library": place}
    calls: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("cuDriverGetVersion", (ctypes.byref(version),)),
        ("cuInit", (0,)),
        ("cuDeviceGetCount", (ctypes.byref(count),)),
        ("cuDevicePrimaryCtxRetain", (ctypes.byref(context), device)),
        ("cuDevicePrimaryCtxRelease", (device,)),
    )
    for call, arguments in calls:
        ctypes.set_errno(0)
        function = getattr(cuda, call, None)
        code = int(function(*arguments)) if function else -1
        number = ctypes.get_errno()
        found |= {"call": call, "code": code, "driver": version.value, "devices": count.value}
        if code:
            found |= {"name": _text(cuda, "cuGetErrorName", code), "words": _text(cuda, "cuGetErrorString", code)}
            found |= {"errno": errno.errorcode.get(number, ""), "refused": refused()}
            break
    return {**found, "seconds": round(time.monotonic() - begun, 3)}


def _text(cuda: ctypes.CDLL, function: str, code: int) -> str:
    text = ctypes.c_char_p()
    try:
        getattr(cuda, function)(code, ctypes.byref(text))
    except AttributeError:
        return "" if code >= 0 else "the library has no such function"
    return (text.value or b"").decode(errors="replace")


def refused() -> list[str]:
    """The calls of a start that are refused to this process, each with the system's word."""
    found = []
    for what, attempt in _ATTEMPTS.items():
        try:
            attempt()
        except OSError as error:
            if error.errno not in _HARMLESS:
                found.append(f"{what}: {errno.errorcode.get(error.errno or 0, '')}".removesuffix(": "))
    return found


def _name_thread() -> None:
    for flags in (os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
        fd = os.open(f"/proc/self/task/{threading.get_native_id()}/comm", flags)
        try:
            os.write(fd, b"cuda-start")
        finally:
            os.close(fd)


def _listen() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as one:
        one.bind(f"\0cuda-start-{os.getpid()}")
        one.listen(1)


def _connect() -> None:
    """To the pipe of the multi-process service, which is usually not there: the answer must be just that."""
    folder = os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")
    for kind in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
        with socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC) as one:
            one.connect(f"{folder}/control")


def _open(pattern: str, flags: int = os.O_RDWR) -> Callable[[], None]:
    """Open one of the files of a pattern; nothing where there is none. Raises OSError when all are refused."""

    def attempt() -> None:
        refusal: OSError | None = None
        for path in glob.glob(pattern):
            try:
                os.close(os.open(path, flags | os.O_CLOEXEC))
            except OSError as error:
                refusal = error
            else:
                return
        if refusal:
            raise refusal

    return attempt


_ATTEMPTS: dict[str, Callable[[], object]] = {
    "write /proc/self/task/TID/comm": _name_thread,
    "listen on a local packet socket": _listen,
    "memfd_create": lambda: os.close(os.memfd_create("cuda-start")),
    "connect to the pipe of the multi-process service": _connect,
    "open /dev/nvidiactl": _open("/dev/nvidiactl"),
    "open /dev/nvidia-uvm": _open("/dev/nvidia-uvm"),
    "open the card's device file": _open("/dev/nvidia[0-9]*"),
    "open /dev/dxg": _open("/dev/dxg"),
    "read /proc/driver/nvidia/params": _open("/proc/driver/nvidia/params", os.O_RDONLY),
}


if __name__ == "__main__":
    print(json.dumps(start()), flush=True)
