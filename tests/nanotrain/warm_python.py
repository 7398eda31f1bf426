"""Python processes with torch loaded: forked from one that imported it, so that each starts in milliseconds.

    with serving(folder) as prefix:                          # [*prefix, python, …, "-c", code] runs the code
    python tests/nanotrain/warm_python.py SOCKET … -c CODE   # the same from a shell

The process of the prefix passes its standard streams, folder and environment to the server, which forks; it ends with
the forked process's code, and the forked process ends with it. The scorer takes the prefix for its sandbox.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_REQUEST_BYTES = 1 << 20


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[list[str]]:
    """A server that ends with the block, and with this process; yields the prefix of a command."""
    address = folder / "warm"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(listener.fileno())],
            pass_fds=[listener.fileno()], stdin=subprocess.PIPE, cwd="/",
        )  # fmt: skip
    with server:
        try:
            yield [sys.executable, "-I", "-S", __file__, str(address)]
        finally:
            server.kill()


def _ask(address: str, command: list[str]) -> int:
    """Have the server run the code of a command, and return its exit code."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(address)
        request = {"code": command[command.index("-c") + 1], "folder": str(Path.cwd()), "env": dict(os.environ)}
        data = json.dumps(request).encode()
        socket.send_fds(link, [len(data).to_bytes(4, "big")], [0, 1, 2])
        link.sendall(data)
        for stream in (0, 1, 2):  # the other ends see the end of the forked process, not of this one
            os.close(stream)
        return int.from_bytes(link.recv(1), "big")


def _serve(descriptor: int) -> None:
    import numpy  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torch  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(fileno=descriptor)
    while 0 not in select.select([0, descriptor], [], [])[0]:  # it ends with the process of the tests
        link, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _attend(link)
        link.close()


def _attend(link: socket.socket) -> None:
    """Run one request in a child, which ends when its client ends; then end."""
    head, streams, _, _ = socket.recv_fds(link, 4, 3)
    data = b""
    while len(data) < int.from_bytes(head, "big"):
        data += link.recv(MAX_REQUEST_BYTES)
    child = os.fork()
    if child == 0:
        os._exit(_run(json.loads(data), streams))
    for stream in (0, 1, 2, *streams):
        os.close(stream)
    ended = os.pidfd_open(child)
    if link.fileno() in select.select([link.fileno(), ended], [], [])[0]:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        link.send(bytes([code % 256]))
    os._exit(0)


def _run(request: dict[str, Any], streams: list[int]) -> int:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 1024)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["-c"]
    try:
        exec(compile(request["code"], "<string>", "exec"), sys.modules["__main__"].__dict__)
    except SystemExit as done:
        if isinstance(done.code, str):
            print(done.code, file=sys.stderr)
        return done.code if isinstance(done.code, int) else done.code is not None
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        _serve(int(sys.argv[2]))
    else:
        sys.exit(_ask(sys.argv[1], sys.argv[2:]))
