"""Engines forked from a process that has imported them: what an engine imports is a third of a short session's time.

    with warm_engines(folder) as variables:    # with them in its environment, start_engine starts a fork

A fork has the arguments, environment and open files of the process that asked for it, and a session of its own. The
tests of the command line start engines without it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_ABOVE = 512  # descriptors from here on are free in the server


@contextlib.contextmanager
def warm_engines(folder: Path) -> Iterator[dict[str, str]]:
    """A server that ends with the block, and with this process; yields the variables that lead to it."""
    address = folder / "warm"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen(64)
        server = subprocess.Popen(
            [sys.executable, "-P", __file__, str(listener.fileno())],
            pass_fds=[listener.fileno()], stdin=subprocess.PIPE, cwd="/",
        )  # fmt: skip
    with server:
        try:
            yield {"TESTS_WARM_ENGINE": str(address), "PYTHONPATH": str(Path(__file__).parent)}
        finally:
            server.kill()


def _next_engine(listener: socket.socket) -> list[str]:
    """Serve requests. Returns in each forked process, with the engine's arguments."""
    links: dict[int, tuple[int, socket.socket]] = {}  # descriptor of an engine's process -> its pid, and who asked
    while True:
        waiting: list[int | socket.socket] = [listener, 0, *links, *(link for _, link in links.values())]
        for ready in select.select(waiting, [], [])[0]:
            if ready == 0:
                os._exit(0)  # the process of the tests is gone
            elif ready is listener:
                link, _ = listener.accept()
                if (pid := os.fork()) == 0:
                    return _become(link)
                links[os.pidfd_open(pid)] = pid, link
            elif isinstance(ready, socket.socket):
                for pid, link in links.values():
                    if link is ready and _is_closed(link):
                        os.kill(pid, signal.SIGKILL)  # who asked for it is gone
            elif ready in links:
                pid, link = links.pop(ready)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(OSError):
                    link.send(bytes([code % 256]))
                link.close()
                os.close(ready)


def _is_closed(link: socket.socket) -> bool:
    """Whether the other end is. A request is left to the fork, which may not have read it yet."""
    try:
        return not link.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def _become(link: socket.socket) -> list[str]:
    """Take over what the process that asked has. Returns the arguments."""
    head, streams, _, _ = socket.recv_fds(link, 4, 250)
    data = b""
    while len(data) < int.from_bytes(head, "big"):
        data += link.recv(1 << 20)
    numbers, words, variables = data.decode(errors="surrogateescape").split("\0\0", 2)
    above = [fcntl.fcntl(stream, fcntl.F_DUPFD, _ABOVE) for stream in streams]
    os.closerange(0, _ABOVE)
    for number, stream in zip(numbers.split(","), above, strict=True):
        os.dup2(stream, int(number))
    os.closerange(_ABOVE, 2 * _ABOVE)
    os.setsid()
    os.environ.clear()
    os.environ.update({name: value for name, _, value in (pair.partition("=") for pair in variables.split("\0"))})
    for name in ("TESTS_WARM_ENGINE", "PYTHONPATH"):
        os.environ.pop(name, None)
    return words.split("\0")


def _serve(descriptor: int) -> int:
    import git  # noqa: F401

    import core.engine.daemon  # noqa: F401
    from core.engine.__main__ import main

    words = _next_engine(socket.socket(fileno=descriptor))
    sys.argv = ["core.engine", "serve", *words]
    return main(["serve", *words])


if __name__ == "__main__":
    sys.exit(_serve(int(sys.argv[1])))
